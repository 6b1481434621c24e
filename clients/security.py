"""What a node of a federation with identities holds: its key, the roster, and its own settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from daafl.secure.identity import Identity
from daafl.secure.roster import Roster
from daafl.secure.settings import Security


@dataclass(frozen=True)
class NodeSecurity:
    """A node's side of a federation in which updates are signed or hidden.

    All of it comes from the node's own configuration, nothing from the coordinator.

    Parameters
    ----------
    settings
        How updates leave the node. It answers questions of this protocol only.
    roster
        Who belongs to the federation, verified.
    identity_of
        Returns the key of a node, by number; a real node has one, a simulated process many.
    """

    settings: Security
    roster: Roster
    identity_of: Callable[[int], Identity] = field(repr=False)
