"""What a node of a federation with keys holds: its own, and the roster of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import Context

from daafl.clients.identity import identity
from daafl.secure.identity import Identity
from daafl.secure.roster import Roster
from daafl.secure.simulated import SimulatedKeys


@dataclass(frozen=True)
class NodeKeys:
    """A node's key and the keys of its federation.

    Both come from the node's own configuration, nothing from the coordinator.

    Parameters
    ----------
    identity
        The node's key.
    roster
        Who belongs to the federation, verified.
    """

    identity: Identity
    roster: Roster = field(repr=False)


KeysOf = Callable[[Context], NodeKeys]
"""Returns the keys of the node that has a `Context`; a process may play many nodes."""


@dataclass(frozen=True)
class KeysOfSimulated:
    """Gives every simulated node the key that its partition has."""

    keys: SimulatedKeys
    roster: Roster = field(repr=False)

    def __call__(self, context: Context) -> NodeKeys:
        """Return the keys of a simulated node."""
        return NodeKeys(self.keys.identity(identity(context).node), self.roster)
