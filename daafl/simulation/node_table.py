"""What simulated nodes are like between two messages, in columns: a million fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.memory import Memory
from daafl.simulation.world import Bodies, Nodes, Seconds, World


@dataclass(frozen=True, eq=False)
class NodeRows:
    """The nodes of a table that have worked.

    Attributes
    ----------
    partitions, free_at_s, bodies
        One row per node that has worked, in ascending order.
    states
        What they keep in `Context.state`, by partition; nothing for most.
    """

    partitions: Nodes
    free_at_s: Seconds
    bodies: Bodies
    states: dict[int, Memory]


class NodeTable:
    """When each node is free, its body, and what it keeps in `Context.state`.

    Parameters
    ----------
    world
        Gives the bodies that nodes start with.
    """

    def __init__(self, world: World) -> None:
        everybody = np.arange(world.num_nodes)
        self.free_at_s: Seconds = np.zeros(world.num_nodes)
        self.bodies: Bodies = np.array(world.bodies(everybody))
        self.states: dict[int, Memory] = {}
        self._has_worked: NDArray[np.bool_] = np.zeros(world.num_nodes, np.bool_)

    def copied(self) -> Self:
        """Return a table with the same contents."""
        twin = object.__new__(type(self))
        twin.free_at_s, twin.bodies = self.free_at_s.copy(), self.bodies.copy()
        twin.states, twin._has_worked = dict(self.states), self._has_worked.copy()
        return twin

    def put(self, partitions: Nodes | Sequence[int], free_at_s: Seconds, bodies: Bodies) -> None:
        """Take down what work has left in nodes."""
        self.free_at_s[partitions] = free_at_s
        self.bodies[partitions] = bodies
        self._has_worked[partitions] = True

    def rows(self) -> NodeRows:
        """Return the nodes that have worked."""
        partitions = np.flatnonzero(self._has_worked)
        return NodeRows(
            partitions, self.free_at_s[partitions], self.bodies[partitions], dict(self.states)
        )

    def load(self, rows: NodeRows) -> None:
        """Take over the rows of an earlier table."""
        self.put(rows.partitions, rows.free_at_s, rows.bodies)
        self.states.update(rows.states)
