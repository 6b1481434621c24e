"""How a node votes on a candidate model: no only on material harm to its own examples.

The node compares the candidate with the model that was accepted last, example by example. Its vote
is a one-sided paired t-test (Student 1908) of non-inferiority: the null hypothesis is that the
mean loss rises by no more than a margin,

    t = (mean(d) - margin) / (std(d) / sqrt(n)),    d = candidate losses - accepted losses,

and the node votes no if t is above the (1 - `LEVEL`) quantile of Student's distribution with n - 1
degrees of freedom. Nodes have few examples, so that power is what a single voter lacks; that it may
err in one of five votes on a candidate that is just at the margin is put right by the majority: of
15 such voters, 8 or more say no in 0.4 % of all votes.

The margin is there because a federation's model does move to and fro between the nodes' data: a
round trained without a node's classes is a little worse on them, which is no reason to stop. It
grows with the loss there is, and has a floor in terms of what an untrained model loses, so that a
loss close to zero may double. Losses are cut off at a few times these, lest one example that gets
worse or better beyond measure hides all others.

What the examples are decides what the vote means. With `Task.validation`, they were never trained
on, and the test is about new data. By default they are the node's training examples: the voter had
no part in the candidate's last step, but may have trained the accepted model on them, which makes
it a little harder for the candidate, and neither loss says how well the model does on new data.

A backdoor does no harm to honest examples, and no vote can see one; neither can it see a poison
that does less than the margin in each of many steps. Screening is for those.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from daafl.messages import Ballot

LEVEL: Final = 0.2
RELATIVE_MARGIN: Final = 0.25  # rise that is not material, as a share of the accepted loss
ABSOLUTE_MARGIN: Final = 0.03  # ... and besides, as a share of an untrained model's loss
LOSS_LIMIT: Final = 2.0  # a loss counts up to so many times the larger of those two losses

Losses = npt.NDArray[np.float64]


def ballot(candidate: Losses, accepted: Losses, untrained: Losses) -> Ballot:
    """Return a node's vote on a candidate.

    Parameters
    ----------
    candidate, accepted, untrained
        Loss of each of the node's examples under the candidate, the model accepted last, and a
        model that has not been trained. A candidate with a loss that is not finite does harm; to
        an accepted model with such a loss nothing else does. Shape ``[num_examples]``.

    Raises
    ------
    ValueError
        If there is no example, or their numbers differ.

    Examples
    --------
    >>> accepted, untrained = np.full(20, 0.5), np.full(20, 2.3)
    >>> ballot(accepted + 0.1, accepted, untrained).is_in_favour
    True
    >>> ballot(accepted * 2, accepted, untrained).is_in_favour
    False
    """
    if not len(candidate) == len(accepted) == len(untrained) > 0:
        raise ValueError(
            f"a ballot needs the losses of the same examples under three models, one example at "
            f"least, not {len(candidate)}, {len(accepted)} and {len(untrained)} losses"
        )
    return Ballot(
        is_in_favour=not _does_harm(candidate, accepted, untrained),
        loss=_mean(candidate),
        accepted_loss=_mean(accepted),
        num_examples=len(candidate),
    )


def _does_harm(candidate: Losses, accepted: Losses, untrained: Losses) -> bool:
    if not np.isfinite(candidate).all():
        return True
    if len(candidate) == 1 or not np.isfinite(accepted).all():
        return False  # one example shows nothing, and a broken model cannot be harmed
    finite = untrained[np.isfinite(untrained)]
    scale = float(np.abs(finite).mean()) if len(finite) else 0.0
    limit = LOSS_LIMIT * max(scale, float(np.median(np.abs(accepted)))) or math.inf
    before = np.minimum(accepted, limit)
    rise = np.minimum(candidate, limit) - before
    margin = RELATIVE_MARGIN * abs(float(before.mean())) + ABSOLUTE_MARGIN * scale
    excess = float(rise.mean()) - margin
    error = float(rise.std(ddof=1)) / math.sqrt(len(rise))
    return excess > error * float(stdtrit(len(rise) - 1, 1 - LEVEL))


def _mean(losses: Losses) -> float:
    mean = float(losses.mean())
    return mean if math.isfinite(mean) else math.inf
