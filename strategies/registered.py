"""Who takes part on a grid that knows its nodes: all of them, and nobody is greeted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from daafl.errors import FederationError
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.pool import Pool
from daafl.strategies.registry import Registry
from daafl.strategies.roster import RosterState
from daafl.strategies.selection import NodeFacts

_SAMPLE = 4096  # nodes looked at together to see whether enough are online


class RegisteredRoster:
    """Logical nodes of a registry, in place of a `daafl.strategies.roster.Roster`.

    It gives out as many ticket ids as the greetings of all nodes would have taken. Draws hang on
    these ids, so a federation draws the same nodes whether it was greeted or is registered.

    Parameters
    ----------
    registry
        All nodes.
    mailbox
        Gives out ticket ids and keeps time.
    min_nodes, node_timeout_s
        Nodes without which the run cannot go on, and seconds to wait for them.
    """

    def __init__(
        self, registry: Registry, mailbox: Mailbox, *, min_nodes: int, node_timeout_s: float
    ) -> None:
        self._registry = registry
        self._mailbox = mailbox
        self._min_nodes = min_nodes
        self._node_timeout_s = node_timeout_s
        self._num_counted = 0  # nodes for which a ticket id has been given out

    def __len__(self) -> int:
        return self._registry.num_nodes

    @property
    def nodes(self) -> Sequence[int]:
        """Logical ids of all nodes, ascending."""
        return range(self._registry.num_nodes)

    @property
    def min_nodes(self) -> int:
        """Nodes without which the run cannot go on."""
        return self._min_nodes

    def facts(self, nodes: Iterable[int]) -> list[NodeFacts]:
        """Return what is known about those of ``nodes`` that there are."""
        everyone = self.nodes
        known = [node for node in nodes if node in everyone]
        ids = np.array(known, np.int64)
        addresses = self._registry.address(ids).tolist()
        counts = self._registry.num_examples(ids).tolist()
        return [
            NodeFacts(node, address, count, "")
            for node, address, count in zip(known, addresses, counts, strict=True)
        ]

    def pool(self, members: Sequence[int], out: Collection[int]) -> Pool:
        """Return the members that are online now, less those that are ``out``."""
        return Pool(members, out, self.facts, self._registry.online)

    def num_examples(self, nodes: Sequence[int]) -> int:
        """Return how many examples ``nodes`` hold together."""
        return int(self._registry.num_examples(np.array(nodes, np.int64)).sum())

    def state(self) -> RosterState:
        """Return what a later run must know: how many ticket ids went to nodes."""
        return RosterState(num_registered=self._num_counted)

    def load(self, state: RosterState, *, is_same_run: bool) -> None:
        """Go on from an earlier `state`; the registry is there in any case."""
        self._num_counted = state.num_registered

    def refresh(self) -> None:
        """Wait if too few nodes are online.

        Raises
        ------
        FederationError
            As `gather` does.
        """
        self.gather()

    def gather(self) -> None:
        """Wait until enough nodes are online.

        Raises
        ------
        FederationError
            If there are fewer than ``min_nodes`` in time; it says how many.
        """
        self._mailbox.skip_ids(len(self) - self._num_counted)
        self._num_counted = len(self)
        clock = self._mailbox.clock
        deadline_s = clock.now_s() + self._node_timeout_s
        while (num_online := self._counted_online()) < self._min_nodes:
            if clock.now_s() >= deadline_s or len(self) < self._min_nodes:
                raise FederationError(
                    f"only {num_online} of at least {self._min_nodes} nodes were online within "
                    f"{self._node_timeout_s:g} s; use more nodes, or lower min_nodes"
                )
            clock.wait(1.0)

    def _counted_online(self) -> int:
        """Return how many nodes are online; it stops counting at ``min_nodes``."""
        count = 0
        for start in range(0, len(self), _SAMPLE):
            nodes = np.arange(start, min(start + _SAMPLE, len(self)))
            count += int(self._registry.online(nodes).sum())
            if count >= self._min_nodes:
                break
        return count
