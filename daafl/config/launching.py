"""Builds the parts of a configured run and starts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from daafl.autonomy.knowledge import Knowledge
from daafl.config.building import built, called
from daafl.config.checking import check_call
from daafl.config.composition import Composition
from daafl.config.overrides import OWN_TASK
from daafl.config.own_task import came_through, explained, file_of_task
from daafl.config.root import Root
from daafl.errors import ConfigError, DaaflError, DataError, FederationError, StoreError
from daafl.federation import RunResult, run
from daafl.learning.task import Task
from daafl.observability.events import Observer
from daafl.observability.progress import Mode
from daafl.simulation.scenario import Scenario, read_scenario, scenario_of
from daafl.strategies import Override

FRESH: Final = "fresh"


def parts(composition: Composition) -> dict[str, Any]:
    """Return the arguments of `daafl.run` that a configuration stands for, the task among them.

    Raises
    ------
    ConfigError
        If a part cannot be built, or the data cannot be divided among that many nodes.
    """
    config, root = composition.config, composition.root
    # What can be refused without loading data comes first; the task contains the partitioner.
    arguments: dict[str, Any] = {
        "pacing": _part(config, "pacing"),
        "exchange": _exchange(config.get("exchange")),
        "secure": _part(config, "secure"),
        "privacy": _part(config, "privacy"),
        "training": _part(config, "training"),
        "stopping": _part(config, "stopping"),
        "loops": [
            built(node, f"loop.{name}") for name, node in config.get("loop", {}).items() if node
        ],
        "overrides": [_override(item, index) for index, item in enumerate(root.overrides)],
        "fleet": _part(config, "fleet"),
        "attack": _part(config, "attack"),
        "strategy": _part(config, "strategy"),
        "grid": _part(config, "grid"),
        "num_nodes": root.num_nodes,
        "num_rounds": root.num_rounds,
        "evaluate_every": root.evaluate_every,
        "workers": root.workers,
        "trainer": root.trainer,
        "baseline": root.baseline,
        "checkpoint_every": root.checkpoint_every,
        "seed": root.seed,
        "knowledge": _knowledge(root.knowledge),
    }
    _part(config, "partition")
    arguments["scenario"] = scenario = _scenario(config.get("scenario"), root)
    arguments["task"] = task = _part(config, "task")
    if not isinstance(task, Task):
        raise ConfigError(f"task is {type(task).__name__}, but must be a Task; choose task=NAME")
    with _own_code(composition, task, ConfigError):
        try:
            task.node_data(0, root.num_nodes)
        except DataError as error:
            raise ConfigError(f"task with num_nodes={root.num_nodes}: {error}") from error
        if scenario is not None:
            try:
                scenario.drifting(task)
            except DataError as error:
                raise ConfigError(f"scenario {scenario.name}: {error}") from error
    return {name: value for name, value in arguments.items() if value is not None}


def launch(
    composition: Composition,
    arguments: Mapping[str, Any],
    *,
    output_dir: Path,
    progress: Mode | Observer,
    resume: bool = False,
) -> RunResult:
    """Run what `parts` has built; ``config.yaml`` tells how.

    Parameters
    ----------
    composition, arguments
        The configuration, and what it stands for.
    output_dir
        Folder of the run.
    progress
        What to show.
    resume
        Whether to go on with the run in that folder.

    Raises
    ------
    DaaflError
        If the run fails. What a user's own task raises becomes a `FederationError` with the place.
    """
    shown = {**composition.shown, "output_dir": str(output_dir)}
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    with _own_code(composition, arguments["task"], FederationError):
        return run(
            **arguments, output_dir=output_dir, progress=progress, config=text, resume=resume
        )


@contextmanager
def _own_code(composition: Composition, task: Task, kind: type[DaaflError]) -> Iterator[None]:
    """Turn what a user's own task raises into one sentence that has the file and the line."""
    file = file_of_task(task) if composition.choices.get("task") == OWN_TASK else None
    try:
        yield
    except DaaflError:
        raise
    except Exception as error:  # a user's code may raise anything
        if file is None or not came_through(error, file):
            raise
        raise kind(f"your task failed: {explained(error, file)}") from error


def _part(config: Mapping[str, Any], name: str) -> Any:
    """Return the object of a group; ``None`` if the group is off."""
    node = config.get(name)
    return built(node, name) if node else None


def _exchange(node: Any) -> str | None:
    """Return the name of an exchange; ``None`` for the usual one."""
    return str(node["name"]) if isinstance(node, Mapping) and "name" in node else None


def _scenario(node: Any, root: Root) -> Scenario | None:
    """Return the scenario of a group's option, or of a file of one's own; ``None`` for none."""
    if not node:
        return None
    if set(node) == {"path"}:
        return read_scenario(str(node["path"]), num_nodes=root.num_nodes, seed=root.seed)
    return scenario_of(node, num_nodes=root.num_nodes, seed=root.seed)


def _knowledge(text: str) -> Path | None:
    """Return the path of a knowledge base that can be used; ``None`` for a fresh one."""
    if text == FRESH:
        return None
    try:
        with Knowledge.open(text):
            return Path(text)
    except StoreError as error:
        raise ConfigError(str(error)) from error


def _override(item: Any, index: int) -> Override:
    path = f"overrides[{index}]"
    if not isinstance(item, Mapping):
        raise ConfigError(
            f"{path} is {item!r}, but must be like {{step: 10, knob: lr, value: 3.0}}"
        )
    check_call(Override, item, path)
    override: Override = called(Override, item, path)
    return override
