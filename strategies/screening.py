"""Which updates of a step are combined: a score for each, a record for each node.

Score
    How far an update is from what is usual (`daafl.robust.suspicion`). The nodes in good standing
    say what that is. Beyond the threshold an update is left out, whatever its sender's record.
Record
    Running mean of a node's scores, so that a mild deviation counts when it comes back every time.
    Updates of nodes under suspicion are left out; they are scored all the same, so that a node
    returns when its record is good again (`daafl.strategies.reputation`).
Limits
    At most 45 % of the known nodes are under suspicion. Of the updates of the others at most 45 %
    are left out in a step, the worst ones. The length of those kept is clipped to a multiple of
    their median, and their weight to twice the step's median, since a node may lie about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.learning.layout import Layout, Vector
from daafl.robust.sketch import Sketch, Sketcher
from daafl.robust.suspicion import (
    ENOUGH_OTHERS,
    MAX_SCORE,
    SIGNALS,
    Directions,
    Mask,
    Numbers,
    Suspicion,
    suspicion,
)
from daafl.strategies.reputation import MOST_LEFT_OUT, NUM_TRACES, Record, Standing, Trace

WEIGHT_CAP: Final = 2.0  # examples a node may claim, in medians of the step
MAX_TRUSTED_SCORES: Final = 64
NO_LENGTH: Final = 1e-30  # a norm below has no direction in single precision

NO_SKETCH: Final[Sketch] = np.empty(0, np.float32)
_SKETCH_STREAM: Final = 3  # keeps the sketch's signs apart from other seeded draws of the run


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept of an update for its verdict.

    Parameters
    ----------
    sketch
        Of the part of the delta that gradients move; empty if nobody looks at it.
    norm
        Exact Euclidean length of that part; infinite if it is beyond its number type.
    """

    sketch: Sketch
    norm: float


class Examiner:
    """Takes down the evidence of updates.

    Parameters
    ----------
    layout
        Of the model.
    seed
        Of the run.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        self._layout = layout
        num_trained = sum(entry.size for entry in layout.entries if entry.is_trained)
        sketch_seed = int(np.random.SeedSequence([seed, _SKETCH_STREAM]).generate_state(1)[0])
        self._sketcher = Sketcher(num_trained, seed=sketch_seed)

    def evidence(self, delta: Vector, *, is_screened: bool = True) -> Evidence:
        """Return the evidence of an update, in one pass over it; what is needed of it."""
        if not is_screened:
            return Evidence(NO_SKETCH, self._sketcher.norm(self._layout.trained(delta)))
        return Evidence(*self._sketcher.sketch_and_norm(self._layout.trained(delta)))


@dataclass(frozen=True)
class Verdict:
    """What becomes of an update.

    Parameters
    ----------
    node
        Its sender.
    score
        How far it is from what is usual, in robust standard deviations.
    signal
        What speaks most against it: ``length``, ``direction`` or ``copy``, or ``record`` if it is
        the node's past.
    is_kept, is_suspect
        Whether it is combined, and whether its sender is under suspicion from now on.
    damping
        Factor on the delta that clips its length; 1 for none.
    num_examples
        Its weight, capped.
    sentence
        Why, with the numbers.
    """

    node: int
    score: float
    signal: str
    is_kept: bool
    is_suspect: bool
    damping: float
    num_examples: float
    sentence: str


@dataclass(frozen=True)
class Screening:
    """What became of a step's updates.

    Parameters
    ----------
    standing
        What is known of the nodes from now on.
    verdicts
        In the order of the cohort.
    trusted_scores
        Scores of the senders not under suspicion before, ascending; evenly spaced order statistics
        if there are more than 64.
    num_trusted_flagged
        How many of those senders' updates are left out.
    """

    standing: Standing
    verdicts: tuple[Verdict, ...]
    trusted_scores: tuple[float, ...] = ()
    num_trusted_flagged: int = 0


def screened(
    standing: Standing,
    cohort: Sequence[tuple[int, float, Evidence]],
    *,
    threshold: float,
    clip_factor: float,
    reference: Vector | None,
) -> Screening:
    """Return the verdicts on a step's updates, and the standing after them.

    Parameters
    ----------
    standing
        What is known of the nodes.
    cohort
        Node, number of examples and evidence of each update; at least one.
    threshold
        Score above which an update is left out whatever its sender's record.
    clip_factor
        Norms are clipped to this multiple of the kept ones' median.
    reference
        Sketch of the last step's direction, of any length; ``None`` if there is none.
    """
    nodes = [node for node, _, _ in cohort]
    counts = np.array([count for _, count, _ in cohort], np.float64)
    norms = np.array([evidence.norm for _, _, evidence in cohort], np.float64)
    was_trusted = np.array([not standing.of(node).is_suspect for node in nodes])
    usable = np.flatnonzero(np.isfinite(norms))
    found: Suspicion | None = None
    scores = np.full(len(cohort), MAX_SCORE)
    if len(usable):
        found = suspicion(
            _directions([cohort[int(index)][2].sketch for index in usable], norms[usable]),
            norms[usable],
            was_trusted[usable],
            reference=None if reference is None else reference.astype(np.float32),
            past=_past(standing, len(usable)),
        )
        scores[usable] = found.totals
    after = standing.after(nodes, scores)
    is_suspect = np.array([after.of(node).is_suspect for node in nodes])
    is_kept = _kept(scores, is_suspect, threshold) & np.isfinite(norms)
    clip = clip_factor * float(np.median(norms[is_kept])) if is_kept.any() else 0.0
    cap = WEIGHT_CAP * float(np.median(counts))
    place = {int(index): row for row, index in enumerate(usable)}
    verdicts = []
    for index, node in enumerate(nodes):
        row = place.get(index)
        signal, sentence = _reason(found, row, after.of(node), scores[index], threshold)
        verdicts.append(
            Verdict(
                node=node,
                score=float(scores[index]),
                signal=signal,
                is_kept=bool(is_kept[index]),
                is_suspect=bool(is_suspect[index]),
                damping=min(1.0, clip / norms[index]) if is_kept[index] and norms[index] else 1.0,
                num_examples=float(min(counts[index], cap)),
                sentence=sentence,
            )
        )
    return Screening(
        standing=_traced(after, found, was_trusted[usable]),
        verdicts=tuple(verdicts),
        trusted_scores=_order_statistics(np.sort(scores[was_trusted])),
        num_trusted_flagged=int((was_trusted & ~is_kept).sum()),
    )


def _kept(scores: Numbers, is_suspect: Mask, threshold: float) -> Mask:
    """Return which updates to keep; of those of nodes in good standing at least 55 %."""
    candidates = np.flatnonzero(~is_suspect)
    most = int(MOST_LEFT_OUT * len(candidates)) if len(candidates) > 1 else 1
    worst_first = candidates[np.argsort(-scores[candidates], kind="stable")]
    left_out = [index for index in worst_first[:most] if scores[index] > threshold]
    is_kept = ~is_suspect
    is_kept[left_out] = False
    return is_kept


def _reason(
    found: Suspicion | None, row: int | None, record: Record, score: float, threshold: float
) -> tuple[str, str]:
    """Return what speaks most against an update, in a word and in a sentence."""
    if found is None or row is None:
        return "length", "the update's length is beyond any number"
    signal = SIGNALS[int(found.scores[row].argmax())]
    measures = found.measures
    if signal == "copy":
        what = (
            f"it is nearly a copy of another update: 1 - cosine is "
            f"{math.exp(measures.log_distances[row]):.2g}, usual is "
            f"{math.exp(found.distance.middle):.2g}"
        )
    else:
        longer = math.exp(min(measures.log_norms[row] - found.length.middle, 99.0))
        what = (
            f"its norm is {longer:.2g} times the usual one, its cosine to where the others go "
            f"{measures.cosines[row]:+.2f}, usual is {found.direction.middle:+.2f}"
        )
    side = "above" if score > threshold else "within"
    sentence = f"{what}: score {score:.1f}, {side} the limit {threshold:.1f}"
    if record.is_suspect and score <= threshold:
        past = f"record {record.score:.1f} of {record.num_seen} updates is too bad"
        return "record", f"{past}; {sentence}"
    return signal, sentence


def _directions(sketches: Sequence[Sketch], norms: Numbers) -> Directions:
    """Return the sketches over the norms, one per row; zeros where there is no length."""
    lengths = np.where(norms > NO_LENGTH, norms, 1.0).astype(np.float32)[:, None]
    directions = np.divide(np.stack(sketches), lengths, dtype=np.float32)
    return np.nan_to_num(directions, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _past(standing: Standing, count: int) -> Numbers | None:
    """Return what earlier updates say is usual, for a cohort too small to tell by itself."""
    if count > ENOUGH_OTHERS or not standing.traces:
        return None
    return np.array([(trace.log_norm, trace.cosine) for trace in standing.traces])


def _traced(standing: Standing, found: Suspicion | None, was_trusted: Mask) -> Standing:
    """Return the standing that remembers the latest updates of nodes in good standing.

    Those left out are remembered too: what is usual may change at once, as after a cut of the
    learning rate.
    """
    if found is None:
        return standing
    rows = np.flatnonzero(was_trusted & found.population)
    new = tuple(
        Trace(float(found.measures.log_norms[row]), float(found.measures.cosines[row]))
        for row in rows[-NUM_TRACES:]
    )
    return replace(standing, traces=(*standing.traces, *new)[-NUM_TRACES:])


def _order_statistics(ascending: npt.NDArray[np.float64]) -> tuple[float, ...]:
    if len(ascending) > MAX_TRUSTED_SCORES:
        places = np.linspace(0, len(ascending) - 1, MAX_TRUSTED_SCORES).round().astype(int)
        ascending = ascending[places]
    return tuple(float(score) for score in ascending)
