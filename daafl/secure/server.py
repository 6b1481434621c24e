"""The server's side of a masked sum, as five phases; each closes into the next and its messages.

A phase takes messages one by one, refuses with a reason what breaks the protocol, and closes when
its host thinks it has waited long enough. It has no clock, no network and no randomness. What the
server holds at any time is public keys, closed boxes, masked vectors and, at the end, one share per
node and neighbour: the seed's or the key's.

Sources: those of `daafl.secure.client`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TypeVar

import numpy as np

from daafl.errors import FederationError, MessageError
from daafl.secure.masks import Words, words_digest
from daafl.secure.messages import (
    Advertisement,
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    MaskedInput,
    SealedShares,
    Survivors,
)
from daafl.secure.terms import Group, Terms
from daafl.secure.unmasking import Revealing

T = TypeVar("T")


class Advertisements:
    """Phase 1: collects keys.

    Parameters
    ----------
    terms
        What the sum is about.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._received: dict[int, Advertisement] = {}
        self._keys: set[bytes] = set()

    def receive(self, message: Advertisement) -> None:
        """Take a node's keys, or raise `MessageError`."""
        check_first(message.node, self._received)
        self._terms.check_advertised(message)
        # Refused here, a copied key costs the copier its place; in the cohort, all of them theirs.
        keys = {message.mask_key, message.share_key}
        if len(keys) < 2 or not self._keys.isdisjoint(keys):
            raise MessageError("duplicate", f"node {message.node} advertised a key that is taken")
        self._keys |= keys
        self._received[message.node] = message

    def close(self) -> tuple[Shares, Cohort]:
        """Return the next phase and the message to all who advertised.

        Raises
        ------
        FederationError
            If they are too few.
        """
        try:
            group = Group.of(self._terms, self._received.values(), is_checked=True)
        except MessageError as error:
            raise FederationError(error.detail) from None
        rows = group.members.values()
        cohort = Cohort(
            tuple(group.members),
            tuple(one.mask_key for one in rows),
            tuple(one.share_key for one in rows),
            tuple(one.signature for one in rows),
        )
        return Shares(group), cohort


class Shares:
    """Phase 2: collects boxes."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._received: dict[int, SealedShares] = {}

    def receive(self, message: SealedShares) -> None:
        """Take a node's boxes, or raise `MessageError`."""
        node, group = message.node, self.group
        check_expected(node, group.members)
        check_first(node, self._received)
        if len(message.boxes) != len(group.neighbours(node)):
            raise MessageError("schema", f"node {node} sent {len(message.boxes)} boxes")
        content = group.shared(node, message.commitment, message.boxes)
        group.terms.check_signed(node, content, message.signature, "set of boxes")
        self._received[node] = message

    def close(self) -> tuple[Inputs, dict[int, Delivery]]:
        """Return the next phase and the message to each who shared."""
        group = self.group
        participants = tuple(sorted(self._received))
        check_enough(group, participants)
        boxes: dict[tuple[int, int], bytes] = {}
        for node in participants:
            targets = group.neighbours(node)
            boxes.update(
                ((node, to), box)
                for to, box in zip(targets, self._received[node].boxes, strict=True)
            )
        deliveries = {
            node: Delivery(
                participants,
                tuple(
                    boxes[other, node] for other in group.neighbours(node) if (other, node) in boxes
                ),
            )
            for node in participants
        }
        commitments = {node: self._received[node].commitment for node in participants}
        return Inputs(group, commitments), deliveries


class Inputs:
    """Phase 3: adds up masked vectors as they arrive and keeps none of them."""

    def __init__(self, group: Group, commitments: dict[int, bytes]) -> None:
        self.group = group
        self.commitments = commitments
        self._listed = group.participants(tuple(commitments))
        self._total: Words = np.zeros(group.terms.length, np.uint32)
        self._signed: dict[int, tuple[bytes, bytes]] = {}

    def receive(self, message: MaskedInput) -> None:
        """Add a node's masked vector, or raise `MessageError`."""
        node, group = message.node, self.group
        check_expected(node, self.commitments)
        check_first(node, self._signed)
        if message.words.shape != self._total.shape:
            raise MessageError(
                "shape", f"node {node} sent {message.words.size} words, not {self._total.size}"
            )
        if message.participants != self._listed:
            raise MessageError("participants", f"node {node} masked for other participants")
        words_hash = words_digest(message.words)
        content = group.masked(node, self._listed, words_hash)
        group.terms.check_signed(node, content, message.signature, "masked vector")
        np.add(self._total, message.words, out=self._total)
        self._signed[node] = (words_hash, message.signature)

    def close(self) -> tuple[Confirming, dict[int, Survivors]]:
        """Return the next phase and the message to each whose vector arrived."""
        group = self.group
        survivors = tuple(sorted(self._signed))
        check_enough(group, survivors)
        messages = {}
        for node in survivors:
            signed = [self._signed[x] for x in group.neighbours(node) if x in self._signed]
            inputs, signatures = (tuple(column) for column in zip(*signed, strict=True))
            messages[node] = Survivors(survivors, inputs, signatures)
        return Confirming(group, self.commitments, self._total, survivors), messages


class Confirming:
    """Phase 4: collects signatures under the list of survivors."""

    def __init__(
        self, group: Group, commitments: dict[int, bytes], total: Words, survivors: tuple[int, ...]
    ) -> None:
        self.group = group
        self._commitments = commitments
        self._total = total
        self._survivors = survivors
        self._expected = frozenset(survivors)
        self._content = group.survivors(group.participants(tuple(commitments)), survivors)
        self._received: dict[int, bytes] = {}

    def receive(self, message: Confirmation) -> None:
        """Take a node's confirmation, or raise `MessageError`."""
        check_expected(message.node, self._expected)
        check_first(message.node, self._received)
        self.group.terms.check_signed(
            message.node, self._content, message.signature, "list of survivors"
        )
        self._received[message.node] = message.signature

    def close(self) -> tuple[Revealing, Confirmations]:
        """Return the last phase and the message to all who confirmed."""
        quorum = self.group.degree.quorum
        if len(self._received) < quorum:
            raise FederationError(
                f"{len(self._received)} nodes confirmed the list of survivors; {quorum} must"
            )
        nodes = tuple(sorted(self._received))
        message = Confirmations(nodes, tuple(self._received[node] for node in nodes))
        phase = Revealing(self.group, self._commitments, self._total, self._survivors, nodes)
        return phase, message


def check_first(node: int, received: Container[int]) -> None:
    """Refuse a second message of a node in one phase."""
    if node in received:
        raise MessageError("duplicate", f"node {node} answered this phase already")


def check_expected(node: int, expected: Container[int]) -> None:
    """Refuse a message of a node that is not, or no longer, part of the session."""
    if node not in expected:
        raise MessageError("unexpected_node", f"node {node} is not part of this phase")


def check_enough(group: Group, nodes: tuple[int, ...]) -> None:
    """End a session that the nodes themselves would not go on with."""
    try:
        group.check_present(nodes, group.members, nodes[0] if nodes else -1)
    except MessageError as error:
        raise FederationError(f"the masked sum cannot go on: {error.detail}") from None
