"""Batteries: work drains them, a plug that is there at the same hours every day charges them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.checking import check_at_least, check_fraction, check_positive
from daafl.simulation.fleet.presence import DAY_S
from daafl.simulation.world import Seconds


@dataclass(frozen=True)
class Battery:
    """The battery of a class of devices, and when it is charged.

    Only work drains it: what the owner uses is what `first_charge` and `least_charge` leave out.

    Parameters
    ----------
    work_h
        Hours of work on a full charge.
    charging_h
        Hours from empty to full.
    plugged_from_h, plugged_for_h
        When it is charged: hour of the day on the device's own clock, and for how long.
    least_charge
        Below this fraction the device does not work: work pauses until it is charged.
    first_charge
        Charges at time 0 are uniform from this fraction to 1.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    work_h: float
    charging_h: float
    plugged_from_h: float
    plugged_for_h: float
    least_charge: float = 0.2
    first_charge: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_positive(work_h=self.work_h, charging_h=self.charging_h)
        check_at_least(0.0, plugged_from_h=self.plugged_from_h, plugged_for_h=self.plugged_for_h)
        check_fraction(least_charge=self.least_charge, first_charge=self.first_charge)
        if self.plugged_for_h > 24:
            raise ValueError(f"plugged_for_h must be at most 24, not {self.plugged_for_h!r}")


@dataclass(frozen=True, eq=False)
class Power:
    """Batteries of nodes, one value per node; arrays of shape [k].

    Attributes
    ----------
    drain_per_s, charge_per_s
        Fraction of a full charge that a second of work takes and that a second at the plug gives.
    plugged_from_s, plugged_for_s
        When the plug is there, every day.
    least_charge
        Below this fraction there is no work.
    """

    drain_per_s: NDArray[np.float64]
    charge_per_s: NDArray[np.float64]
    plugged_from_s: Seconds
    plugged_for_s: Seconds
    least_charge: NDArray[np.float64]

    def charge(
        self, charge: NDArray[np.float64], since_s: Seconds, at_s: Seconds
    ) -> NDArray[np.float64]:
        """Return the charge of devices that did nothing since they had a given one."""
        gained = self._plugged(np.maximum(at_s, since_s)) - self._plugged(since_s)
        return np.minimum(1.0, charge + self.charge_per_s * gained)

    def is_plugged(self, at_s: Seconds) -> NDArray[np.bool_]:
        """Return whether the plug is there."""
        is_plugged: NDArray[np.bool_] = (
            np.mod(at_s - self.plugged_from_s, DAY_S) < self.plugged_for_s
        )
        return is_plugged

    def affords(
        self, charge: NDArray[np.float64], begins_at_s: Seconds, works_s: Seconds
    ) -> Seconds:
        """Return the earliest time by which there was charge enough for work.

        Work of `works_s` may end at time t if ``charge + charged between begin and t - drained by
        the work >= least_charge``. It is -inf if the charge suffices, inf if it never will.
        """
        lacking = self.least_charge + self.drain_per_s * works_s - charge
        lacks = (lacking > 0) & (works_s > 0)
        if not lacks.any():
            return np.full(len(charge), -np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):  # no plug at all: never
            needed_s = self._plugged(begins_at_s) + lacking / self.charge_per_s
            days = np.ceil(needed_s / self.plugged_for_s) - 1.0
            at_s = self.plugged_from_s + days * DAY_S + (needed_s - days * self.plugged_for_s)
        never = (self.plugged_for_s <= 0) | (self.charge_per_s <= 0)
        return np.where(lacks, np.where(never, np.inf, at_s), -np.inf)

    def lasts(self, charge: NDArray[np.float64]) -> Seconds:
        """Return seconds of work until there is too little charge; inf for what does not drain."""
        spare = np.maximum(charge - self.least_charge, 0.0)
        lasts_s: Seconds = np.full(len(spare), np.inf)
        np.divide(spare, self.drain_per_s, out=lasts_s, where=self.drain_per_s > 0)
        return lasts_s

    def after(
        self, charge: NDArray[np.float64], since_s: Seconds, at_s: Seconds, worked_s: Seconds
    ) -> NDArray[np.float64]:
        """Return the charge after an interval in which devices worked for a while."""
        gained = self.charge_per_s * (self._plugged(at_s) - self._plugged(since_s))
        return np.clip(charge + gained - self.drain_per_s * worked_s, 0.0, 1.0)

    def _plugged(self, at_s: Seconds) -> Seconds:
        """Return seconds at the plug from some day on until a time; never decreasing."""
        days, rest_s = np.divmod(at_s - self.plugged_from_s, DAY_S)
        plugged_s: Seconds = days * self.plugged_for_s + np.minimum(rest_s, self.plugged_for_s)
        return plugged_s
