"""What a simulated federation runs into: how long things take, and what goes wrong.

A `World` is made of pure functions of nodes, message numbers and virtual times, over arrays, so
that a cohort of thousands costs one call. What a device carries from one piece of work to the next,
such as its charge, goes in and comes out as its *body*, a short row of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Nodes = NDArray[np.int64]
"""Partition indices of nodes; shape [k]."""

Numbers = NDArray[np.int64]
"""Numbers of messages, counted from 1 over a whole run: what random events hang on; shape [k]."""

Seconds = NDArray[np.float64]
"""Virtual times or durations; infinite for never; shape [k]."""

Bodies = NDArray[np.float64]
"""One row per node of what its past work left in it; shape [k, values], values may be 0."""


@dataclass(frozen=True, eq=False)
class Journey:
    """When messages arrive.

    Attributes
    ----------
    arrives_at_s
        Virtual time of arrival; infinite for a message that is lost.
    again_at_s
        When the same message arrives a second time, not before the first; infinite for one that
        does not.
    """

    arrives_at_s: Seconds
    again_at_s: Seconds

    @classmethod
    def once(cls, arrives_at_s: Seconds) -> Journey:
        """Return journeys without duplicates."""
        return cls(arrives_at_s, np.full(len(arrives_at_s), np.inf))


@dataclass(frozen=True, eq=False)
class Shift:
    """What became of the work on messages.

    Attributes
    ----------
    ends_at_s
        When the work is done; infinite where the node failed, which sends no reply and forgets
        what it did.
    free_at_s
        From when on the node can work again; finite.
    bodies
        The nodes' bodies after the work.
    cost
        What the work cost, in the currency of the fleet.
    """

    ends_at_s: Seconds
    free_at_s: Seconds
    bodies: Bodies
    cost: NDArray[np.float64]


class World(Protocol):
    """How long things take at which node, and what goes wrong; every method is pure.

    ``numbers`` tell messages apart and are the same when a run is resumed, so chance is a function
    of (seed of the world, what happens, number): see `daafl.keyed_random`.
    """

    @property
    def num_nodes(self) -> int:
        """Number of nodes; their indices are ``0 ... num_nodes - 1``."""

    @property
    def digest(self) -> str:
        """A short text that differs between worlds that behave differently."""

    def bodies(self, nodes: Nodes) -> Bodies:
        """Return the bodies that nodes start with at time 0."""

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        """Return which of the nodes can be asked to work at a time; shape [k]."""

    def least_seconds(self, nodes: Nodes) -> Seconds:
        """Return seconds that a message and its reply need at least; a true lower bound."""

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return when messages of so many bytes reach their nodes."""

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        """Return what becomes of local steps that nodes begin at given times."""

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return when replies of so many bytes reach the coordinator."""

    def readings(
        self, nodes: Nodes, at_s: Seconds, bodies: Bodies
    ) -> Sequence[Mapping[str, float]]:
        """Return what the sensors of nodes show; names of `daafl.sensing`.

        A device without a battery has no charge to show: what cannot be measured is absent.
        """
