"""What is over, and what a run that starts again has to run again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daafl.simulation.flight import Event, Gathering, Group
from daafl.simulation.memory import Memory
from daafl.simulation.node_table import NodeRows, NodeTable
from daafl.simulation.traffic import Traffic


@dataclass(frozen=True, eq=False)
class Past:
    """Where a run can start again.

    Attributes
    ----------
    nodes
        Nodes as they were before what is `out`.
    out
        Messages that are not over, or that ran together with such or behind such at one node, in
        the order of sending; they are to be run again.
    traffic
        Of everything that is not in `out`.
    """

    nodes: NodeRows
    out: tuple[Group, ...]
    traffic: Traffic


class History:
    """Forgets messages in the order in which nodes ran them.

    A node whose earlier message is still out keeps the later ones, and messages that ran together
    go together: whoever starts from a `Past` runs exactly what ran before.

    Parameters
    ----------
    table
        The nodes as they are before the first message; it is changed.
    """

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._traffic = Traffic()
        self._seen: dict[int, tuple[int, Memory | None]] = {}  # last number that is over, and state
        self._groups: dict[int, Group] = {}  # by the number of their first message
        self._of: dict[int, Group] = {}  # by the number of a flight that is not over
        self._pending: dict[int, deque[Group]] = {}  # by node, in the order of sending

    @property
    def traffic(self) -> Traffic:
        """Bytes and costs of everything that is over."""
        over = (event.traffic for event in self.events() if event.is_over)
        return sum(over, self._traffic)

    def group(self, event: Event) -> Group:
        """Return the group of a message that is not over."""
        return self._of[event.number]

    def events(self) -> list[Event]:
        """Return the messages that are not forgotten, in the order of sending."""
        return [event for number in sorted(self._groups) for event in self._groups[number].events]

    def state(self, partition: int) -> Memory | None:
        """Return what a node keeps after its last message that is over."""
        if partition in self._seen:
            return self._seen[partition][1]
        return self._table.states.get(partition)

    def past(self) -> Past:
        """Return where a run can start again."""
        out = tuple(self._groups[number] for number in sorted(self._groups))
        return Past(self._table.rows(), out, self._traffic)

    def load(self, past: Past) -> None:
        """Go on from an earlier history; what was out is to be filed again."""
        self._table.load(past.nodes)
        self._traffic = past.traffic

    def file(self, group: Group) -> None:
        """Take note of messages that were sent."""
        events: Sequence[Event] = group.events
        self._groups[events[0].number] = group
        self._of.update((event.number, group) for event in events)
        for partition in group.partitions:
            self._pending.setdefault(partition, deque()).append(group)

    def close(self, event: Event) -> None:
        """Take note that everything that becomes of a message has happened."""
        event.is_over = True
        group = self._of.pop(event.number)
        if not isinstance(event, Gathering) and math.isfinite(event.reaches_at_s):
            last, _ = self._seen.get(event.partition, (0, None))
            if event.number > last:
                self._seen[event.partition] = (event.number, event.state)
        if group.is_over:
            self._retire(group)

    def _retire(self, group: Group) -> None:
        """Forget a group, and those behind it, unless one before it is still there."""
        candidates = [group]
        while candidates:
            group = candidates.pop()
            partitions = group.partitions
            if not group.is_over or any(self._pending[p][0] is not group for p in partitions):
                continue
            for partition in partitions:
                queue = self._pending[partition]
                queue.popleft()
                if queue:
                    candidates.append(queue[0])
                else:
                    del self._pending[partition]
            self._forget(group)

    def _forget(self, group: Group) -> None:
        table = self._table
        gathering = group.gathering
        if gathering is not None:
            table.put(gathering.call.partitions, gathering.free_at_s, gathering.bodies)
        ran = [flight for flight in group.flights if math.isfinite(flight.reaches_at_s)]
        if ran:
            free_at_s = np.array([flight.free_at_s for flight in ran])
            bodies = np.stack([flight.body for flight in ran])
            table.put([flight.partition for flight in ran], free_at_s, bodies)
        for flight in ran:
            if flight.state is not None:
                table.states[flight.partition] = flight.state
        self._traffic = sum((event.traffic for event in group.events), self._traffic)
        del self._groups[group.events[0].number]
