"""Nodes that a grid knows by itself, so that nobody has to be greeted one by one.

A simulated federation of a million nodes is a range of ids: what there is to know about a node is
looked up when the node is drawn. Nothing here takes time or memory in proportion to their number.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Logical ids of nodes; shape [k]."""


class Registry(Protocol):
    """All nodes of a federation, by their logical ids ``0 ... num_nodes - 1``."""

    @property
    def num_nodes(self) -> int:
        """Number of nodes, whether they are online or not."""

    def address(self, nodes: Ids) -> Ids:
        """Return Flower's ids of nodes; shape [k]."""

    def num_examples(self, nodes: Ids) -> Ids:
        """Return how many training examples nodes hold; shape [k]."""

    def online(self, nodes: Ids) -> NDArray[np.bool_]:
        """Return which of the nodes can be asked to work now; shape [k]."""


@runtime_checkable
class RegisteringGrid(Protocol):
    """A grid that may know its nodes by itself."""

    @property
    def registered(self) -> Registry | None:
        """All nodes; ``None`` if they are to be greeted one by one."""


def registry_of(grid: Grid) -> Registry | None:
    """Return the registry of a grid, if it has one."""
    return grid.registered if isinstance(grid, RegisteringGrid) else None
