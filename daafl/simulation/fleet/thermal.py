"""Heat: work warms a device up, and at its limit it works only as fast as it stays cool enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.checking import check_positive
from daafl.simulation.world import Seconds

AMBIENT_C = 25.0
"""Temperature of a device that does nothing."""


@dataclass(frozen=True)
class Thermal:
    """How devices of a class warm up, after Newton's law of cooling.

    Parameters
    ----------
    steady_c
        Degrees above ambient at which full speed would end.
    limit_c
        Degrees above ambient that the device does not exceed: there it runs at ``limit_c /
        steady_c`` of its speed, which produces the heat that it loses.
    cooling_s
        Seconds in which an idle device loses 63 % of its excess temperature.

    Raises
    ------
    ValueError
        If a number is not above 0.
    """

    steady_c: float
    limit_c: float
    cooling_s: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_positive(steady_c=self.steady_c, limit_c=self.limit_c, cooling_s=self.cooling_s)


@dataclass(frozen=True, eq=False)
class Heat:
    """How nodes warm up, one value per node; arrays of shape [k], see `Thermal`."""

    steady_c: NDArray[np.float64]
    limit_c: NDArray[np.float64]
    cooling_s: Seconds

    def cooled(self, excess_c: NDArray[np.float64], idle_s: Seconds) -> NDArray[np.float64]:
        """Return the excess temperature after idle seconds."""
        kept: NDArray[np.float64] = np.exp(-np.maximum(idle_s, 0.0) / self.cooling_s)
        return excess_c * kept

    def lasts(self, excess_c: NDArray[np.float64], works_s: Seconds) -> Seconds:
        """Return how long work takes that would take `works_s` on a device that stays cool."""
        cool_s = self._until_limit(excess_c)
        throttled_s = np.maximum(works_s - cool_s, 0.0)
        stretched_s: Seconds = throttled_s * np.maximum(self.steady_c / self.limit_c, 1.0)
        return np.minimum(works_s, cool_s) + stretched_s

    def heated(self, excess_c: NDArray[np.float64], lasts_s: Seconds) -> NDArray[np.float64]:
        """Return the excess temperature after a device has been at work for some time."""
        towards = self.steady_c + (excess_c - self.steady_c) * np.exp(-lasts_s / self.cooling_s)
        return np.where(lasts_s > self._until_limit(excess_c), self.limit_c, towards)

    def _until_limit(self, excess_c: NDArray[np.float64]) -> Seconds:
        """Return seconds of work until the limit is reached; inf if it never is."""
        is_reached = self.steady_c > self.limit_c
        above = np.where(is_reached, self.steady_c - self.limit_c, 1.0)
        below = np.where(is_reached, self.steady_c - np.minimum(excess_c, self.limit_c), 1.0)
        return np.where(is_reached, self.cooling_s * np.log(below / above), np.inf)
