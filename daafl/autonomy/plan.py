"""Knobs and the plan: every value a loop may turn, and the one place where it is turned.

A `Knob` is declared once, beside the loop that owns it. A `Plan` holds one value per knob for the
next step; ``plan.apply(changes)`` is the only way from one plan to the next, and it refuses a
change that was decided on a value which no longer holds.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeGuard

from daafl.autonomy.codec import encode
from daafl.errors import ConfigError, PlanError

Value: TypeAlias = float | int | str | bool
Scope: TypeAlias = Literal["federation", "branch", "node"]

_NO_OVERRIDES: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class Knob:
    """One value that a loop may turn.

    Parameters
    ----------
    name, unit
        What it is and what its number counts (``"steps"``, ``"s"``, ``"1"`` for a bare ratio).
    default
        Its first value; its type is the knob's type.
    owner
        Name of the only loop that may change it. Others request bounds.
    scope
        What one value of it holds for.
    low, high
        Inclusive bounds of a number; ``None`` leaves that side open.
    choices
        The only values allowed; empty for any within the bounds.
    is_structural
        Whether a change alters how the federation works, so that no second one may blur its effect.

    Raises
    ------
    ConfigError
        When bounds, choices and default contradict each other.

    Examples
    --------
    >>> lr = Knob("lr", "1", default=0.1, owner="learning_rate", scope="branch", low=1e-4, high=3.0)
    >>> lr.clipped(10.0), lr.clipped(10.0, high=0.5)
    (3.0, 0.5)
    """

    name: str
    unit: str
    default: Value
    owner: str
    scope: Scope
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    is_structural: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        """Check the declaration."""
        is_numeric = is_number(self.default)
        if not is_numeric and not (self.low is None and self.high is None):
            raise ConfigError(
                f"knob {self.name}: only a number has bounds, {self.default!r} is none"
            )
        if is_numeric and not math.isfinite(float(self.default)):
            raise ConfigError(f"knob {self.name}: its default must be finite, not {self.default}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(f"knob {self.name}: low {self.low} is above high {self.high}")
        is_choice = not self.choices or self.default in self.choices
        if not is_choice or self.clipped(self.default) != self.default:
            raise ConfigError(
                f"knob {self.name}: its default {self.default!r} is not allowed by it"
            )

    def clipped(
        self, value: Value, *, low: float | None = None, high: float | None = None
    ) -> Value:
        """Return the nearest allowed value to `value` within `low` and `high`.

        The knob's own bounds and choices win over the bounds given here. A value of another type
        than the default's becomes the default; a number becomes the knob's kind of number.

        Raises
        ------
        PlanError
            For a number that is not finite.
        """
        if not is_number(self.default):
            fits = type(value) is type(self.default)
            return value if fits and (not self.choices or value in self.choices) else self.default
        if not is_number(value):
            return self.default
        if not math.isfinite(float(value)):
            raise PlanError(f"knob {self.name} cannot take {value}: its value must be finite")
        number = _within(_within(float(value), low, high), self.low, self.high)
        if self.choices:
            inside = [c for c in self.choices if _within(float(c), low, high) == float(c)]
            return min(inside or self.choices, key=lambda choice: abs(float(choice) - number))
        if not isinstance(self.default, int):
            return number
        return self._whole(number, low, high)

    def _whole(self, number: float, low: float | None, high: float | None) -> int:
        """Return the nearest whole number; one beyond a bound steps back inside."""
        highest = min(bound for bound in (high, self.high, math.inf) if bound is not None)
        lowest = max(bound for bound in (low, self.low, -math.inf) if bound is not None)
        whole = round(number)
        if whole > highest:
            whole = math.floor(number)
        elif whole < lowest:
            whole = math.ceil(number)
        return whole


@dataclass(frozen=True)
class Change:
    """A knob's move from the value it was decided on to a new one."""

    knob: str
    old: Value
    new: Value


@dataclass(frozen=True)
class Plan:
    """The value of every knob for the next step.

    Parameters
    ----------
    revision
        Grows by one with every applied set of changes.
    values
        One value per knob name.

    Examples
    --------
    >>> knob = Knob("lr", "1", default=0.1, owner="learning_rate", scope="branch")
    >>> plan = Plan.of([knob])
    >>> plan.apply([Change("lr", 0.1, 0.2)])["lr"]
    0.2
    """

    revision: int
    values: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, knobs: Iterable[Knob], overrides: Mapping[str, Value] = _NO_OVERRIDES) -> "Plan":
        """Return the plan of the knobs' defaults, with `overrides` in their place.

        Raises
        ------
        ConfigError
            For an override of an unknown knob, or with a value the knob does not allow.
        """
        by_name = {knob.name: knob for knob in knobs}
        values: dict[str, Value] = {name: knob.default for name, knob in by_name.items()}
        for name, value in overrides.items():
            if name not in by_name:
                raise ConfigError(f"there is no knob {name}{_nearest(name, by_name)}")
            allowed = by_name[name].clipped(value)
            if allowed != value:
                raise ConfigError(
                    f"knob {name} does not allow {value!r}; the nearest is {allowed!r}"
                )
            values[name] = allowed
        return cls(0, values)

    def __getitem__(self, knob: str) -> Value:
        """Return the value of `knob`; raises `PlanError` for an unknown one."""
        try:
            return self.values[knob]
        except KeyError:
            raise PlanError(f"the plan has no knob {knob}{_nearest(knob, self.values)}") from None

    def __contains__(self, knob: object) -> bool:
        """Return whether the plan holds `knob`."""
        return knob in self.values

    def number(self, knob: str) -> float:
        """Return the value of `knob` as a float; raises `PlanError` when it is not a number."""
        value = self[knob]
        if not is_number(value):
            raise PlanError(f"knob {knob} holds {value!r}, which is not a number")
        return float(value)

    def apply(self, changes: Iterable[Change]) -> "Plan":
        """Return the plan after all `changes`; the same plan when there are none.

        Raises
        ------
        PlanError
            For an unknown knob, or when a change's old value is not the current one.
        """
        values = dict(self.values)
        for change in changes:
            current = self[change.knob] if change.knob not in values else values[change.knob]
            if current != change.old:
                raise PlanError(
                    f"the change of {change.knob} to {change.new!r} was decided at {change.old!r}, "
                    f"but it now is {current!r}; decide again"
                )
            values[change.knob] = change.new
        return self if values == self.values else Plan(self.revision + 1, values)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the values, whatever the revision."""
        text = json.dumps(encode(self.values), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_number(value: Value) -> TypeGuard[float]:
    """Return whether a knob's value counts something; booleans and words do not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(number: float, low: float | None, high: float | None) -> float:
    if low is not None and number < low:
        number = low
    if high is not None and number > high:
        number = high
    return number


def _nearest(name: str, known: Iterable[str]) -> str:
    match = get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""
