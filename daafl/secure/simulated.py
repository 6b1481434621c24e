"""Keys for nodes that are simulated: made when a run starts, of use to nobody afterwards."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import lru_cache

from daafl.secure.encoding import encoded
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.identity import Identity
from daafl.secure.masks import derived
from daafl.secure.roster import Roster


@dataclass(frozen=True)
class SimulatedKeys:
    """The identities of simulated nodes, each a function of one random value.

    Unlike the keys of real nodes they are handed to the processes that play the nodes.

    Parameters
    ----------
    root
        32 random bytes.
    """

    root: bytes = field(repr=False)

    @classmethod
    def new(cls) -> SimulatedKeys:
        """Return keys that no run had before."""
        return cls(secrets.token_bytes(SEED_BYTES))

    def identity(self, node: int) -> Identity:
        """Return the identity of a node."""
        return _identity(self.root, node)

    def roster(self, federation: str, num_nodes: int) -> Roster:
        """Return the roster of nodes 0 to ``num_nodes`` less one; about 50 us for each."""
        members = {node: self.identity(node).public for node in range(num_nodes)}
        return Roster(federation, 1, Identity.new().public, members)


@lru_cache(maxsize=4096)
def _identity(root: bytes, node: int) -> Identity:
    return Identity(derived(Secret(root), encoded("simulated identity", node)))
