"""What all parties of one masked sum hold in common, before and after keys are known.

`Terms` is built by each party from what it knows itself, never read from the network; `Group` adds
the keys that were advertised under these terms. The digest of a group is part of every key, box and
signature of the session, so that parties with different views understand nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from daafl.errors import ConfigError, MessageError
from daafl.secure import graph, masks
from daafl.secure.encoding import digest, encoded, nodes_digest
from daafl.secure.messages import Advertisement
from daafl.secure.roster import Roster

MAX_LENGTH: Final = 1 << 32


@dataclass(frozen=True)
class Terms:
    """What a masked sum is about.

    Parameters
    ----------
    roster
        The federation's roster, verified.
    branch, round, attempt
        Branch of the model, its version, and which try at this round it is, from 0.
    model_hash, plan_hash
        SHA-256 of the model that was sent and of the plan in force.
    length
        Words of each vector, header included.
    policy
        What is assumed about the nodes, from the federation's own configuration.
    """

    roster: Roster = field(repr=False)
    branch: str
    round: int
    attempt: int
    model_hash: bytes = field(repr=False)
    plan_hash: bytes = field(repr=False)
    length: int
    policy: graph.Policy

    def __post_init__(self) -> None:
        """Refuse a vector of no or of absurd length."""
        if not 1 <= self.length <= MAX_LENGTH:
            raise ConfigError(f"a masked vector has {self.length} words; 1 to {MAX_LENGTH} may be")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        policy = self.policy
        return digest(
            "terms",
            self.roster.digest,
            self.branch,
            self.round,
            self.attempt,
            self.model_hash,
            self.plan_hash,
            self.length,
            repr((float(policy.corrupt_fraction), float(policy.dropout_fraction))),
            policy.privacy_bits,
            policy.correctness_bits,
            policy.tries_bits,
            policy.min_survivors,
            policy.server,
        )

    def advertised(self, node: int, mask_key: bytes, share_key: bytes) -> bytes:
        """Return what a node signs under its keys."""
        return encoded("advertisement", self.digest, node, mask_key, share_key)

    def check_advertised(self, one: Advertisement) -> None:
        """Return if the advertisement is its node's, for these terms, with keys that are keys.

        Raises
        ------
        MessageError
            ``unknown_node``, ``signature`` or ``key``.
        """
        content = self.advertised(one.node, one.mask_key, one.share_key)
        self.check_signed(one.node, content, one.signature, "advertisement")
        for key in (one.mask_key, one.share_key):
            masks.check_public(key)

    def check_signed(self, node: int, content: bytes, signature: bytes, what: str) -> None:
        """Return if ``node`` signed ``content``; see `Roster.check_signed`."""
        self.roster.check_signed(node, content, signature, what)


@dataclass(frozen=True)
class Group:
    """The nodes that advertised keys, and the graph between them."""

    terms: Terms
    members: Mapping[int, Advertisement] = field(repr=False)

    @classmethod
    def of(
        cls, terms: Terms, advertisements: Iterable[Advertisement], *, is_checked: bool = False
    ) -> Group:
        """Return the group of those who advertised.

        Parameters
        ----------
        is_checked
            Whether every signature was verified already.

        Raises
        ------
        MessageError
            ``unknown_node``, ``signature``, ``key``, ``duplicate`` or ``too_few``.
        """
        listed = sorted(advertisements, key=lambda one: one.node)
        members = {one.node: one for one in listed}
        if len(members) < len(listed):
            raise MessageError("duplicate", "a node is in a cohort twice")
        if not is_checked:
            for one in members.values():
                terms.check_advertised(one)
        keys = [key for one in members.values() for key in (one.mask_key, one.share_key)]
        if len(set(keys)) < len(keys):
            raise MessageError("duplicate", "two public keys of a cohort are the same")
        group = cls(terms, members)
        try:
            minimum = group.degree.min_survivors
        except ConfigError as error:
            raise MessageError("too_few", str(error)) from None
        if len(members) < minimum:
            raise MessageError("too_few", f"{len(members)} nodes advertised; {minimum} must")
        return group

    @cached_property
    def degree(self) -> graph.Degree:
        """Neighbours and threshold, from size and policy."""
        return graph.chosen(len(self.members), self.terms.policy)

    @cached_property
    def session(self) -> bytes:
        """SHA-256 of terms, nodes and keys."""
        rows = b"".join(
            node.to_bytes(8, "big") + one.mask_key + one.share_key
            for node, one in self.members.items()
        )
        return digest("session", self.terms.digest, rows)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes around the ring."""
        return graph.ring(digest("ring", self.session), tuple(self.members))

    @cached_property
    def points(self) -> dict[int, int]:
        """Where each node's shares are taken: its place by number, from 1."""
        return {node: place for place, node in enumerate(self.members, 1)}

    @cached_property
    def _places(self) -> dict[int, int]:
        return {node: place for place, node in enumerate(self.order)}

    def neighbours(self, node: int) -> tuple[int, ...]:
        """Return the neighbours of a node, ascending."""
        if self.degree.is_complete:
            return tuple(other for other in self.members if other != node)
        half, place, n = self.degree.degree // 2, self._places[node], len(self.order)
        steps = (*range(-half, 0), *range(1, half + 1))
        return tuple(sorted(self.order[(place + step) % n] for step in steps))

    def check_present(self, nodes: Iterable[int], among: Iterable[int], node: int) -> None:
        """Return if ``nodes`` may go on without the others.

        Raises
        ------
        MessageError
            ``unknown_node`` if some are not ``among`` those before, ``excluded`` if ``node`` is
            not there, ``too_few`` below the minimum, ``gap`` if too many near each other are lost.
        """
        present = frozenset(nodes)
        if not present <= frozenset(among):
            raise MessageError("unknown_node", "a list names nodes that were not there before")
        if node not in present:
            raise MessageError("excluded", f"a list is without node {node}, which took part")
        degree = self.degree
        if len(present) < degree.min_survivors:
            raise MessageError(
                "too_few", f"{len(present)} nodes are left; {degree.min_survivors} must be"
            )
        if degree.is_complete:
            return
        gap = graph.widest_gap(self.order, present, degree.degree // 2)
        if gap > degree.max_gap:
            raise MessageError("gap", f"{gap} neighbours in a row are lost; {degree.max_gap} may")

    # What is signed in the later phases, the same for whoever signs and whoever verifies.

    def shared(self, node: int, commitment: bytes, boxes: Iterable[bytes]) -> bytes:
        """Return what a node signs under its boxes."""
        return encoded("shares", self.session, node, commitment, b"".join(boxes))

    def participants(self, nodes: tuple[int, ...]) -> bytes:
        """Return the digest of the list of those who shared."""
        return nodes_digest("participants", self.session, nodes)

    def masked(self, node: int, participants: bytes, words_hash: bytes) -> bytes:
        """Return what a node signs under its masked vector."""
        return encoded("masked input", self.session, node, participants, words_hash)

    def survivors(self, participants: bytes, nodes: tuple[int, ...]) -> bytes:
        """Return what everybody signs under the list of survivors."""
        listed = nodes_digest("survivors", self.session, nodes)
        return encoded("confirmation", self.session, participants, listed)

    def revealed(
        self, node: int, seeds_of: Sequence[int], keys_of: Sequence[int], shares: Iterable[bytes]
    ) -> bytes:
        """Return what a node signs under the shares it reveals."""
        lists = [nodes_digest("revealed", self.session, nodes) for nodes in (seeds_of, keys_of)]
        return encoded("revelation", self.session, node, *lists, b"".join(shares))

    def commitment(self, node: int, seed: bytes) -> bytes:
        """Return what a node publishes about the seed of its own mask."""
        return digest("seed", self.session, node, seed)
