"""The server's side of a key that nodes make for each other, as two phases.

It holds public keys and closed boxes, and passes them on.
"""

from __future__ import annotations

from daafl.errors import FederationError, MessageError
from daafl.secure.he.messages import DealtKeys, KeyAdvertisement, KeyBox, KeyCohort
from daafl.secure.he.terms import MIN_MEMBERS, EpochTerms, KeyGroup
from daafl.secure.server import check_expected, check_first


class KeyAdvertisements:
    """Phase 1: collects public keys.

    Parameters
    ----------
    terms
        What the key is for.
    min_members
        Fewest nodes that a key is dealt to.
    """

    def __init__(self, terms: EpochTerms, *, min_members: int = MIN_MEMBERS) -> None:
        self._terms = terms
        self._min_members = min_members
        self._received: dict[int, KeyAdvertisement] = {}

    def receive(self, message: KeyAdvertisement) -> None:
        """Take a node's public key, or raise `MessageError`."""
        check_first(message.node, self._received)
        if any(message.key == one.key for one in self._received.values()):
            raise MessageError("duplicate", f"node {message.node} has the key of another")
        content = self._terms.advertised(message.node, message.key)
        self._terms.check_signed(message.node, content, message.signature, "advertisement")
        self._received[message.node] = message

    def close(self) -> tuple[Dealing, dict[int, KeyCohort]]:
        """Return the next phase and the message to the dealer.

        Raises
        ------
        FederationError
            If too few advertised.
        """
        members = dict(sorted(self._received.items()))
        return Dealing(self._terms, members, self._min_members).opened()


class Dealing:
    """Phase 2: waits for the boxes of the lowest member, or of the next if that one is lost."""

    def __init__(
        self, terms: EpochTerms, members: dict[int, KeyAdvertisement], min_members: int
    ) -> None:
        self._terms = terms
        self._members = members
        self._min_members = max(min_members, MIN_MEMBERS)
        self._dealt: DealtKeys | None = None
        if len(members) < self._min_members:
            raise FederationError(
                f"{len(members)} nodes are left to share a key for encrypted sums; "
                f"{self._min_members} must be"
            )
        self.group = KeyGroup(terms, min(members), tuple(members))

    def opened(self) -> tuple[Dealing, dict[int, KeyCohort]]:
        """Return this phase and the message to its dealer."""
        rows = self._members.values()
        cohort = KeyCohort(
            tuple(self._members),
            tuple(one.key for one in rows),
            tuple(one.signature for one in rows),
        )
        return self, {self.group.dealer: cohort}

    @property
    def is_dealt(self) -> bool:
        """Whether the boxes are there."""
        return self._dealt is not None

    def receive(self, message: DealtKeys) -> None:
        """Take the dealer's boxes, or raise `MessageError`."""
        group = self.group
        check_expected(message.node, (group.dealer,))
        check_first(message.node, () if self._dealt is None else (group.dealer,))
        if message.nodes != group.members:
            raise MessageError("schema", f"node {message.node} dealt to others than the members")
        key = self._members[group.dealer].key
        for node, box, signature in zip(
            message.nodes, message.boxes, message.signatures, strict=True
        ):
            content = group.boxed(node, key, box)
            self._terms.check_signed(group.dealer, content, signature, "box")
        self._dealt = message

    def without_dealer(self) -> tuple[Dealing, dict[int, KeyCohort]]:
        """Return the phase in which the next member deals, and the message to it.

        Raises
        ------
        FederationError
            If too few members are left.
        """
        left = {node: one for node, one in self._members.items() if node != self.group.dealer}
        return Dealing(self._terms, left, self._min_members).opened()

    def close(self) -> tuple[KeyGroup, dict[int, KeyBox]]:
        """Return who holds the key from now on, and the box for each.

        Raises
        ------
        FederationError
            If the dealer did not answer: then go on with `without_dealer`.
        """
        if self._dealt is None:
            raise FederationError(f"node {self.group.dealer} did not deal a key")
        group, dealt = self.group, self._dealt
        own = self._members[group.dealer]
        rows = zip(dealt.nodes, dealt.boxes, dealt.signatures, strict=True)
        return group, {
            node: KeyBox(group.dealer, own.key, own.signature, group.members, box, signature)
            for node, box, signature in rows
        }
