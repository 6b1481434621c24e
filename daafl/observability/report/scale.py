"""Axes: where a value lies between the ends of an axis, and which values get a label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_LOG_RATIO = 30.0  # a positive series that spans more than this reads better on a log axis


@dataclass(frozen=True)
class Scale:
    """The range of an axis.

    Parameters
    ----------
    low, high
        Values at the ends, ``low < high``; both positive on a log axis.
    is_log
        Whether equal distances mean equal ratios.
    """

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self) -> None:
        """Refuse a range that has no length or, on a log axis, reaches zero."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Scale needs finite low < high, got {self.low} and {self.high}")
        if self.is_log and self.low <= 0:
            raise ValueError(f"Scale with is_log needs low > 0, got {self.low}")

    def fraction(self, value: float) -> float:
        """Return the position of ``value``, 0 at ``low`` and 1 at ``high``, clipped to both.

        >>> Scale(0.01, 1.0, is_log=True).fraction(0.1)
        0.5
        """
        inside = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Return about ``about`` round values on the axis, ascending.

        >>> Scale(0, 60).ticks(6)
        (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
        >>> Scale(0.001, 3, is_log=True).ticks()
        (0.001, 0.01, 0.1, 1.0)
        """
        return self._log_ticks(about) if self.is_log else self._linear_ticks(about)

    def _linear_ticks(self, about: int) -> tuple[float, ...]:
        step = _round_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(round(index * step, 12) for index in range(first, last + 1))

    def _log_ticks(self, about: int) -> tuple[float, ...]:
        decades = math.log10(self.high / self.low)
        if decades < 1:
            return Scale(self.low, self.high)._linear_ticks(about)
        digits = (1,) if decades > 2.5 else (1, 3) if decades > 1.5 else (1, 2, 5)
        every = max(1, round(decades / about))
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        candidates = [
            float(f"{digit}e{power}") for power in range(first, last + 1, every) for digit in digits
        ]
        slack = 1 + 1e-9
        return tuple(c for c in candidates if self.low / slack <= c <= self.high * slack)


def scale_over(
    values: Iterable[float | None],
    *,
    is_log: bool | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Scale:
    """Return an axis that shows all finite ``values`` with a little room.

    Parameters
    ----------
    values
        What has to be visible; ``None`` and non-finite values are ignored.
    is_log
        ``None`` takes a log axis when the values are positive and span a ratio above 30.
    low, high
        An end that is fixed, such as 0 for bars and 1 for an accuracy; room is added elsewhere.
        A log axis ignores an end that is not positive.
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    positive = [v for v in finite if v > 0]
    if is_log is None:
        is_log = len(positive) == len(finite) > 0 and max(finite) > _LOG_RATIO * min(finite)
    if is_log:
        return _log_scale(positive, low, high)
    bottom = low if low is not None else min(finite, default=0.0)
    top = high if high is not None else max(finite, default=1.0)
    if top <= bottom:
        room = max(abs(bottom) * 0.1, 1e-9) if finite else 1.0
        return Scale(bottom if low is not None else bottom - room, max(top, bottom) + room)
    room = 0.06 * (top - bottom)
    return Scale(
        bottom if low is not None else bottom - room, top if high is not None else top + room
    )


def _log_scale(positive: list[float], low: float | None, high: float | None) -> Scale:
    bottom = low if low is not None and low > 0 else min(positive, default=0.1)
    top = high if high is not None and high > 0 else max(positive, default=1.0)
    room = 1.25
    return Scale(
        bottom if low is not None and low > 0 else bottom / room,
        top if high is not None and high > bottom else max(top, bottom) * room,
        is_log=True,
    )


def _round_step(raw: float) -> float:
    """Return the multiple 1, 2, 5 or 10 of a power of ten that is nearest to ``raw`` in ratio."""
    power = 10.0 ** math.floor(math.log10(raw))
    return min((m * power for m in (1.0, 2.0, 5.0, 10.0)), key=lambda s: abs(math.log(s / raw)))
