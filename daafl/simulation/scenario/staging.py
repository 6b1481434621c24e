"""A federation as a scenario finds it: its task, its world and its attackers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daafl.errors import ConfigError
from daafl.flower import Mod
from daafl.learning.task import Task
from daafl.simulation.attacks import Attack, hostile
from daafl.simulation.devices import Devices
from daafl.simulation.scenario.reading import read_scenario
from daafl.simulation.scenario.scenario import Scenario
from daafl.simulation.world import World


@dataclass(frozen=True, eq=False)
class Staged:
    """What a simulated federation is made of.

    Parameters
    ----------
    task
        What it trains, with drifting data if the scenario has it.
    world
        What its nodes run into; ``None`` for the default of the grid.
    mods
        What makes nodes hostile, to go around the ordinary app.
    attackers
        Nodes that are hostile at any time, ascending.
    """

    task: Task
    world: World | None
    mods: tuple[Mod, ...]
    attackers: tuple[int, ...]


def staged(
    scenario: Scenario | Path | str | None,
    *,
    task: Task,
    world: World | None,
    attack: Attack | None,
    num_nodes: int,
    seed: int,
) -> Staged:
    """Return a federation in which a scenario is played.

    Parameters
    ----------
    scenario
        What happens, or the file that tells; ``None`` for nothing.
    task, world
        As they would be.
    attack
        An attack beside those of the scenario; ``None`` for none.
    num_nodes
        Nodes of the federation.
    seed
        Seed of the scenario, unless its file has one.

    Raises
    ------
    ConfigError
        If the scenario does not fit the federation, or a node is hostile twice.
    DataError
        If the task's data cannot drift as the scenario has it.
    """
    attacks: tuple[Attack, ...] = () if attack is None else (attack,)
    if scenario is not None:
        if not isinstance(scenario, Scenario):
            scenario = read_scenario(scenario, num_nodes=num_nodes, seed=seed)
        world = scenario.world(Devices.uniform(num_nodes) if world is None else world)
        task = scenario.drifting(task)
        attacks += scenario.attacks()
        if attack is not None:
            _refuse_common(attack.attackers(num_nodes), scenario.hostile_nodes)
    attackers = frozenset[int]().union(*(one.attackers(num_nodes) for one in attacks))
    mods = tuple(hostile(one, task, num_nodes) for one in attacks)
    return Staged(task, world, mods, tuple(sorted(attackers)))


def _refuse_common(by_attack: tuple[int, ...], by_scenario: tuple[int, ...]) -> None:
    common = sorted(frozenset(by_attack) & frozenset(by_scenario))
    if common:
        raise ConfigError(
            f"node {common[0]} is hostile by the attack and by the scenario; it can be so by one "
            "of them"
        )
