"""Who belongs to a federation, as its authority says: node numbers with their pinned keys.

The authority is not the server that aggregates: a server that could write the roster would enrol
nodes of its own and read everybody. Every change makes a new epoch; an older one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final

from daafl.errors import ConfigError, MessageError
from daafl.secure.encoding import digest, encoded
from daafl.secure.fields import Fields
from daafl.secure.identity import (
    MAX_NAME,
    MAX_NODE,
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    Identity,
    is_name,
    is_signed_by,
)

MAX_MEMBERS: Final = 1 << 20


@dataclass(frozen=True)
class Roster:
    """The nodes of a federation at one epoch.

    Parameters
    ----------
    federation
        Its name.
    epoch
        Counts the changes, from 1.
    server
        Ed25519 public key of the server that aggregates.
    members
        Ed25519 public key of each node, by number.
    revoked
        Keys that no member may have again.

    Raises
    ------
    MessageError
        With reason ``roster`` if keys or numbers repeat, are malformed or are revoked, or if the
        server is also a member.
    """

    federation: str
    epoch: int
    server: bytes
    members: Mapping[int, bytes]
    revoked: frozenset[bytes] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Refuse what cannot be a roster, since it may come from the network."""
        keys = list(self.members.values())
        checks = {
            f"a name has 1 to {MAX_NAME} printable characters": is_name(self.federation),
            "an epoch is 1 to below 2**63": 1 <= self.epoch < MAX_NODE,
            "there are too many members": len(keys) <= MAX_MEMBERS,
            "nodes are 0 to below 2**63": all(0 <= node < MAX_NODE for node in self.members),
            f"keys have {PUBLIC_BYTES} bytes": all(
                len(key) == PUBLIC_BYTES for key in (self.server, *keys, *self.revoked)
            ),
            "each node has a key of its own": len({self.server, *keys}) == len(keys) + 1,
            "no member's key is revoked": self.revoked.isdisjoint({self.server, *keys}),
        }
        for rule, holds in checks.items():
            if not holds:
                raise MessageError("roster", f"a roster breaks a rule: {rule}")
        object.__setattr__(self, "members", MappingProxyType(dict(sorted(self.members.items()))))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything it says."""
        return digest("roster digest", self._content())

    def key_of(self, node: int) -> bytes:
        """Return the pinned key of a node.

        Raises
        ------
        MessageError
            With reason ``unknown_node`` if it is no member.
        """
        try:
            return self.members[node]
        except KeyError:
            raise MessageError("unknown_node", f"node {node} is not in the roster") from None

    def check_signed(self, node: int, content: bytes, signature: bytes, what: str) -> None:
        """Return if ``node`` signed ``content`` with its pinned key.

        Parameters
        ----------
        what
            What it is called in an error.

        Raises
        ------
        MessageError
            With reason ``unknown_node`` or ``signature``.
        """
        if not is_signed_by(self.key_of(node), content, signature):
            raise MessageError("signature", f"node {node} did not sign this {what} for this round")

    def enrolled(self, node: int, key: bytes) -> Roster:
        """Return the next epoch's roster, with one node more or with another key."""
        old = {self.members[node]} - {key} if node in self.members else set()
        return replace(
            self,
            epoch=self.epoch + 1,
            members={**self.members, node: key},
            revoked=self.revoked | old,
        )

    def without(self, node: int) -> Roster:
        """Return the next epoch's roster, with a node gone and its key revoked for good."""
        key = self.key_of(node)
        members = {other: held for other, held in self.members.items() if other != node}
        return replace(self, epoch=self.epoch + 1, members=members, revoked=self.revoked | {key})

    def _content(self) -> bytes:
        members = b"".join(node.to_bytes(8, "big") + key for node, key in self.members.items())
        revoked = b"".join(sorted(self.revoked))
        return encoded("roster", self.federation, self.epoch, self.server, members, revoked)


@dataclass(frozen=True)
class SignedRoster:
    """A roster with the signature of the federation's authority."""

    roster: Roster
    signature: bytes

    @classmethod
    def by(cls, authority: Identity, roster: Roster) -> SignedRoster:
        """Return ``roster`` signed by ``authority``.

        Raises
        ------
        ConfigError
            If the authority is the server itself, or a node.
        """
        if authority.public == roster.server:
            raise ConfigError("the authority that signs a roster must not be the server")
        if authority.public in roster.members.values():
            raise ConfigError(
                "the authority that signs a roster must not be one of its nodes; make the node a "
                "key of its own"
            )
        return cls(roster, authority.sign(roster._content()))

    def verified(self, authority: bytes, *, federation: str, min_epoch: int = 1) -> Roster:
        """Return the roster if the pinned authority signed it.

        Parameters
        ----------
        authority
            Public key that the node was given together with its own identity.
        min_epoch
            Newest epoch seen so far.

        Raises
        ------
        MessageError
            ``authority``, ``signature``, ``federation`` or ``epoch``.
        """
        roster = self.roster
        if authority == roster.server:
            raise MessageError("authority", "the server signs its own roster")
        if not is_signed_by(authority, roster._content(), self.signature):
            raise MessageError("signature", "the authority did not sign this roster")
        if roster.federation != federation:
            raise MessageError("federation", "the roster is of another federation")
        if roster.epoch < min_epoch:
            raise MessageError("epoch", f"roster {roster.epoch} is older than {min_epoch}, in use")
        return roster

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a record or a file; bytes stay bytes."""
        roster = self.roster
        return {
            "federation": roster.federation,
            "epoch": roster.epoch,
            "server": roster.server,
            "nodes": list(roster.members),
            "keys": b"".join(roster.members.values()),
            "revoked": b"".join(sorted(roster.revoked)),
            "signature": self.signature,
        }

    @classmethod
    def from_dict(cls, values: object) -> SignedRoster:
        """Return what `to_dict` described.

        Raises
        ------
        MessageError
            With reason ``schema`` or ``roster`` if it did not.
        """
        fields = Fields.of(values, "roster")
        nodes = fields.nodes("nodes", MAX_MEMBERS)
        roster = Roster(
            fields.text("federation", MAX_NAME),
            fields.integer("epoch"),
            fields.data("server", PUBLIC_BYTES),
            dict(zip(nodes, fields.rows("keys", PUBLIC_BYTES, len(nodes)), strict=True)),
            frozenset(fields.rows("revoked", PUBLIC_BYTES)),
        )
        signature = fields.data("signature", SIGNATURE_BYTES)
        fields.end()
        return cls(roster, signature)
