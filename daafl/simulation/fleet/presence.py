"""When devices are there: once in every period, for a while that begins earlier or later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.fleet.checking import check_at_least, check_positive
from daafl.simulation.world import Nodes, Seconds

HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0

_MOST: Final = 1e18  # periods that an int64 can count


@dataclass(frozen=True)
class Presence:
    """Devices of a class are online once in every period.

    Parameters
    ----------
    starts_h
        Hours into the period, on the device's own clock, at which it may come online.
    hours
        How long it stays; with `jitter_h` at most a period, so that no two stays overlap.
    jitter_h
        It comes up to so many hours later, drawn anew for every device and period.
    every_h
        The period: 24 for days.
    when_leaving
        What becomes of work that is not done by then: it ``pauses`` until the device is back, or
        is ``lost``, as in a closed tab.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    starts_h: float
    hours: float
    jitter_h: float = 0.0
    every_h: float = 24.0
    when_leaving: Literal["pauses", "lost"] = "pauses"

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_at_least(0.0, starts_h=self.starts_h, jitter_h=self.jitter_h)
        check_positive(hours=self.hours, every_h=self.every_h)
        if self.hours + self.jitter_h > self.every_h:
            raise ValueError(
                f"hours + jitter_h must be at most every_h={self.every_h:g}, not "
                f"{self.hours:g} + {self.jitter_h:g}"
            )
        if self.when_leaving not in ("pauses", "lost"):
            raise ValueError(f"when_leaving must be pauses or lost, not {self.when_leaving!r}")


class Spell(NamedTuple):
    """A stay online: from when, until when, and which one it is; arrays of shape [k]."""

    begins_at_s: Seconds
    ends_at_s: Seconds
    position: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rhythm:
    """When nodes are online, one value per node; arrays of shape [k].

    Attributes
    ----------
    key
        Key of the jitter.
    nodes
        Indices of the nodes.
    phase_s
        Earliest beginning of spell 0.
    stay_s, jitter_s, period_s
        Length of every spell, its largest delay, and the seconds from one to the next. A stay
        that fills the period has no end.
    """

    key: int
    nodes: Nodes
    phase_s: Seconds
    stay_s: Seconds
    jitter_s: Seconds
    period_s: Seconds

    def spells(self, at_s: Seconds) -> Spell:
        """Return the spell of each node that a time lies in, or else the next one."""
        index = whole((at_s - self.phase_s) / self.period_s)
        begins_at_s = self._beginning(index)
        # Spell i lies within period i, so only this one and the next can be the answer.
        is_over = at_s >= begins_at_s + self.stay_s
        if is_over.any():
            index = index + is_over
            begins_at_s = self._beginning(index)
        is_always = self.stay_s >= self.period_s
        return Spell(
            np.where(is_always, -np.inf, begins_at_s),
            np.where(is_always, np.inf, begins_at_s + self.stay_s),
            index,
        )

    def finished(self, spell: Spell, begins_at_s: Seconds, lasts_s: Seconds) -> Seconds:
        """Return when work is done that begins in a spell and pauses between spells."""
        left_s = lasts_s - (spell.ends_at_s - begins_at_s)
        done_at_s = begins_at_s + lasts_s
        if (left_s > 0).any():
            further = whole(np.ceil(np.maximum(left_s, 0.0) / self.stay_s)) - 1
            again_at_s = self._beginning(spell.position + 1 + further)
            resumed = again_at_s + (left_s - further * self.stay_s)
            done_at_s = np.where(left_s > 0, resumed, done_at_s)
        return done_at_s

    def _beginning(self, index: NDArray[np.int64]) -> Seconds:
        delays = uniforms(mixed(self.key, self.nodes, index))
        return self.phase_s + index * self.period_s + self.jitter_s * delays


def whole(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the largest whole numbers that are not above the given ones, at most 1e18."""
    return np.floor(np.minimum(numbers, _MOST)).astype(np.int64)
