"""Where the coordinator's time comes from: the grid's virtual clock, or the wall."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Protocol, runtime_checkable

from flwr.serverapp import Grid


@runtime_checkable
class Clock(Protocol):
    """Time as the coordinator sees it."""

    def now_s(self) -> float:
        """Return seconds since the run began."""

    def wait(self, timeout_s: float) -> None:
        """Return when something may have arrived, after ``timeout_s`` seconds at the latest."""


@runtime_checkable
class Announcing(Protocol):
    """A grid that says which replies are there, so that it is asked for no others."""

    def arrived(self) -> Collection[str]:
        """Return the ids of messages whose replies can be pulled."""


class WallClock:
    """Real time, for grids that are polled.

    Each wait sleeps a little longer than the one before, so that an idle coordinator does not
    wear out the server it polls; `heard` makes it attentive again.

    Parameters
    ----------
    first_pause_s, longest_pause_s
        Shortest and longest time between two polls.
    """

    def __init__(self, first_pause_s: float = 0.02, longest_pause_s: float = 0.5) -> None:
        self._start = time.monotonic()
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._pause_s = first_pause_s

    def now_s(self) -> float:
        """Return seconds since this clock was made, or since `resume`, and those before it."""
        return time.monotonic() - self._start

    def resume(self, now_s: float) -> None:
        """Go on from ``now_s``: the time in which there was no coordinator does not count."""
        self._start = time.monotonic() - now_s

    def wait(self, timeout_s: float) -> None:
        """Sleep until the next poll is due."""
        time.sleep(min(max(timeout_s, 0.0), self._pause_s))
        self._pause_s = min(self._pause_s * 1.5, self._longest_pause_s)

    def heard(self) -> None:
        """Poll quickly again: something has arrived."""
        self._pause_s = self._first_pause_s


def clock_of(grid: Grid) -> Clock:
    """Return the grid itself if it keeps time, else a wall clock."""
    return grid if isinstance(grid, Clock) else WallClock()
