"""Vouches for all nodes of a simulated federation at once, so that nobody greets a million."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.cohorts import CohortApp
from daafl.simulation.node import FIRST_NODE_ID
from daafl.simulation.timeline import Timeline
from daafl.simulation.world import World


@dataclass(frozen=True)
class SimulatedNodes:
    """Vouches for all nodes of a grid at once; see `daafl.strategies.registry.Registry`."""

    world: World
    cohorts: CohortApp
    timeline: Timeline

    @property
    def num_nodes(self) -> int:
        """Number of nodes; their logical ids are their partitions."""
        return self.world.num_nodes

    def address(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return Flower's ids of nodes."""
        return nodes + FIRST_NODE_ID

    def num_examples(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many training examples nodes hold."""
        return self.cohorts.num_examples(nodes.tolist())

    def online(self, nodes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the nodes can be asked to work now."""
        return self.world.online(nodes, self.timeline.now_s)
