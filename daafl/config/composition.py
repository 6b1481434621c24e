"""Composes a run's configuration from the shipped groups and a user's overrides.

The only place that calls Hydra. What comes out is plain: dictionaries, lists, numbers, texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from daafl.config.checking import check_call
from daafl.config.groups import CONFIG_MODULE, option_groups
from daafl.config.masking import MASK, presentable
from daafl.config.overrides import OWN_TASK, Groups, check_choice, explain_key, lines, read
from daafl.config.root import Root
from daafl.errors import ConfigError
from daafl.nearest import suggestion

_CONFIG_NAME: Final = "config"
_OWN_TASK_TARGET: Final = "daafl.config.own_task.own_task"


@dataclass(frozen=True)
class Composition:
    """The configuration of one run.

    Parameters
    ----------
    config
        Resolved plain values, secrets included.
    shown
        The same as it may be stored: without secrets.
    unresolved
        As the files have it, interpolations and all; without secrets.
    hydra
        Hydra's own part of the configuration, unresolved.
    choices
        The option chosen in each group; ``None`` for none.
    """

    config: Mapping[str, Any]
    shown: Mapping[str, Any]
    unresolved: Mapping[str, Any]
    hydra: Mapping[str, Any]
    choices: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """The experiment's name, or else the task's; of a task of one's own, its class."""
        name = self.choices.get("experiment") or self.choices.get("task") or "run"
        if name != OWN_TASK:
            return name
        return str(self.config["task"]["path"]).rpartition(":")[2]

    @property
    def root(self) -> Root:
        """The run-wide values."""
        return Root(**{key: self.config[key] for key in Root.__annotations__})


def compose(overrides: Sequence[str] = (), *, folder: Path | None = None) -> Composition:
    """Return the configuration that ``overrides`` make of the shipped one.

    Parameters
    ----------
    overrides
        In Hydra's syntax: ``strategy=fedadam``, ``num_rounds=20``, ``~stopping`` ... The task may
        be one's own: ``task=my_task.py:MyTask``.
    folder
        A user's own configuration folder, searched before the shipped one.

    Raises
    ------
    ConfigError
        In one sentence: the key, the value, the rule, and the nearest name there is.

    Examples
    --------
    >>> compose(["strategy=fedadam", "seed=7"]).config["seed"]
    7
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"there is no configuration folder {folder}")
    groups = option_groups(folder)
    parsed = [read(text) for text in overrides]
    for override in parsed:
        check_choice(override, groups)
    try:
        full = _composed(parsed, folder)
    except (HydraException, OmegaConfBaseException) as error:
        _explain(parsed, groups, folder)
        raise ConfigError(_sentence(error)) from error
    hydra = full.pop("hydra")
    choices = {
        key: value for key, value in hydra.runtime.choices.items() if not key.startswith("hydra")
    }
    try:
        missing = sorted(OmegaConf.missing_keys(full))
        if missing:
            raise ConfigError(f"{missing[0]} has no value; write {missing[0]}=VALUE")
        config = cast(dict[str, Any], OmegaConf.to_container(full, resolve=True))
        shown = presentable(full, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_sentence(error)) from error
    _check_root(config, groups)
    return Composition(
        config=config,
        shown=shown,
        unresolved=presentable(full, resolve=False),
        hydra=cast(dict[str, Any], OmegaConf.to_container(hydra, resolve=False)),
        choices=choices,
    )


def stored(text: str) -> Composition:
    """Return the configuration of an earlier run.

    Parameters
    ----------
    text
        What its ``config.yaml`` holds: resolved, but for what comes from the environment.

    Raises
    ------
    ConfigError
        If it is no configuration of a run, or lacks a secret, which is never stored.
    """
    try:
        full = OmegaConf.create(text)
        if not isinstance(full, DictConfig):
            raise ConfigError("config.yaml is not the configuration of a run: it has no keys")
        config = cast(dict[str, Any], OmegaConf.to_container(full, resolve=True))
        shown = presentable(full, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"config.yaml cannot be read: {_sentence(error)}") from error
    hidden = _path_of(MASK, config)
    if hidden is not None:
        raise ConfigError(
            f"{hidden} is a secret, which config.yaml does not hold; go on with the run from "
            "Python: daafl.resume(path, task, ...) with the arguments it was started with"
        )
    _check_root(config, option_groups(None))
    is_own = config.get("task", {}).get("_target_") == _OWN_TASK_TARGET
    return Composition(
        config=config,
        shown=shown,
        unresolved=shown,
        hydra={},
        choices={"task": OWN_TASK} if is_own else {},
    )


def _path_of(wanted: str, node: Any, path: str = "") -> str | None:
    """Return where a text stands in a configuration; ``None`` if nowhere."""
    if node == wanted:
        return path
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
    found = (_path_of(wanted, value, f"{path}.{key}".lstrip(".")) for key, value in items)
    return next((place for place in found if place is not None), None)


def _check_root(config: Mapping[str, Any], groups: Groups) -> None:
    parts = {name.split("/")[0] for name in groups}
    known = [*Root.__annotations__, *parts]
    for key in config:
        if key not in known:
            raise ConfigError(f"{key} is not known; {suggestion(str(key), known)}")
    for key in Root.__annotations__:
        if key not in config:
            raise ConfigError(f"{key} has no value; every run needs one")
    values = {key: value for key, value in config.items() if key not in parts}
    check_call(Root, values)
    Root(**values)


def _composed(overrides: Sequence[Override], folder: Path | None) -> DictConfig:
    texts = [line for override in overrides for line in lines(override)]
    if folder is not None:
        texts.append(f"hydra.searchpath=[file://{folder.resolve()}]")
    with _hydra():
        config = hydra_compose(_CONFIG_NAME, texts, return_hydra_config=True)
    OmegaConf.set_struct(config, False)
    OmegaConf.set_readonly(config, False)
    return config


def _explain(overrides: Sequence[Override], groups: Groups, folder: Path | None) -> None:
    """Refuse the first override whose key does not exist; return if all exist."""
    try:
        known = _composed([item for item in overrides if item.key_or_group in groups], folder)
    except (HydraException, OmegaConfBaseException):
        return
    del known["hydra"]
    for override in overrides:
        explain_key(override, known, groups)


@contextmanager
def _hydra() -> Iterator[None]:
    """Set up Hydra for daafl's configuration, also inside another program that uses Hydra."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _sentence(error: Exception) -> str:
    """Return what Hydra says, without its advice about other programs."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text).strip("\"'")
    key = getattr(error, "full_key", None)
    return f"{key} has no value: {text}" if key and str(key) not in text else text
