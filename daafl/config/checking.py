"""Whether configured values fit a constructor, read off its signature before it is called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from daafl.errors import ConfigError
from daafl.nearest import suggestion

_WORDS: Final[Mapping[object, str]] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}
_SHARE: Final = (0.0, 1.0)
_POSITIVE: Final = (math.nextafter(0.0, 1.0), math.inf)
_COUNT: Final = (0.0, math.inf)

FLOWER_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "beta": (0.0, math.nextafter(0.5, 0.0)),
    "beta_1": (0.0, math.nextafter(1.0, 0.0)),
    "beta_2": (0.0, math.nextafter(1.0, 0.0)),
    "client_learning_rate": _POSITIVE,
    "eta": _POSITIVE,
    "eta_l": _POSITIVE,
    "fraction_evaluate": _SHARE,
    "fraction_train": _SHARE,
    "num_malicious_nodes": _COUNT,
    "num_nodes_to_select": (1.0, math.inf),
    "proximal_mu": _COUNT,
    "q": _COUNT,
    "server_learning_rate": _POSITIVE,
    "server_momentum": (0.0, math.nextafter(1.0, 0.0)),
    "tau": _POSITIVE,
}
"""Ranges of what Flower's strategies take, which they do not check themselves."""


def check_call(
    target: Callable[..., Any],
    values: Mapping[str, Any],
    path: str = "",
    *,
    is_partial: bool = False,
) -> None:
    """Refuse values that ``target`` cannot be called with.

    Parameters
    ----------
    target
        Class or function.
    values
        Keyword arguments; plain values, or objects that are built already.
    path
        Where the values stand in the configuration, such as ``strategy``; empty for the root.
    is_partial
        Whether parameters without a value get theirs later.

    Raises
    ------
    ConfigError
        Naming the key, the value and the rule: a key that is no parameter, a parameter without a
        value, a value of the wrong type or, for Flower's strategies, out of range.
    """
    name = getattr(target, "__name__", str(target))
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = type_hints(target)
    for key, value in values.items():
        if key not in parameters:
            if takes_any:
                continue
            raise ConfigError(
                f"{joined(path, key)}={value!s} is not known: {name} takes no {key}; "
                f"{suggestion(key, parameters)}"
            )
        if not fits(value, hints.get(key, Any)):
            raise ConfigError(
                f"{joined(path, key)} is {shown(value)}, but must be {described(hints[key])}"
            )
        if target.__module__.startswith("flwr.") and key in FLOWER_RANGES:
            _check_range(joined(path, key), value, FLOWER_RANGES[key])
    if is_partial:
        return
    for key, parameter in parameters.items():
        is_variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if parameter.default is parameter.empty and not is_variable and key not in values:
            raise ConfigError(f"{joined(path, key)} has no value; {name} needs one")


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a target's parameters; nothing if they cannot be resolved."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        # A type that is imported for checkers only; such values go unchecked until they are used.
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; unusual types take anything.

    Examples
    --------
    >>> fits(1, float), fits(1.0, int), fits(True, int), fits(None, int | None)
    (True, False, False, True)
    >>> fits("reply", Literal["step", "reply"]), fits(["a"], list[int])
    (True, False)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin if origin is not None else hint
    if kind is Any or not inspect.isclass(kind):
        return True
    if getattr(kind, "_is_protocol", False):
        return not isinstance(value, str | int | float | list | dict | NoneType)
    if not isinstance(value, kind) or (isinstance(value, str) and kind is not str):
        return False
    if isinstance(value, list) and len(arguments) == 1:
        return all(fits(item, arguments[0]) for item in value)
    return True


def described(hint: Any) -> str:
    """Return a type in words.

    Examples
    --------
    >>> described(float | None), described(Literal["step", "reply"])
    ('a number or null', 'one of step, reply')
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(described(argument) for argument in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if hint in _WORDS:
        return _WORDS[hint]
    kind = origin if inspect.isclass(origin) else hint
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return "a mapping"
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        return "a list" + (f" of {_plural(arguments[0])}" if arguments else "")
    return f"a {getattr(kind, '__name__', kind)}"


def joined(path: str, key: str) -> str:
    """Return the dotted name of a key below ``path``."""
    return f"{path}.{key}" if path else key


def shown(value: Any) -> str:
    """Return a value as a user would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _plural(hint: Any) -> str:
    return described(hint).removeprefix("an ").removeprefix("a ") + "s"


def _check_range(key: str, value: Any, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not isinstance(value, int | float) or (math.isfinite(value) and low <= value <= high):
        return
    if high == math.inf:
        rule = f"{low:g} or more" if low in (0.0, 1.0) else "more than 0"
    else:
        rule = f"within [0, {round(high, 6):g}" + ("]" if high == 1.0 else ")")
    raise ConfigError(f"{key} is {value:g}, but must be {rule}")
