"""Forecasts of one series, robust scale of its surprises, and alarms on lasting changes.

Frozen dataclasses: ``update`` returns the next state, which survives JSON. At the horizons of a
federation (50 to 200 steps) drift detectors made for long streams either never fire or fire on the
normal decline of the loss; a CUSUM on the residuals of a trend forecast does neither.

Sources: Holt (1957), linear exponential smoothing; Page (1954), cumulative sums.
"""

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from daafl.errors import ConfigError

MAD_TO_SD: Final = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""


@dataclass(frozen=True)
class Holt:
    """Local linear trend: a level and its slope per step.

    Parameters
    ----------
    alpha, beta
        How fast level and slope follow, within (0, 1].
    level, trend
        State; ``level`` is ``None`` before the first value.

    Examples
    --------
    >>> holt = Holt().update(1.0).update(2.0)
    >>> round(holt.forecast(), 3), round(holt.forecast(3), 3)
    (1.33, 1.39)
    """

    alpha: float = 0.3
    beta: float = 0.1
    level: float | None = None
    trend: float = 0.0

    def forecast(self, steps: int = 1) -> float | None:
        """Return the expected value `steps` ahead; ``None`` before the first value."""
        return None if self.level is None else self.level + steps * self.trend

    def residual(self, value: float) -> float | None:
        """Return how far `value` is above the forecast for it; ``None`` before the first value."""
        expected = self.forecast()
        return None if expected is None else value - expected

    def update(self, value: float, *, limit: float = math.inf) -> "Holt":
        """Return the state after `value`, whose residual counts for at most `limit`."""
        if self.level is None:
            return replace(self, level=value)
        residual = min(max(value - (self.level + self.trend), -limit), limit)
        level = self.level + self.trend + self.alpha * residual
        trend = (1 - self.beta) * self.trend + self.beta * (level - self.level)
        return replace(self, level=level, trend=trend)


@dataclass(frozen=True)
class MadScale:
    """Standard deviation of recent residuals, from their median absolute value.

    Parameters
    ----------
    window
        Residuals remembered.
    least
        Residuals before there is an estimate.
    residuals
        State, oldest first.
    """

    window: int = 20
    least: int = 5
    residuals: tuple[float, ...] = ()

    @property
    def scale(self) -> float | None:
        """Robust standard deviation; ``None`` before `least` residuals."""
        if len(self.residuals) < self.least:
            return None
        return MAD_TO_SD * median(map(abs, self.residuals))

    def update(self, residual: float) -> "MadScale":
        """Return the state after one more residual."""
        return replace(self, residuals=(*self.residuals, residual)[-self.window :])


@dataclass(frozen=True)
class Cusum:
    """One-sided alarm when a series keeps coming out above its own trend.

    With the residual ``e`` of the trend forecast and the scale ``s`` of earlier residuals,
    ``z = e / (s + floor)`` and ``total <- max(0, total + min(z, z_limit) - drift)``; the alarm is
    raised when the total passes `threshold`, and the total starts again. The trend follows
    residuals clipped at three scales, so that an attack cannot drag its own baseline along. For
    alarms on a decrease, feed the negated series.

    Parameters
    ----------
    drift, threshold, z_limit
        Slack per step, level of the alarm, and largest single contribution, in scales.
    floor
        Residual that is never worth more than one scale, in units of the series.
    warm_up
        Values before the sum starts.
    trend, spread
        State of the baseline.
    total, num_values, z
        State: the cumulative sum, values seen, the last standardised residual.
    is_alarm
        Whether the last value raised the alarm.
    """

    drift: float = 0.75
    threshold: float = 6.0
    z_limit: float = 4.0
    floor: float = 0.02
    warm_up: int = 10
    trend: Holt = Holt()
    spread: MadScale = MadScale()
    total: float = 0.0
    num_values: int = 0
    z: float = 0.0
    is_alarm: bool = False

    def __post_init__(self) -> None:
        """Check the constants."""
        if self.threshold <= 0 or self.floor <= 0 or self.drift < 0:
            raise ConfigError(
                f"Cusum needs threshold > 0, floor > 0 and drift >= 0, not {self.threshold}, "
                f"{self.floor} and {self.drift}"
            )

    def forecast(self, steps: int = 1) -> float | None:
        """Return the expected value `steps` ahead; ``None`` before the first value."""
        return self.trend.forecast(steps)

    @property
    def sd(self) -> float:
        """Standard deviation by which a value is expected to miss the forecast."""
        return (self.spread.scale or 0.0) + self.floor

    def update(self, value: float) -> "Cusum":
        """Return the state after `value`."""
        residual = self.trend.residual(value)
        if residual is None:
            return replace(self, trend=self.trend.update(value), num_values=self.num_values + 1)
        scale = self.spread.scale
        z = 0.0 if scale is None else residual / (scale + self.floor)
        num_values = self.num_values + 1
        total = self.total
        if num_values > self.warm_up:
            total = max(0.0, total + min(z, self.z_limit) - self.drift)
        is_alarm = total > self.threshold
        # A series that stood still has no scale; its floor keeps the baseline able to follow.
        limit = math.inf if scale is None else 3 * (scale or self.floor)
        return replace(
            self,
            trend=self.trend.update(value, limit=limit),
            spread=self.spread.update(residual),
            total=0.0 if is_alarm else total,
            num_values=num_values,
            z=z,
            is_alarm=is_alarm,
        )
