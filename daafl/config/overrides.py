"""Overrides as a user writes them: read, multiplied into jobs, and judged one by one.

Hydra refuses a wrong override too, but says neither which name was probably meant nor what is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from daafl.config.groups import Option, option_names
from daafl.errors import ConfigError
from daafl.nearest import suggestion

Groups = Mapping[str, tuple[Option, ...]]

_TASK: Final = "task"
_SCENARIO: Final = "scenario"
OWN: Final = "custom"
OWN_TASK: Final = OWN
"""The option of a group that stands for a file of one's own."""


def read(text: str) -> Override:
    """Return the parsed override.

    Raises
    ------
    ConfigError
        If it is not of the form ``key=value``.
    """
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        if "=" not in text:
            raise ConfigError(f"{text!r} is not an override; write key=value") from error
        raise ConfigError(
            f"{text!r} cannot be read as key=value; quote a value with special characters, "
            """as in 'key="a b"'"""
        ) from error
    if not override.key_or_group:
        raise ConfigError(f"{text!r} is not an override; write key=value")
    return override


def expanded(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the overrides of every job of a sweep, the last override varying fastest.

    Raises
    ------
    ConfigError
        If an override cannot be read or sweeps over no list of values.

    Examples
    --------
    >>> expanded(["seed=0,1", "strategy=fedavg"])
    [('seed=0', 'strategy=fedavg'), ('seed=1', 'strategy=fedavg')]
    """
    alternatives: list[list[str]] = []
    for override in map(read, overrides):
        if not override.is_sweep_override():
            alternatives.append([str(override.input_line)])
            continue
        key = override.get_key_element()
        try:
            values = list(override.sweep_string_iterator())
        except HydraException as error:
            raise ConfigError(
                f"{override.input_line} names no values to try; "
                "list them, as in key=1,2,3 or key=range(0,5)"
            ) from error
        alternatives.append([f"{key}={value}" for value in values])
    return list(product(*alternatives))


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys that a sweep varies.

    Examples
    --------
    >>> swept_keys(["seed=0,1", "strategy=fedavg"])
    ['seed']
    """
    parsed = map(read, overrides)
    return [item.get_key_element() for item in parsed if item.is_sweep_override()]


def lines(override: Override) -> list[str]:
    """Return what Hydra is given for an override: itself, or two for a file of one's own.

    Examples
    --------
    >>> lines(read("task=my_task.py:MyTask"))
    ['task=custom', 'task.path=my_task.py:MyTask']
    >>> lines(read("scenario=./mine.yaml"))
    ['scenario=custom', 'scenario.path=./mine.yaml']
    """
    if not _names_own_file(override):
        return [str(override.input_line)]
    key, _, written = str(override.input_line).partition("=")
    return [f"{key}={OWN}", f"{key}.path={written}"]


def check_choice(override: Override, groups: Groups) -> None:
    """Refuse an option its group does not have, a sweep, and settings of Hydra's own runner.

    Raises
    ------
    ConfigError
        With the nearest option there is.
    """
    key, line = override.key_or_group, override.input_line
    if override.is_sweep_override():
        raise ConfigError(f"{line} names several values; add --multirun to run each of them")
    if key.split(".")[0].split("/")[0] == "hydra":
        raise ConfigError(f"{line} is not used here; output_dir=PATH chooses the run folder")
    if key not in groups or override.is_delete() or _names_own_file(override):
        return
    names = option_names(groups, key)
    if override.value() in names:
        return
    written = override.get_value_element_as_str()
    raise ConfigError(f"{key}={written} is not known; {suggestion(written, names)}")


def explain_key(override: Override, known: DictConfig, groups: Groups) -> None:
    """Refuse an override whose key is not in ``known``, the configuration without it.

    Raises
    ------
    ConfigError
        With the nearest key there is.
    """
    key, line = override.key_or_group, override.input_line
    if key in groups or override.is_add() or override.is_force_add():
        return
    if "/" in key:
        raise ConfigError(
            f"{line} is not known: there is no group {key}; {suggestion(key, groups)}"
        )
    node: Any = known
    path = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise ConfigError(f"{line} is not known: {path} is a single value")
        if part not in node:
            raise ConfigError(f"{line} is not known: {_absence(part, path, node, groups)}")
        path = f"{path}.{part}".lstrip(".")
        node = node._get_node(part)
    inner = [name for name in groups if name.startswith(f"{path.replace('.', '/')}/")]
    if inner:
        raise ConfigError(f"{line} is not known: choose {' or '.join(f'{n}=...' for n in inner)}")


def _absence(part: str, path: str, node: DictConfig, groups: Groups) -> str:
    """Return why ``part`` is not at ``path``, and what to write instead."""
    if path.replace(".", "/") in groups and not node:
        return f"{path} is off, so it has no {part}"
    names = [str(name) for name in node if not str(name).startswith("_")]
    if not path:
        names += [name for name in groups if "/" not in name]
    place = f"{path} has no {part}" if path else f"there is no {part}"
    return f"{place}; {suggestion(part, names)}"


def _names_own_file(override: Override) -> bool:
    """Return whether an override is like ``task=my_task.py:MyTask`` or ``scenario=./mine.yaml``."""
    key = override.key_or_group
    if key not in (_TASK, _SCENARIO) or override.is_sweep_override() or override.is_delete():
        return False
    value = override.value()
    if not isinstance(value, str):
        return False
    if key == _SCENARIO:
        return "/" in value or value.endswith((".yaml", ".yml"))
    return ":" in value or value.endswith(".py")
