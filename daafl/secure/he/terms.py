"""What all parties of a key, and of one sum under it, hold in common.

Every party builds these from what it knows itself; their digests are part of every signature, box
and tag, so that parties with different views understand nothing of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from daafl.errors import ConfigError, MessageError
from daafl.secure.encoding import digest, encoded, nodes_digest
from daafl.secure.he.packing import Packing
from daafl.secure.he.selective import Selection
from daafl.secure.he.tags import num_chunks
from daafl.secure.roster import Roster

MIN_MEMBERS: int = 2


@dataclass(frozen=True)
class EpochTerms:
    """What a key is for.

    Parameters
    ----------
    roster
        The federation's roster, verified.
    branch
        Branch of the model.
    epoch
        Number of the key on that branch; only grows.
    """

    roster: Roster = field(repr=False)
    branch: str
    epoch: int

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        return digest("he epoch", self.roster.digest, self.branch, self.epoch)

    def advertised(self, node: int, key: bytes) -> bytes:
        """Return what a node signs under its public key."""
        return encoded("he advertisement", self.digest, node, key)

    def check_signed(self, node: int, content: bytes, signature: bytes, what: str) -> None:
        """Return if ``node`` signed ``content``; see `Roster.check_signed`."""
        self.roster.check_signed(node, content, signature, what)


@dataclass(frozen=True)
class KeyGroup:
    """Who holds a key.

    Parameters
    ----------
    terms
        What it is for.
    dealer
        The member that made it.
    members
        All who hold it, ascending.

    Raises
    ------
    MessageError
        With reason ``too_few``, ``order``, ``unknown_node`` if they are fewer than two, not
        ascending, not in the roster, or without the dealer.
    """

    terms: EpochTerms
    dealer: int
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what is no group, since it may come from the network."""
        if len(self.members) < MIN_MEMBERS:
            raise MessageError("too_few", f"a key for {len(self.members)} nodes; 2 or more must be")
        if list(self.members) != sorted(set(self.members)):
            raise MessageError("order", "the members of a group are not ascending")
        for node in self.members:
            self.terms.roster.key_of(node)
        if self.dealer not in self.members:
            raise MessageError("unknown_node", f"node {self.dealer} deals a key it does not hold")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        return nodes_digest("he group", self.terms.digest, (self.dealer, *self.members))

    @property
    def quorum(self) -> int:
        """How many must sign a list before it is decrypted: a majority, so that no two are."""
        return len(self.members) // 2 + 1

    def box_info(self, node: int) -> bytes:
        """Return what the box of a member is bound to: epoch, roster, sender, receiver, members."""
        return encoded("he key box", self.digest, self.dealer, node)

    def boxed(self, node: int, dealer_key: bytes, box: bytes) -> bytes:
        """Return what the dealer signs under a box."""
        return encoded("he dealt box", self.digest, node, dealer_key, box)


@dataclass(frozen=True)
class SumTerms:
    """What an encrypted sum is about.

    Parameters
    ----------
    group
        Whose key it is under.
    round, attempt
        Version of the model, and which try at it this is; later ones are larger.
    model_hash, plan_hash
        SHA-256 of the model that was sent and of what is asked of the nodes.
    selection
        Which words of a vector are encrypted.
    packing
        How the words travel; for at least as many nodes as there are members.
    min_nodes
        Fewest nodes a sum may have.

    Raises
    ------
    ConfigError
        If packing or minimum do not fit the group.
    """

    group: KeyGroup
    round: int
    attempt: int
    model_hash: bytes = field(repr=False)
    plan_hash: bytes = field(repr=False)
    selection: Selection
    packing: Packing
    min_nodes: int = MIN_MEMBERS

    def __post_init__(self) -> None:
        """Refuse sums that could overflow, or in which nobody hides."""
        members = len(self.group.members)
        if self.packing.num_summands < members:
            raise ConfigError(
                f"a packing for {self.packing.num_summands} nodes cannot sum {members}"
            )
        if self.min_nodes < MIN_MEMBERS:
            raise ConfigError(f"min_nodes is {self.min_nodes}; it must be {MIN_MEMBERS} or more")
        if self.selection.num_hidden < self.packing.num_wide:
            raise ConfigError("fewer words are encrypted than need a slot of their own")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        packing = self.packing
        return digest(
            "he sum",
            self.group.digest,
            self.round,
            self.attempt,
            self.model_hash,
            self.plan_hash,
            self.selection.length,
            b"".join(edge.to_bytes(8, "big") for part in self.selection.hidden for edge in part),
            packing.num_summands,
            packing.values_per_slot,
            packing.num_wide,
            packing.plain_modulus,
            self.min_nodes,
        )

    @property
    def num_slots(self) -> int:
        """Slots of one vector."""
        return self.packing.num_slots(self.selection.num_hidden)

    @property
    def num_chunks(self) -> int:
        """Ciphertexts of one vector."""
        return num_chunks(self.num_slots)

    def check_listed(self, nodes: Sequence[int]) -> None:
        """Return if a sum over ``nodes`` may be made.

        Raises
        ------
        MessageError
            ``unknown_node`` if some do not hold the key, ``too_few`` below the minimum.
        """
        if not frozenset(nodes) <= frozenset(self.group.members):
            raise MessageError("unknown_node", "a list names nodes that do not hold the key")
        if len(nodes) < self.min_nodes:
            raise MessageError(
                "too_few", f"a sum over {len(nodes)} nodes; {self.min_nodes} must be"
            )

    # What is signed, the same for whoever signs and whoever verifies.

    def input(self, node: int, ciphertexts_hash: bytes, clear_hash: bytes) -> bytes:
        """Return what a node signs under its ciphertexts."""
        return encoded("he input", self.digest, node, ciphertexts_hash, clear_hash)

    def listed(self, nodes: Sequence[int]) -> bytes:
        """Return what everybody signs under the list of those in the sum."""
        return encoded("he list", nodes_digest("he list", self.digest, nodes))

    def decrypted(self, node: int, nodes: Sequence[int], words_hash: bytes) -> bytes:
        """Return what a node signs under the sum it decrypted."""
        return encoded("he decrypted", self.listed(nodes), node, words_hash)
