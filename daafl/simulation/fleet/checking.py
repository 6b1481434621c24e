"""Refusal of numbers that a device cannot have."""

from __future__ import annotations

import math


def check_at_least(low: float, **values: float) -> None:
    """Refuse a value that is no finite number of at least `low`.

    Raises
    ------
    ValueError
        Naming the value, the rule and what was given.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be a finite number >= {low:g}, not {value!r}")


def check_positive(**values: float) -> None:
    """Refuse a value that is no finite number above 0; raises as `check_at_least`."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number > 0, not {value!r}")


def check_fraction(**values: float) -> None:
    """Refuse a value outside [0, 1]; raises as `check_at_least`."""
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be within [0, 1], not {value!r}")
