"""How a group of nodes comes to a key that their server does not have, and when to another one.

The lowest node that answers makes a key and sends it to every member in a box: AES-256-GCM under a
key from X25519 and HKDF-SHA256 between the two nodes' fresh keys, bound to roster, branch, epoch,
members, sender and receiver, and signed with the dealer's Ed25519 key. The server carries the boxes
unread. Fresh keys on both sides mean that who takes a node over later opens no box of the past.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daafl.errors import ConfigError, MessageError
from daafl.secure.he.messages import DealtKeys, KeyAdvertisement, KeyBox, KeyCohort
from daafl.secure.he.scheme import HeKey
from daafl.secure.he.terms import EpochTerms, KeyGroup
from daafl.secure.hidden import Secret
from daafl.secure.identity import Identity
from daafl.secure.masks import agreed_key, new_private_key, public_key

_NONCE = bytes(12)  # each key seals one box only


@dataclass(frozen=True)
class HeldKey:
    """A key, as one of its holders has it."""

    group: KeyGroup
    key: HeKey = field(repr=False)


@dataclass(frozen=True)
class KeyMember:
    """A node that advertised a public key for an epoch, until it holds the epoch's key.

    Parameters
    ----------
    terms
        What the key is for, built by the node itself.
    node
        Its number.
    identity, private
        Its long-lived key, and the fresh one.
    """

    terms: EpochTerms
    node: int
    identity: Identity
    private: Secret

    @classmethod
    def new(
        cls, terms: EpochTerms, node: int, identity: Identity, *, newest: int = -1
    ) -> KeyMember:
        """Return a member with a fresh key.

        Parameters
        ----------
        newest
            Last epoch for which this node took a key on this branch.

        Raises
        ------
        MessageError
            ``epoch`` if this one is not newer, ``unknown_node`` or ``swapped_key`` if the roster
            lists the node not at all or with another key.
        """
        if terms.epoch <= newest:
            raise MessageError("epoch", f"epoch {terms.epoch} is not newer than {newest}, in use")
        if terms.roster.key_of(node) != identity.public:
            raise MessageError("swapped_key", f"the roster has another identity for node {node}")
        return cls(terms, node, identity, new_private_key())

    def advertisement(self) -> KeyAdvertisement:
        """Return the public key, signed."""
        key = public_key(self.private)
        signature = self.identity.sign(self.terms.advertised(self.node, key))
        return KeyAdvertisement(self.node, key, signature)

    def deal(self, cohort: KeyCohort) -> DealtKeys:
        """Return a new key in a box for every member, this node included.

        Raises
        ------
        MessageError
            ``swapped_key`` if the cohort holds another key of this node, or as `checked`.
        """
        members = checked(self.terms, cohort.advertisements())
        own = public_key(self.private)
        if self.node not in members or members[self.node].key != own:
            raise MessageError("swapped_key", f"the cohort holds another key of node {self.node}")
        group = KeyGroup(self.terms, self.node, tuple(members))
        blob = HeKey.new().to_secret().reveal()
        boxes, signatures = [], []
        for node, one in members.items():
            info = group.box_info(node)
            key = agreed_key(self.private, one.key, info)
            box = AESGCM(key.reveal()).encrypt(_NONCE, blob, info)
            boxes.append(box)
            signatures.append(self.identity.sign(group.boxed(node, own, box)))
        return DealtKeys(self.node, group.members, tuple(boxes), tuple(signatures))

    def accept(self, message: KeyBox) -> HeldKey:
        """Return the key in a box.

        Raises
        ------
        MessageError
            ``unknown_node`` if this node or the dealer is no member, ``signature`` if the dealer
            signed it not, ``box`` if it is not for this node and epoch, ``key`` for the key in it.
        """
        terms = self.terms
        group = KeyGroup(terms, message.dealer, message.members)
        if self.node not in group.members:
            raise MessageError("excluded", f"a key is dealt without node {self.node}")
        content = terms.advertised(group.dealer, message.dealer_key)
        terms.check_signed(group.dealer, content, message.dealer_signature, "key")
        content = group.boxed(self.node, message.dealer_key, message.box)
        terms.check_signed(group.dealer, content, message.signature, "box")
        info = group.box_info(self.node)
        key = agreed_key(self.private, message.dealer_key, info)
        try:
            blob = Secret(AESGCM(key.reveal()).decrypt(_NONCE, message.box, info))
        except InvalidTag:
            raise MessageError("box", f"the key's box does not open for node {self.node}") from None
        return HeldKey(group, HeKey.from_secret(blob))


def checked(
    terms: EpochTerms, advertisements: Iterable[KeyAdvertisement]
) -> dict[int, KeyAdvertisement]:
    """Return advertisements by ascending node, each signed by its node for this epoch.

    Raises
    ------
    MessageError
        ``unknown_node``, ``signature``, or ``duplicate`` if two keys are the same.
    """
    members = {one.node: one for one in sorted(advertisements, key=lambda one: one.node)}
    for one in members.values():
        content = terms.advertised(one.node, one.key)
        terms.check_signed(one.node, content, one.signature, "advertisement")
    if len({one.key for one in members.values()}) < len(members):
        raise MessageError("duplicate", "two public keys of a cohort are the same")
    return members


@dataclass(frozen=True)
class Rotation:
    """When a group gets another key.

    Parameters
    ----------
    rounds_per_key
        A key serves for so many versions of the model at most.
    """

    rounds_per_key: int = 10

    def __post_init__(self) -> None:
        """Refuse a key that never serves."""
        if self.rounds_per_key < 1:
            raise ConfigError(f"rounds_per_key is {self.rounds_per_key}; it must be 1 or more")

    def is_due(
        self, group: KeyGroup | None, *, terms: EpochTerms, asked: Iterable[int], age: int
    ) -> bool:
        """Return whether those asked need a new key.

        Parameters
        ----------
        group
            Who holds the present key; ``None`` if there is none.
        terms
            Roster and branch as they are now; the epoch does not matter.
        asked
            Nodes of the coming sum.
        age
            Versions since the key was dealt.

        Returns
        -------
        bool
            True if there is no key, if it served long enough, if the roster changed (someone who
            left may still hold it), if someone is asked who does not hold it, or if fewer than
            three quarters of the holders are asked (most must sign what is decrypted).
        """
        if group is None or age >= self.rounds_per_key:
            return True
        if (group.terms.roster.digest, group.terms.branch) != (terms.roster.digest, terms.branch):
            return True
        nodes = frozenset(asked)
        return not nodes <= frozenset(group.members) or 4 * len(nodes) < 3 * len(group.members)
