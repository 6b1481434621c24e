"""What a step measured, as plain numbers for the loops.

`StepFacts` is everything the coordinator measures in a step. A loop's observation is a projection
of it by field name, so a new loop declares what it reads and nothing else changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError
from daafl.learning.layout import Vector
from daafl.learning.update import Update
from daafl.messages import TRAIN_LOSS

TRIMMED_SHARE: Final = 0.2  # of the reported losses, at each end


@dataclass(frozen=True)
class StepFacts:
    """What one step of one branch measured; ``None`` where it could not tell.

    Parameters
    ----------
    step, version
        Number of the step, and the model's version after it.
    lr
        Learning rate under which the step ran.
    loss
        Median of nodes' losses of the model they *received*, before training.
    trimmed_loss
        Mean of those losses without the highest and lowest fifth: less noisy, and slower to
        shrug off nodes that lie.
    first_loss
        First finite ``loss`` of the run.
    loss_version
        Oldest model version that ``loss`` is about.
    loss_mad
        Median absolute deviation of those losses, scaled to a standard deviation.
    evaluation_loss, accuracy
        Evaluation of the model after the step.
    cosine
        Between this step's mean update and the last one, in [-1, 1], taken from their sketches.
    update_norm, mean_client_norm
        Norm of the mean update, and mean norm of the single ones.
    pace
        Updates combined over assignments out, at most 1; small in buffered federations.
    num_updates, num_rejected, num_failures
        Updates combined, updates refused, messages that failed.
    num_examples
        Training examples behind the combined updates.
    staleness
        Largest number of versions that a combined update was behind.
    nonfinite_fraction
        Share of the replies that held NaN or infinity.
    round_seconds
        Duration of the step on the run's clock.
    restored
        Whether the branch returned to an older model just before this step.
    probe_rates, probe_log_losses
        Learning rates tried in a probe, and per rate the median log loss over nodes.
    num_nodes
        Members of the branch.
    bytes_up, bytes_down
        Payload bytes from and to nodes.
    num_screened, num_flagged
        Updates that screening looked at, and those it left out.
    flagged_nodes, suspects
        Senders of those left out now, and all nodes whose record speaks against them.
    num_known
        Nodes of which screening has a record.
    trusted_scores
        Scores of this step's updates whose senders were in good standing before, ascending; evenly
        spaced order statistics if there are many.
    num_trusted_flagged
        How many of those senders' updates were left out.
    num_groups
        Sums of groups that screening looked at in place of single updates; `num_screened`,
        `num_flagged` and `trusted_scores` are then of these sums.
    clip_bound, within_clip
        Longest update that nodes were told to send, 0 for any, and the share of those that sent
        one that was within it.
    member_norm
        About how long one node's update is, told from sums.
    vote_outcome, vote_share
        What a committee decided about the model, and the share in favour; empty and ``None`` if
        none was asked.
    troubled_nodes, troubles
        Nodes that were put into quarantine in this step, and the last fault of each in a word.
    num_quarantined
        Nodes that got no assignment because of it.
    """

    step: int = 0
    version: int = 0
    lr: float | None = None
    loss: float | None = None
    trimmed_loss: float | None = None
    first_loss: float | None = None
    loss_version: int | None = None
    loss_mad: float | None = None
    evaluation_loss: float | None = None
    accuracy: float | None = None
    cosine: float | None = None
    update_norm: float | None = None
    mean_client_norm: float | None = None
    pace: float = 1.0
    num_updates: int = 0
    num_rejected: int = 0
    num_failures: int = 0
    num_examples: float = 0.0
    staleness: int = 0
    nonfinite_fraction: float = 0.0
    round_seconds: float | None = None
    restored: bool = False
    probe_rates: tuple[float, ...] | None = None
    probe_log_losses: tuple[float, ...] | None = None
    num_nodes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    num_screened: int = 0
    num_flagged: int = 0
    flagged_nodes: tuple[int, ...] = ()
    suspects: tuple[int, ...] = ()
    num_known: int = 0
    trusted_scores: tuple[float, ...] = ()
    num_trusted_flagged: int = 0
    num_groups: int = 0
    clip_bound: float = 0.0
    within_clip: float | None = None
    member_norm: float | None = None
    vote_outcome: str = ""
    vote_share: float | None = None
    troubled_nodes: tuple[int, ...] = ()
    troubles: tuple[str, ...] = ()
    num_quarantined: int = 0


_FACTS: Final = frozenset(field.name for field in fields(StepFacts))


def observations(loops: Sequence[Loop], facts: StepFacts) -> dict[str, Any]:
    """Return each loop's observation of ``facts``, by the loop's name."""
    return {
        loop.policy.name: loop.policy.observation(
            **{field.name: getattr(facts, field.name) for field in fields(loop.policy.observation)}
        )
        for loop in loops
    }


def check_observable(loops: Sequence[Loop]) -> None:
    """Refuse loops that want to see what no step measures.

    Raises
    ------
    ConfigError
        Naming the loop, the field and what there is.
    """
    for loop in loops:
        for field in fields(loop.policy.observation):
            if field.name not in _FACTS:
                raise ConfigError(
                    f"loop {loop.policy.name} observes {field.name!r}, which no step measures; "
                    f"choose among {', '.join(sorted(_FACTS))}"
                )


@dataclass(frozen=True)
class LossReport:
    """Summary of the losses nodes report for the model they received."""

    loss: float | None
    trimmed: float | None
    mad: float | None
    version: int | None


def reported_losses(updates: Sequence[Update]) -> LossReport:
    """Return two robust centres, the spread and the version of the reported losses.

    A few nodes that lie, or that diverged, do not steer the coordinator. If half of the losses or
    more are infinite there is no finite centre, and both are ``None``.
    """
    losses = np.sort([u.metrics[TRAIN_LOSS] for u in updates if TRAIN_LOSS in u.metrics])
    if not len(losses):
        return LossReport(None, None, None, None)
    version = min(u.version for u in updates)
    known = losses[np.isfinite(losses)]
    if 2 * len(known) <= len(losses):
        return LossReport(None, None, None, version)
    cut = int(TRIMMED_SHARE * len(losses))
    kept = losses[cut : len(losses) - cut]
    with np.errstate(over="ignore", invalid="ignore"):  # a node may report anything
        numbers = (
            np.median(losses),
            kept[np.isfinite(kept)].mean(),
            1.4826 * np.median(np.abs(known - np.median(known))),
        )
    if not np.isfinite(numbers).all():
        return LossReport(None, None, None, version)
    median, trimmed, mad = map(float, numbers)
    return LossReport(median, trimmed, mad, version)


def cosine(first: Vector | None, second: Vector | None) -> float | None:
    """Return the cosine between two sketches; ``None`` if either is missing or has no length."""
    if first is None or second is None:
        return None
    one, other = first.astype(np.float64), second.astype(np.float64)
    norms = (norm(one) or 0.0) * (norm(other) or 0.0)
    if norms == 0.0 or not math.isfinite(norms):
        return None
    return float(np.clip(float(one @ other) / norms, -1.0, 1.0))


def norm(vector: Vector) -> float | None:
    """Return the Euclidean length; ``None`` if it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = math.sqrt(float(vector @ vector))
    return length if math.isfinite(length) else None
