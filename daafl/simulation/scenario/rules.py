"""What the value of a key must be: functions that return it, tidied, or say the rule.

Python's dataclasses and the reader of scenario files share them, so a rule stands in one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from daafl.simulation.scenario.mistake import Mistake

Rule = Callable[[Any], Any]
"""Returns a value as it is kept; raises `ValueError` with the rule, as in "must be 0 or more"."""

_RULE: Final = "rule"

MAX_SECONDS: Final = 1e12
"""Times and durations are at most 30,000 years, so that sums of them stay exact enough."""


def by(rule: Rule) -> Mapping[str, Rule]:
    """Return the metadata of a dataclass field whose values follow a rule."""
    return {_RULE: rule}


def follow_rules(event: Any) -> None:
    """Replace the values of a dataclass by what their rules make of them.

    Raises
    ------
    Mistake
        Naming the key, the value and the rule.
    """
    for item in fields(event):
        value = getattr(event, item.name)
        try:
            tidied = item.metadata[_RULE](value)
        except ValueError as error:
            raise Mistake(f"{item.name} is {shown(value)}, but {error}", key=item.name) from error
        object.__setattr__(event, item.name, tidied)


def number(
    *, least: float = -math.inf, most: float = math.inf, is_open: bool = False
) -> Callable[[Any], float]:
    """Return the rule of a finite number within limits.

    Parameters
    ----------
    least, most
        Limits.
    is_open
        Whether ``least`` itself is too little.
    """
    if most < math.inf:
        limits = f"above {least:g}, at most {most:g}" if is_open else f"from {least:g} to {most:g}"
    elif least > -math.inf:
        limits = f"above {least:g}" if is_open else f"of {least:g} or more"
    else:
        limits = "that is finite"

    def rule(value: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = _float(value)
            is_within = least < found <= most if is_open else least <= found <= most
            if math.isfinite(found) and is_within:
                return found
        raise ValueError(f"must be a number {limits}")

    return rule


def whole(*, least: int, most: int = 2**32) -> Callable[[Any], int]:
    """Return the rule of a whole number within limits."""

    def rule(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise ValueError(f"must be a whole number from {least} to {most}")

    return rule


def text(*, longest: int) -> Callable[[Any], str]:
    """Return the rule of a text."""

    def rule(value: Any) -> str:
        if isinstance(value, str) and len(value) <= longest:
            return value
        raise ValueError(f"must be a text of at most {longest} characters")

    return rule


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return the rule of a text out of a few."""

    def rule(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise ValueError(f"must be one of {', '.join(choices)}")

    return rule


def optional(rule: Rule) -> Rule:
    """Return the rule of a value that may be ``None``."""
    return lambda value: None if value is None else rule(value)


def shown(value: Any) -> str:
    """Return a value as its user wrote it, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 8:
        return f"a list of {len(value)}"
    written = repr(value)
    return written if len(written) <= 60 else f"{written[:57]}..."


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
