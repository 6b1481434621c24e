"""Which updates of a step are combined: a score for each, a record for each node.

Every update is scored against the step's others (`daafl.robust.suspicion`). A node's record is the
running mean of its scores, so a mild deviation counts when it comes back every time, and a large
one counts at once whatever the record. Nodes under suspicion are scored whenever they take part,
and return when their record is good again. At least 55 % of a step's updates are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.learning.layout import Layout, Vector
from daafl.robust.sketch import Sketch, Sketcher
from daafl.robust.suspicion import MAX_SCORE, SIGNALS, measured, scores

RECORD_WEIGHT: Final = 0.3  # of the newest score in a record
RECORD_RANGE: Final = (-3.0, 6.0)  # scores count in a record within this range
SUSPECT: Final = 1.5  # record from which a node is under suspicion,
PAROLE: Final = 1.0  # and below which it no longer is
LEAST_KEPT: Final = 0.55
WEIGHT_CAP: Final = 4.0  # examples a node may claim, in medians of the step
MAX_TRUSTED_SCORES: Final = 64

_SKETCH_STREAM: Final = 3  # keeps the sketch's signs apart from other seeded draws of the run


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept of an update for its verdict.

    Parameters
    ----------
    sketch
        Of the part of the delta that gradients move.
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

    def evidence(self, delta: Vector) -> Evidence:
        """Return the evidence of an update, in one pass over it."""
        return Evidence(*self._sketcher.sketch_and_norm(self._layout.trained(delta)))


@dataclass(frozen=True)
class Record:
    """What is known of a node.

    Parameters
    ----------
    score
        Running mean of its scores.
    num_seen
        Updates of its that were scored.
    is_suspect
        Whether it is under suspicion.
    """

    score: float = 0.0
    num_seen: int = 0
    is_suspect: bool = False

    def after(self, score: float) -> Record:
        """Return the record after an update with ``score``."""
        counted = min(max(score, RECORD_RANGE[0]), RECORD_RANGE[1])
        mean = (1 - RECORD_WEIGHT) * self.score + RECORD_WEIGHT * counted
        is_suspect = mean > (PAROLE if self.is_suspect else SUSPECT)
        return Record(mean, self.num_seen + 1, is_suspect)


@dataclass(frozen=True)
class Standing:
    """What screening has learned about the nodes, by node."""

    records: Mapping[str, Record] = field(default_factory=dict)

    @property
    def suspects(self) -> tuple[int, ...]:
        """Nodes under suspicion, ascending."""
        return tuple(sorted(int(n) for n, record in self.records.items() if record.is_suspect))

    @property
    def num_known(self) -> int:
        """Number of nodes with a record."""
        return len(self.records)

    def of(self, node: int) -> Record:
        """Return a node's record; an empty one if it was never seen."""
        return self.records.get(str(node), Record())


@dataclass(frozen=True)
class Verdict:
    """What becomes of an update.

    Parameters
    ----------
    node
        Its sender.
    score
        The largest of its signals' robust z.
    signal
        That signal, or ``record`` if the node's past decided.
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
    norms = np.array([evidence.norm for _, _, evidence in cohort], np.float64)
    directions = _directions([evidence.sketch for _, _, evidence in cohort], norms)
    is_trusted = np.array([not standing.of(node).is_suspect for node, _, _ in cohort])
    population = np.isfinite(norms)
    if not population.any():
        table = np.full((len(cohort), len(SIGNALS)), MAX_SCORE)
    else:
        table = scores(measured(directions, norms, population), population)
        table[~population] = MAX_SCORE
    worst = table.max(axis=1)
    records = dict(standing.records)
    for (node, _, _), score in zip(cohort, worst, strict=True):
        records[str(node)] = records.get(str(node), Record()).after(float(score))
    after = Standing(records)
    marks = np.array([after.of(node).score for node, _, _ in cohort])
    is_bad = (worst > threshold) | np.array([after.of(node).is_suspect for node, _, _ in cohort])
    is_kept = ~is_bad
    num_least = int(np.ceil(LEAST_KEPT * len(cohort)))
    if is_kept.sum() < num_least:
        is_kept[:] = False
        is_kept[np.argsort(marks, kind="stable")[:num_least]] = True
    is_kept &= population
    limit = clip_factor * float(np.median(norms[is_kept])) if is_kept.any() else 0.0
    cap = WEIGHT_CAP * float(np.median([count for _, count, _ in cohort]))
    verdicts = tuple(
        Verdict(
            node=node,
            score=float(worst[index]),
            signal=SIGNALS[int(table[index].argmax())],
            is_kept=bool(is_kept[index]),
            is_suspect=after.of(node).is_suspect,
            damping=min(1.0, limit / norms[index]) if norms[index] > 0 else 1.0,
            num_examples=min(float(count), cap),
            sentence=f"score {worst[index]:.1f}, limit {threshold:.1f}",
        )
        for index, (node, count, _) in enumerate(cohort)
    )
    trusted = np.sort(worst[is_trusted])
    return Screening(
        standing=after,
        verdicts=verdicts,
        trusted_scores=_order_statistics(trusted),
        num_trusted_flagged=int((is_trusted & ~is_kept).sum()),
    )


def _directions(sketches: Sequence[Sketch], norms: npt.NDArray[np.float64]) -> Sketch:
    with np.errstate(divide="ignore", invalid="ignore"):
        directions = np.divide(np.stack(sketches), norms[:, None], dtype=np.float32)
    return np.nan_to_num(directions, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _order_statistics(ascending: npt.NDArray[np.float64]) -> tuple[float, ...]:
    if len(ascending) > MAX_TRUSTED_SCORES:
        places = np.linspace(0, len(ascending) - 1, MAX_TRUSTED_SCORES).round().astype(int)
        ascending = ascending[places]
    return tuple(float(score) for score in ascending)
