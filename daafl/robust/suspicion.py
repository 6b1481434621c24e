"""How far each update of a cohort is from the others, in robust standard deviations.

Three signals, each against the median and the median absolute deviation (MAD) of the cohort:

``length``
    Logarithm of the update's norm; unusual on either side.
``direction``
    Cosine to the geometric median of the updates' directions (Pillutla, Kakade and Harchaoui 2022,
    RFA, here of unit vectors); unusual when low.
``agreement``
    Mean cosine to the other updates; unusual when low.

They are taken from sketches, so that no update needs to be at hand. Only members of the population
say what is usual; the others are measured by it without a say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

SIGNALS: Final = ("length", "direction", "agreement")
"""Names of the columns of a cohort's scores."""

MAD_TO_SD: Final = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""

FLOORS: Final = (0.15, 0.05, 0.05)
"""Deviation per signal that never counts as more than one: cohorts may be all alike."""

MAX_SCORE: Final = 99.0

_ROUNDS: Final = 8
_SMOOTHING: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured of each update, before it is compared.

    Parameters
    ----------
    log_norms, centre_cosines, mean_cosines
        One number per update, by signal.
    """

    log_norms: Numbers
    centre_cosines: Numbers
    mean_cosines: Numbers


def measured(
    directions: npt.NDArray[np.float32], norms: Numbers, population: npt.NDArray[np.bool_]
) -> Measures:
    """Return the measures of a cohort.

    Parameters
    ----------
    directions
        Sketches over exact norms, shape ``[num_updates, size]``; zeros for an update of length 0.
    norms
        Exact norms, shape ``[num_updates]``.
    population
        Which updates say what is usual; at least one.
    """
    members = directions[population]
    centre = geometric_median(members)
    total = members.sum(axis=0)
    own = np.einsum("ij,ij->i", directions, directions) * population
    others = np.maximum(population.sum() - population, 1)
    typical = np.median(norms[population]) or 1.0
    return Measures(
        log_norms=np.log(np.maximum(norms / typical, 1e-6)),
        centre_cosines=(directions @ _unit(centre)).astype(np.float64),
        mean_cosines=((directions @ total - own) / others).astype(np.float64),
    )


def scores(measures: Measures, population: npt.NDArray[np.bool_]) -> Numbers:
    """Return the robust z of each update and signal, shape ``[num_updates, 3]``.

    Larger is more suspicious; within [-99, 99].
    """
    length = np.abs(_z(measures.log_norms, population, FLOORS[0]))
    direction = -_z(measures.centre_cosines, population, FLOORS[1])
    agreement = -_z(measures.mean_cosines, population, FLOORS[2])
    columns: Numbers = np.stack([length, direction, agreement], axis=1)
    return np.clip(columns, -MAX_SCORE, MAX_SCORE)


def geometric_median(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the point with the least sum of distances to the rows (smoothed Weiszfeld)."""
    weights = np.full(len(points), 1 / len(points), np.float32)
    centre = weights @ points
    for _ in range(_ROUNDS):
        distances = np.linalg.norm(points - centre, axis=1)
        weights = 1 / np.maximum(distances, _SMOOTHING)
        centre = (weights / weights.sum()) @ points
    return centre


def _unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector


def _z(values: Numbers, population: npt.NDArray[np.bool_], floor: float) -> Numbers:
    middle = np.median(values[population])
    spread = MAD_TO_SD * np.median(np.abs(values[population] - middle))
    deviations: Numbers = (values - middle) / max(spread, floor)
    return deviations
