"""How far each update of a cohort is from what is usual, in robust standard deviations.

Three signals, each against the median and the median absolute deviation (MAD) of the cohort:

``length``
    Logarithm of the update's norm. Long ones count; short ones only when they are next to nothing,
    as those of nodes that did not train.
``direction``
    Cosine to the mean direction of the others, and to the direction in which the model moved last.
    It counts only below zero: an update that does not work against the others does no harm, and
    nodes with rare data are often the ones that agree least.
``copy``
    Logarithm of the distance to the nearest other update. Updates of different data are never
    nearly the same; updates of one mind are.

Length and direction add up: what is longer than usual *and* points backwards is worse than either.
A copy counts by itself. All are taken from sketches, so that no update needs to be at hand. Only
members of the population say what is usual; the others are measured by it without a say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Directions = npt.NDArray[np.float32]

SIGNALS: Final = ("length", "direction", "copy")
"""Names of the columns of a cohort's scores."""

MAD_TO_SD: Final = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""

LENGTH_FLOOR: Final = 0.5
DIRECTION_FLOOR: Final = 0.1
COPY_FLOOR: Final = 0.5
"""Deviations that never count as more than one: the updates of a cohort may be all alike."""

SHORT: Final = -2.0  # log norm, less the usual one, below which an update counts as none
COPY_LIMIT: Final = 3.5  # score of a copy from which an update has no say in what is usual
MIN_POPULATION: Final = 5  # members that must be left to say what is usual
ENOUGH_OTHERS: Final = 8  # others from which their mean says more than the last step's direction
REFERENCE_SHARE: Final = 0.3  # of the cosine to that direction when there are so many
MAX_SCORE: Final = 99.0

_NEAREST: Final = 1e-5  # distances below may be rounding
_ROWS: Final = 256  # updates whose distances to all others are held at a time


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured of each update, before it is compared; one number per update each.

    Parameters
    ----------
    log_norms
        Logarithm of the norm.
    cosines
        To the others' mean direction and the last step's, weighted.
    log_distances
        Logarithm of one less the cosine to the most similar other update.
    """

    log_norms: Numbers
    cosines: Numbers
    log_distances: Numbers


@dataclass(frozen=True, eq=False)
class Usual:
    """What is usual of one measure: the middle, and what counts as one deviation from it."""

    middle: float
    deviation: float

    @classmethod
    def of(cls, values: Numbers, floor: float) -> Usual:
        """Return the median and the scaled MAD of ``values``, at least ``floor``."""
        middle = float(np.median(values))
        spread = MAD_TO_SD * float(np.median(np.abs(values - middle)))
        return cls(middle, max(spread, floor))

    def z(self, values: Numbers) -> Numbers:
        """Return how many deviations each value is above the middle."""
        deviations: Numbers = (values - self.middle) / self.deviation
        return deviations


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What a cohort's updates are suspected of.

    Parameters
    ----------
    measures
        What was measured.
    scores
        Suspicion by signal, shape ``[num_updates, 3]``, each within [0, 99].
    length, direction, distance
        What is usual.
    population
        Updates that said so.
    """

    measures: Measures
    scores: Numbers
    length: Usual
    direction: Usual
    distance: Usual
    population: Mask

    @property
    def totals(self) -> Numbers:
        """Suspicion of each update, within [0, 99]."""
        totals: Numbers = np.maximum(self.scores[:, 0] + self.scores[:, 1], self.scores[:, 2])
        return np.minimum(totals, MAX_SCORE)


def suspicion(
    directions: Directions,
    norms: Numbers,
    trusted: Mask,
    *,
    reference: Directions | None = None,
    past: Numbers | None = None,
) -> Suspicion:
    """Return what the updates of a cohort are suspected of.

    Parameters
    ----------
    directions
        Sketches over exact norms, shape ``[num_updates, size]``; zeros for an update of length 0.
    norms
        Exact norms, shape ``[num_updates]``, finite.
    trusted
        Updates that may say what is usual. Copies have no say, unless too few others are left.
    reference
        Sketch of the last step's direction, of any length, shape ``[size]``; ``None`` without.
    past
        Log norms and cosines of earlier updates, shape ``[n, 2]``, which also say what is usual;
        for cohorts that are too small to.
    """
    least = min(MIN_POPULATION, len(norms))
    population = trusted if trusted.sum() >= least else np.ones(len(norms), dtype=bool)
    log_distances = np.log(np.maximum(_nearest_distances(directions), _NEAREST))
    distance = Usual.of(log_distances[population], COPY_FLOOR)
    copy = -distance.z(log_distances)
    originals = population & (copy <= COPY_LIMIT)
    population = originals if originals.sum() >= least else population
    measures = Measures(
        log_norms=np.log(np.maximum(norms, np.finfo(np.float64).tiny)),
        cosines=_cosines(directions, population, reference),
        log_distances=log_distances,
    )
    earlier = np.empty((0, 2)) if past is None else past
    length = Usual.of(np.append(measures.log_norms[population], earlier[:, 0]), LENGTH_FLOOR)
    direction = Usual.of(np.append(measures.cosines[population], earlier[:, 1]), DIRECTION_FLOOR)
    long = length.z(measures.log_norms)
    is_short = measures.log_norms - length.middle < SHORT
    against = np.where(measures.cosines < 0, -direction.z(measures.cosines), 0.0)
    scores = np.stack([np.where(is_short, -long, long), against, copy], axis=1)
    return Suspicion(
        measures, np.clip(scores, 0.0, MAX_SCORE), length, direction, distance, population
    )


def _cosines(directions: Directions, population: Mask, reference: Directions | None) -> Numbers:
    """Return the cosines to where the others go and where the model went, weighted.

    The first is to the mean direction of the population without the update itself. The fewer others
    there are, the more the second counts.
    """
    total = directions[population].sum(axis=0, dtype=np.float64).astype(np.float32)
    square = float(total @ total)
    dots = (directions @ total).astype(np.float64)
    own = np.einsum("ij,ij->i", directions, directions).astype(np.float64)
    # |total - u|^2 = |total|^2 - 2 total u + |u|^2, for those that are part of the total
    lengths = np.sqrt(np.maximum(square - population * (2 * dots - own), 0.0))
    others: Numbers = np.divide(
        dots - population * own, lengths, out=np.zeros_like(dots), where=lengths > 1e-6
    )
    if reference is None or not (length := float(np.linalg.norm(reference))) > 0:
        return others
    last = (directions @ reference).astype(np.float64) / length
    num_others = np.maximum(population.sum() - population, 0)
    share = 1 - (1 - REFERENCE_SHARE) * np.minimum(num_others / ENOUGH_OTHERS, 1.0)
    cosines: Numbers = share * last + (1 - share) * others
    return cosines


def _nearest_distances(directions: Directions) -> Numbers:
    """Return one less the cosine to the most similar other update; 1 if there is no other.

    Of the sketches themselves: with the lengths that sketches have, what they say of a small
    distance is off by a share of that distance only.
    """
    count = len(directions)
    nearest = np.ones(count)
    if count == 1:
        return nearest
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    units = directions / np.where(lengths > 0, lengths, np.float32(1))
    for start in range(0, count, _ROWS):
        cosines = units[start : start + _ROWS] @ units.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -1.0
        nearest[start : start + _ROWS] = 1.0 - cosines.max(axis=1)
    return nearest
