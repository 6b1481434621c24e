"""Recordings of when nodes were online, instead of what their class says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.presence import Spell
from daafl.simulation.world import Nodes, Seconds


class TraceEvent(NamedTuple):
    """A node comes online, with a speed and bandwidth that hold from then on, or leaves.

    Attributes
    ----------
    node, at_s
        Who and when.
    is_online
        Whether it comes or leaves.
    speed
        Speed relative to the node's own; ``None`` for as before.
    bandwidth_mbps
        What bandwidth it has at most in both directions; ``None`` for as before.
    """

    node: int
    at_s: float
    is_online: bool
    speed: float | None = None
    bandwidth_mbps: float | None = None


class Factors(NamedTuple):
    """What a recording says of speed and bandwidth; arrays of shape [k]."""

    speed: NDArray[np.float64]
    bandwidth_mbps: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trace:
    """Stays online of some nodes, from time 0 on, and their speeds; made by `Trace.of`.

    Attributes
    ----------
    nodes
        The recorded nodes, ascending; their position is the row in everything below.
    stays
        Row, begin, end and the seconds online before it; shape [stays, 4], in order.
    changes
        Row, time, speed and bandwidth from then on; shape [changes, 4], in order.
    """

    nodes: Nodes
    stays: NDArray[np.float64]
    changes: NDArray[np.float64]

    @classmethod
    def of(cls, events: Iterable[TraceEvent]) -> Self:
        """Return the recording of events, which are in order for every node.

        Before its first event a node is online if it leaves then, and else not; after its last
        one it stays as it is.

        Raises
        ------
        ValueError
            If there are no events.

        Examples
        --------
        >>> trace = Trace.of([TraceEvent(7, 60.0, True), TraceEvent(7, 90.0, False)])
        >>> trace.stays[:, 1:].tolist()
        [[60.0, 90.0, 0.0]]
        """
        of_node: dict[int, list[TraceEvent]] = {}
        for event in events:
            of_node.setdefault(event.node, []).append(event)
        if not of_node:
            raise ValueError("a trace needs at least one event")
        nodes = sorted(of_node)
        stays = [row for index, node in enumerate(nodes) for row in _stays(index, of_node[node])]
        changes = [r for index, node in enumerate(nodes) for r in _changes(index, of_node[node])]
        return cls(np.array(nodes, np.int64), _rows(stays), _rows(changes))

    @cached_property
    def digest(self) -> str:
        """A short text that differs between recordings."""
        said = hashlib.blake2b(self.nodes.tobytes(), digest_size=16)
        said.update(self.stays.tobytes())
        said.update(self.changes.tobytes())
        return said.hexdigest()

    def over(self, spell: Spell, nodes: Nodes, at_s: Seconds) -> Spell:
        """Return spells in which those of recorded nodes are the recorded ones."""
        rows, is_recorded = self._rows_of(nodes)
        found = np.searchsorted(self._ends, _keys(rows, at_s), side="right")
        stays = self.stays[np.minimum(found, len(self.stays) - 1)]
        returns = (found < len(self.stays)) & (stays[:, 0] == rows)
        return Spell(
            np.where(is_recorded, np.where(returns, stays[:, 1], np.inf), spell.begins_at_s),
            np.where(is_recorded, np.where(returns, stays[:, 2], np.inf), spell.ends_at_s),
            np.where(is_recorded & returns, found, spell.position),
        )

    def finished(
        self,
        done_at_s: Seconds,
        spell: Spell,
        nodes: Nodes,
        begins_at_s: Seconds,
        lasts_s: Seconds,
    ) -> Seconds:
        """Return ends of work in which those of recorded nodes are the recorded ones.

        Work begins in a spell of `over` and pauses between spells. It ends at no finite time on a
        node that does not come back for long enough.
        """
        rows, is_recorded = self._rows_of(nodes)
        goes_on = np.flatnonzero(is_recorded & (begins_at_s + lasts_s > spell.ends_at_s))
        done_at_s = np.where(is_recorded, begins_at_s + lasts_s, done_at_s)
        if len(goes_on) == 0:
            return done_at_s
        first = self.stays[spell.position[goes_on]]
        online_s = first[:, 3] + (begins_at_s[goes_on] - first[:, 1]) + lasts_s[goes_on]
        found = np.searchsorted(self._begins, _keys(rows[goes_on], online_s), side="left") - 1
        last = self.stays[found]
        ends_at_s = last[:, 1] + (online_s - last[:, 3])
        done_at_s[goes_on] = np.where(ends_at_s <= last[:, 2], ends_at_s, np.inf)
        return done_at_s

    def factors(self, nodes: Nodes, at_s: Seconds) -> Factors:
        """Return speed and bandwidth of nodes at times; 1 and inf where nothing is recorded."""
        if len(self.changes) == 0:
            return Factors(np.ones(len(nodes)), np.full(len(nodes), np.inf))
        rows, is_recorded = self._rows_of(nodes)
        changes = self.changes[
            np.searchsorted(self._changed, _keys(rows, at_s), side="right") - 1
        ]  # position -1 is the last change, which is of this row only if it is before the time
        is_known = is_recorded & (changes[:, 0] == rows) & (changes[:, 1] <= at_s)
        return Factors(
            np.where(is_known, changes[:, 2], 1.0), np.where(is_known, changes[:, 3], np.inf)
        )

    @cached_property
    def _begins(self) -> NDArray[np.complex128]:
        """Row and seconds online before each stay, in order."""
        return _keys(self.stays[:, 0], self.stays[:, 3])

    @cached_property
    def _ends(self) -> NDArray[np.complex128]:
        """Row and end of each stay, in order."""
        return _keys(self.stays[:, 0], self.stays[:, 2])

    @cached_property
    def _changed(self) -> NDArray[np.complex128]:
        """Row and time of each change, in order."""
        return _keys(self.changes[:, 0], self.changes[:, 1])

    def _rows_of(self, nodes: Nodes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of nodes, and which of the nodes are recorded."""
        rows = np.searchsorted(self.nodes, nodes)
        is_recorded = self.nodes[np.minimum(rows, len(self.nodes) - 1)] == nodes
        return rows, is_recorded


def _keys(rows: NDArray[Any], values: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return pairs that numpy orders by row, then by value, as it orders complex numbers."""
    keys = np.empty(len(rows), np.complex128)
    keys.real, keys.imag = rows, values
    return keys


def _stays(row: int, events: Sequence[TraceEvent]) -> Iterator[tuple[float, ...]]:
    """Yield the stays of a node as rows of `Trace.stays`."""
    begins_at_s = None if events[0].is_online else 0.0
    online_s = 0.0
    for event in events:
        if event.is_online and begins_at_s is None:
            begins_at_s = event.at_s
        elif not event.is_online and begins_at_s is not None:
            if event.at_s > begins_at_s:
                yield row, begins_at_s, event.at_s, online_s
                online_s += event.at_s - begins_at_s
            begins_at_s = None
    if begins_at_s is not None:
        yield row, begins_at_s, math.inf, online_s


def _changes(row: int, events: Sequence[TraceEvent]) -> Iterator[tuple[float, ...]]:
    """Yield the changes of a node's speed and bandwidth as rows of `Trace.changes`."""
    speed, bandwidth_mbps = 1.0, math.inf
    for event in events:
        if event.speed is not None or event.bandwidth_mbps is not None:
            speed = speed if event.speed is None else event.speed
            bandwidth_mbps = (
                bandwidth_mbps if event.bandwidth_mbps is None else event.bandwidth_mbps
            )
            yield row, event.at_s, speed, bandwidth_mbps


def _rows(rows: list[tuple[float, ...]]) -> NDArray[np.float64]:
    table = np.array(rows, np.float64).reshape(len(rows), 4)
    table.flags.writeable = False
    return table
