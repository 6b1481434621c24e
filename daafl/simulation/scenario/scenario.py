"""What goes wrong in a run, and when."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from daafl.keyed_random import mixed
from daafl.learning.task import Task
from daafl.simulation.attacks import Attack
from daafl.simulation.scenario.attackers import ATTACKER_KINDS, Attackers, attack_of
from daafl.simulation.scenario.contradictions import refuse_contradictions
from daafl.simulation.scenario.drifting import Drifting
from daafl.simulation.scenario.drifts import DRIFT_KINDS, Drift
from daafl.simulation.scenario.events import FAULT_KINDS, Event, NodeEvent, Partition
from daafl.simulation.scenario.faulty import Faulty
from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.node_set import NodeSet, Ranges
from daafl.simulation.scenario.rules import shown, text, whole
from daafl.simulation.scenario.scheduled import Scheduled
from daafl.simulation.world import World

KINDS: Final = {**FAULT_KINDS, **ATTACKER_KINDS, **DRIFT_KINDS}
"""Everything that can happen, by the word that stands for it in a file."""

MAX_EVENTS: Final = 256
MAX_SEED: Final = 2**64 - 1

_STREAM: Final = 0x5CE1  # keeps the chance of a scenario apart from other chance in a run

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Scenario:
    """Events on a schedule, bound to a federation of so many nodes.

    Parameters
    ----------
    num_nodes
        Nodes of the federation.
    events
        What happens.
    seed
        Seed of all chance in it.
    name, description
        For people.

    Raises
    ------
    Mistake
        If an event names nodes that do not exist, or two events contradict each other.

    Examples
    --------
    >>> from daafl.simulation.scenario import LinkCut, MessageLoss
    >>> storm = Scenario(30, [MessageLoss(probability=0.1), LinkCut(at_s=60.0, nodes="0-9")])
    >>> storm.hostile_nodes
    ()
    """

    num_nodes: int
    events: Sequence[Event] = field(default=())
    seed: int = 0
    name: str = "scenario"
    description: str = ""

    def __post_init__(self) -> None:
        """Check the values, and the events with each other."""
        for key, rule in (
            ("num_nodes", whole(least=1, most=2**40)),
            ("seed", whole(least=0, most=MAX_SEED)),
            ("name", text(longest=100)),
            ("description", text(longest=10_000)),
        ):
            value: Any = getattr(self, key)
            try:
                rule(value)
            except ValueError as error:
                raise Mistake(f"{key} is {shown(value)}, but {error}", key=key) from error
        if len(self.events) > MAX_EVENTS:
            raise Mistake(
                f"events has {len(self.events)} entries, but must have at most {MAX_EVENTS}",
                key="events",
            )
        object.__setattr__(self, "events", tuple(self.events))
        refuse_contradictions(self.scheduled)

    @cached_property
    def scheduled(self) -> tuple[Scheduled[Event], ...]:
        """The events with the nodes that they concern here."""
        return tuple(
            self._bound(index, event, int(mixed(_STREAM, self.seed, index)))
            for index, event in enumerate(self.events)
        )

    @property
    def digest(self) -> str:
        """A short text that differs between scenarios that differ."""
        parts = (self.num_nodes, self.seed, self.events)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def world(self, world: World) -> World:
        """Return a world with the faults of this scenario.

        All events count for its digest, so that a run goes on with the same scenario or not at
        all.

        Raises
        ------
        Mistake
            If the world has another number of nodes.
        """
        if world.num_nodes != self.num_nodes:
            raise Mistake(
                f"num_nodes is {self.num_nodes}, but the federation has {world.num_nodes} nodes",
                key="num_nodes",
            )
        return Faulty(world, self.scheduled, self.seed) if self.events else world

    def attacks(self) -> tuple[Attack, ...]:
        """Return the attacks, each with its nodes and times."""
        return tuple(attack_of(scheduled) for scheduled in self._of(Attackers))

    @property
    def hostile_nodes(self) -> tuple[int, ...]:
        """Nodes that are attackers at any time, ascending."""
        hostile = {
            int(node) for scheduled in self._of(Attackers) for node in scheduled.members.members()
        }
        return tuple(sorted(hostile))

    def drifting(self, task: Task) -> Task:
        """Return the task with data that drifts as the scenario has it.

        Raises
        ------
        DataError
            If the task's data cannot drift that way.
        """
        drifts = self._of(Drift)
        if not drifts:
            return task
        drifting = task.drifting(Drifting(drifts))
        for scheduled in drifts:
            # Tried out here, so that it does not fail in the middle of a run.
            for time_s in scheduled.event.step_times_s()[-1:]:
                drifting.evaluation_data(time_s)
                drifting.node_data(int(scheduled.members.members()[0]), self.num_nodes, time_s)
        return drifting

    def _of(self, kind: type[E]) -> list[Scheduled[E]]:
        return [
            Scheduled(item.event, item.members, item.key)
            for item in self.scheduled
            if isinstance(item.event, kind)
        ]

    def _bound(self, index: int, event: Event, key: int) -> Scheduled[Event]:
        ranges: Ranges = ((0, self.num_nodes - 1),)
        share, name = 1.0, "nodes"
        if isinstance(event, Partition):
            name = "groups"
            ranges = tuple(sorted(pair for group in event.groups for pair in group))
        elif isinstance(event, NodeEvent):
            ranges = ranges if isinstance(event.nodes, str) else event.nodes
            share = 1.0 if event.fraction is None else event.fraction
        if ranges[-1][1] >= self.num_nodes:
            raise Mistake(
                f"{name} names node {max(ranges[-1][0], self.num_nodes)}, but nodes are 0 to "
                f"{self.num_nodes - 1}",
                key=name,
                event=index,
            )
        return Scheduled(event, NodeSet(self.num_nodes, ranges, share, key), key)
