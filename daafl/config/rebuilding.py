"""The loops of a past run, built again from the ``config.yaml`` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from daafl.autonomy.hub import Hub
from daafl.autonomy.policy import Loop
from daafl.config.building import built
from daafl.errors import ConfigError
from daafl.strategies import Autonomous


def rebuilt(text: str) -> tuple[tuple[Loop, ...], Mapping[str, Hub]]:
    """Return the loops of a run, and the hub of every target in its journal.

    Nothing that decides is missing from a stored configuration; secrets are, and are not needed.

    Parameters
    ----------
    text
        What ``config.yaml`` holds.

    Raises
    ------
    ConfigError
        When it is no configuration of a run, or of one that this version cannot build.
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"its config.yaml cannot be read: {error}") from error
    loops = config.get("loop", {}) if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(loops, Mapping):
        raise ConfigError("its config.yaml is not the configuration of a run")
    declared = [built(node, f"loop.{name}") for name, node in loops.items() if node]
    arguments: dict[str, Any] = {
        name: built(config[name], name)
        for name in ("pacing", "privacy", "secure", "training")
        if config.get(name)
    }
    autonomous = Autonomous(
        built(config["strategy"], "strategy") if config.get("strategy") else None,
        loops=declared,
        **arguments,
    )
    return tuple(declared), autonomous.hubs
