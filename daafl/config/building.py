"""Objects from plain configuration: every mapping with a ``_target_`` becomes what it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

from daafl.config.checking import check_call, joined, shown
from daafl.errors import ConfigError

TARGET: Final = "_target_"
PARTIAL: Final = "_partial_"


def built(node: Any, path: str = "") -> Any:
    """Return ``node`` with every mapping that has a ``_target_`` replaced by its object.

    With ``_partial_: true`` it becomes a function that lacks some arguments.

    Parameters
    ----------
    node
        Plain values, lists and mappings.
    path
        Where ``node`` stands in the configuration, for error sentences.

    Raises
    ------
    ConfigError
        If a target does not exist, or refuses its arguments.

    Examples
    --------
    >>> built({"_target_": "daafl.strategies.Pacing", "concurrency": 4, "quorum": 2}).quorum
    2
    """
    if isinstance(node, list):
        return [built(item, f"{path}[{index}]") for index, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    values = {
        key: built(value, joined(path, key))
        for key, value in node.items()
        if key not in (TARGET, PARTIAL)
    }
    if TARGET not in node:
        return values
    target = located(node[TARGET], joined(path, TARGET))
    is_partial = bool(node.get(PARTIAL, False))
    check_call(target, values, path, is_partial=is_partial)
    return partial(target, **values) if is_partial else called(target, values, path)


def called(target: Callable[..., Any], values: Mapping[str, Any], path: str) -> Any:
    """Return what ``target`` makes of ``values``.

    Raises
    ------
    ConfigError
        With the sentence of the target if it refuses the values.
    """
    try:
        return target(**values)
    except (ConfigError, ValueError, TypeError) as error:
        sentence = str(error)
        is_named = not path or sentence.startswith(path)
        raise ConfigError(sentence if is_named else f"{path}: {sentence}") from error


def located(name: object, path: str) -> Callable[..., Any]:
    """Return the class or function of a dotted name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if not isinstance(name, str) or "." not in name:
        raise ConfigError(f"{path} is {shown(name)}, but must be the dotted name of a class")
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
            for part in parts[length:]:
                found = getattr(found, part)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise ConfigError(
                    f"{path}={name} needs the package {error.name}, which is not installed"
                ) from error
        except AttributeError:
            break
        else:
            if callable(found):
                target: Callable[..., Any] = found
                return target
            break
    raise ConfigError(f"{path}={name} names no class or function")
