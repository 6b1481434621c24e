"""Attackers that join and leave, as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Final

from daafl.errors import ConfigError
from daafl.nearest import suggestion
from daafl.simulation.attacks import (
    Adaptive,
    Alie,
    Attack,
    Backdoor,
    Behaviour,
    Duplicated,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    Lies,
    NotFinite,
    Oversized,
    Replayed,
    SignFlip,
    Sleeper,
    Sybils,
    WrongShape,
)
from daafl.simulation.scenario.events import Event, NodeEvent
from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.rules import Rule, by, optional, shown, whole
from daafl.simulation.scenario.scheduled import Scheduled

BEHAVIOURS: Final[Mapping[str, tuple[type[Behaviour], Mapping[str, Any]]]] = {
    "adaptive": (Adaptive, {}),
    "alie": (Alie, {}),
    "backdoor": (Backdoor, {}),
    "duplicated": (Duplicated, {}),
    "free_rider": (FreeRider, {}),
    "gaussian": (Gaussian, {}),
    "inner_product": (InnerProduct, {}),
    "label_flip": (LabelFlip, {}),
    "not_finite": (NotFinite, {}),
    "oversized": (Oversized, {}),
    "replayed": (Replayed, {}),
    "scaled_sign_flip": (SignFlip, {"scale": 3.0}),
    "sign_flip": (SignFlip, {}),
    "sleeper": (Sleeper, {"does": "scaled_sign_flip"}),
    "sybils": (Sybils, {}),
    "wrong_shape": (WrongShape, {}),
}
"""What attackers can do, by the names of ``conf/attack``, and what they do there unless told."""

_MAX_ROUND: Final = 10**9

Pairs = tuple[tuple[str, Any], ...]
"""A mapping, unchangeable and in order."""


def _named(value: Any) -> str:
    if isinstance(value, str) and value in BEHAVIOURS:
        return value
    raise ValueError(f"is no attack; {suggestion(str(value), BEHAVIOURS)}")


def _pairs(value: Any) -> Pairs:
    if isinstance(value, tuple):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return tuple(
            (key, tuple(item) if isinstance(item, list) else item) for key, item in value.items()
        )
    raise ValueError("must be a mapping of names to values")


_ROUND: Final[Rule] = optional(whole(least=1, most=_MAX_ROUND))


@dataclass(frozen=True, kw_only=True)
class Attackers(NodeEvent):
    """Nodes that are hostile from ``at_s`` until ``until_s``, or in certain rounds.

    Rounds are counted as in `daafl.simulation.attacks.Attack`.

    Parameters
    ----------
    does
        What they do: a name of ``BEHAVIOURS``, which are those of ``conf/attack``.
    parameters
        Parameters of the behaviour; the others keep their defaults.
    lies
        What they say about themselves: parameters of `daafl.simulation.attacks.Lies`.
    at_round, until_round
        First round of the attack, and the first one without it; in place of ``at_s`` and
        ``until_s``.
    """

    kind: ClassVar[str] = "attackers"

    does: str = field(metadata=by(_named))
    parameters: Pairs = field(default=(), metadata=by(_pairs))
    lies: Pairs = field(default=(), metadata=by(_pairs))
    at_round: int | None = field(default=None, metadata=by(_ROUND))
    until_round: int | None = field(default=None, metadata=by(_ROUND))

    def __post_init__(self) -> None:
        """Check and tidy the values."""
        super().__post_init__()
        first, end = self.at_round, self.until_round
        if self.is_by_round and (self.at_s > 0.0 or self.until_s is not None):
            key = "at_round" if first is not None else "until_round"
            raise Mistake(
                f"{key} cannot go with at_s or until_s; choose rounds or seconds", key=key
            )
        if end is not None and end <= (first or 1):
            raise Mistake(
                f"until_round is {end}, but must come after at_round={first or 1}",
                key="until_round",
            )
        self.behaviour()
        self.told()

    @property
    def is_by_round(self) -> bool:
        """Whether it begins or ends with a round, not at a time."""
        return self.at_round is not None or self.until_round is not None

    def behaviour(self) -> Behaviour:
        """Return what the attackers do.

        Raises
        ------
        Mistake
            If the parameters are not those of the behaviour.
        """
        return behaviour(self.does, dict(self.parameters))

    def told(self) -> Lies:
        """Return the lies of the attackers; `Mistake` if the parameters do not fit."""
        lies: Lies = _made(Lies, dict(self.lies), "lies")
        return lies


ATTACKER_KINDS: Final[Mapping[str, type[Event]]] = {Attackers.kind: Attackers}


def behaviour(name: str, parameters: Mapping[str, Any]) -> Behaviour:
    """Return the behaviour of a name with some of its parameters.

    Raises
    ------
    Mistake
        If a parameter is unknown, of the wrong type or out of range.

    Examples
    --------
    >>> behaviour("scaled_sign_flip", {})
    SignFlip(scale=3.0)
    """
    kind, defaults = BEHAVIOURS[name]
    values = {**defaults, **parameters}
    if kind is Sleeper:
        try:
            values["does"] = behaviour(_named(values["does"]), {})
        except ValueError as error:
            raise _mistake("parameters", "does", values["does"], str(error)) from error
    made: Behaviour = _made(kind, values, "parameters")
    return made


def attack_of(attackers: Scheduled[Attackers]) -> Attack:
    """Return the attack that a scheduled event stands for."""
    event = attackers.event
    return Attack(
        event.behaviour(),
        nodes=attackers.members.members().tolist(),
        start=event.at_round or 1,
        stop=None if event.until_round is None else event.until_round - 1,
        lies=event.told(),
        start_s=event.at_s,
        stop_s=event.until_s,
    )


def _made(kind: Callable[..., Any], values: Mapping[str, Any], path: str) -> Any:
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # dataclasses all
    for key, value in values.items():
        if key not in known:
            raise Mistake(
                f"{path}.{key} is not known; {suggestion(key, known)}", key=f"{path}.{key}"
            )
        default = known[key].default
        if default is not MISSING and not _is_like(value, default):
            raise _mistake(path, key, value, f"must be like {shown(default)}")
    try:
        return kind(**values)
    except (ConfigError, TypeError) as error:
        key = next((name for name in values if f"{name} " in f"{error} "), "")
        place = f"{path}.{key}" if key else path
        raise Mistake(f"{place} cannot be used: {error}", key=place) from error


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value may stand where the default stands."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int)
    if isinstance(default, float):
        return value is None or isinstance(value, int | float)
    if isinstance(default, tuple):
        whole_only = all(isinstance(item, int) for item in default)
        return isinstance(value, tuple) and all(
            _is_like(item, 0 if whole_only else 0.0) and item is not None for item in value
        )
    return isinstance(value, str)


def _mistake(path: str, key: str, value: Any, rule: str) -> Mistake:
    return Mistake(f"{path}.{key} is {shown(value)}, but {rule}", key=f"{path}.{key}")
