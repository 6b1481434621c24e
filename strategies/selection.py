"""Which nodes take part: facts about nodes, and the rule that draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class NodeFacts:
    """What the coordinator knows about a node.

    Parameters
    ----------
    node
        Logical id, stable over reconnects.
    address
        Flower's id of the node in this run.
    num_examples
        Training examples the node says it holds.
    software
        Name and version of the node's software; empty where nobody said.
    """

    node: int
    address: int
    num_examples: int
    software: str


class Selection(Protocol):
    """Draws nodes for a cohort; must be a pure function of its arguments."""

    def __call__(
        self, candidates: Sequence[NodeFacts], count: int, rng: np.random.Generator
    ) -> list[int]:
        """Return at most ``count`` logical ids out of ``candidates``."""


@runtime_checkable
class Drawable(Protocol):
    """Candidates that can be drawn from without looking at each of them."""

    def drawn(self, count: int, rng: np.random.Generator) -> list[int]:
        """Return what `uniform` would return if it looked at each candidate."""


def uniform(candidates: Sequence[NodeFacts], count: int, rng: np.random.Generator) -> list[int]:
    """Return ``count`` nodes drawn uniformly without replacement, in ascending order.

    The order is fixed because updates combine in the order of their tickets, and a sum of
    floats depends on it.

    Examples
    --------
    >>> nodes = [NodeFacts(node, node, 8, "") for node in range(5)]
    >>> uniform(nodes, 5, np.random.default_rng(0))
    [0, 1, 2, 3, 4]
    """
    if isinstance(candidates, Drawable):
        return candidates.drawn(count, rng)
    nodes = sorted(facts.node for facts in candidates)
    if count >= len(nodes):
        return nodes
    chosen = rng.choice(len(nodes), size=count, replace=False)
    return sorted(nodes[index] for index in chosen)
