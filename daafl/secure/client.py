"""A node's side of a masked sum, as four states; each step gives the next state and a message.

A state is immutable and a step is a function of it, the message and, for fresh secrets, the
operating system's randomness. A step must be taken once only: two answers under one state could
undo its masks. `daafl.secure.protocol.Node` sees to that; use it and not the states themselves.

Sources: Bonawitz et al. (2017), "Practical secure aggregation for privacy-preserving machine
learning", figure 4 with its consistency check; for neighbours in place of everybody, Bell et al.
(2020), "Secure single-server aggregation with (poly)logarithmic overhead".
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daafl.errors import DataError, MessageError
from daafl.secure import boxes, masks, shamir
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.identity import Identity
from daafl.secure.masks import Words, words_digest
from daafl.secure.messages import (
    Advertisement,
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    MaskedInput,
    Revelation,
    SealedShares,
    Survivors,
)
from daafl.secure.terms import Group, Terms


@dataclass(frozen=True)
class Keys:
    """What a node keeps to itself through the session."""

    node: int
    identity: Identity
    mask_key: Secret
    share_key: Secret


@dataclass(frozen=True)
class Advertising:
    """After its keys went out, until the cohort's arrive."""

    keys: Keys
    terms: Terms
    advertisement: Advertisement

    def share(self, cohort: Cohort) -> tuple[Sharing, SealedShares]:
        """Return shares of both secrets, a box per neighbour.

        Raises
        ------
        MessageError
            ``swapped_key`` if the server changed this node's keys, or as `Group.of`.
        """
        return self.share_in(Group.of(self.terms, cohort.advertisements()))

    def share_in(self, group: Group) -> tuple[Sharing, SealedShares]:
        """Return the same for a group whose signatures are verified already."""
        node = self.keys.node
        if group.members.get(node) != self.advertisement:
            raise MessageError("swapped_key", f"the cohort holds other keys of node {node}")
        seed = Secret(secrets.token_bytes(SEED_BYTES))
        neighbours = group.neighbours(node)
        points = [group.points[other] for other in neighbours]
        of_seed = shamir.shared(seed, points, group.degree.threshold)
        of_key = shamir.shared(self.keys.mask_key, points, group.degree.threshold)
        end = masks.Agreement(self.keys.share_key)
        sealed = tuple(
            boxes.sealed(
                group.session,
                (node, other),
                end=end,
                public=group.members[other].share_key,
                held=boxes.Held(
                    *(Secret(shamir.share_to_bytes(x[point])) for x in (of_seed, of_key))
                ),
            )
            for other, point in zip(neighbours, points, strict=True)
        )
        commitment = group.commitment(node, seed.reveal())
        signature = self.keys.identity.sign(group.shared(node, commitment, sealed))
        message = SealedShares(node, commitment, sealed, signature)
        return Sharing(self.keys, group, seed), message


@dataclass(frozen=True)
class Sharing:
    """After its shares went out, until others' arrive."""

    keys: Keys
    group: Group
    seed: Secret

    def mask(self, delivery: Delivery, words: Words) -> tuple[Masking, MaskedInput]:
        """Return ``words`` under its own mask and one for each neighbour that took part.

        Raises
        ------
        MessageError
            ``schema`` if boxes do not fit the list, or as `Group.check_present`.
        DataError
            If there are not as many words as the terms say.
        """
        group, node = self.group, self.keys.node
        if words.shape != (group.terms.length,) or words.dtype != "uint32":
            raise DataError(f"{words.size} words to mask; there must be {group.terms.length}")
        participants = delivery.participants
        group.check_present(participants, group.members, node)
        taking_part = frozenset(participants)
        peers = [other for other in group.neighbours(node) if other in taking_part]
        if len(delivery.boxes) != len(peers):
            raise MessageError(
                "schema", f"{len(delivery.boxes)} boxes arrived from {len(peers)} neighbours"
            )
        held, end = {}, masks.Agreement(self.keys.share_key)
        for other, box in zip(peers, delivery.boxes, strict=True):
            shares = boxes.opened(
                group.session,
                (other, node),
                end=end,
                public=group.members[other].share_key,
                box=box,
            )
            if shares is not None:
                held[other] = shares
        total = words.astype(np.uint32)
        masks.add_masks(total, self._masks(peers))
        listed = group.participants(participants)
        content = group.masked(node, listed, words_digest(total))
        unreadable = tuple(other for other in peers if other not in held)
        message = MaskedInput(node, listed, unreadable, total, self.keys.identity.sign(content))
        return Masking(self.keys, group, participants, held), message

    def _masks(self, peers: Sequence[int]) -> Iterator[tuple[Secret, bool]]:
        """Return its own mask, and those of its pairs: the lower node of a pair adds."""
        group, node = self.group, self.keys.node
        yield masks.derived(self.seed, masks.own_info(group.session, node)), True
        end = masks.Agreement(self.keys.mask_key)
        for other in peers:
            info = masks.pair_info(group.session, node, other)
            yield end.key(group.members[other].mask_key, info), node < other


@dataclass(frozen=True)
class Masking:
    """After its masked vector went out, until the list of survivors arrives."""

    keys: Keys
    group: Group
    participants: tuple[int, ...]
    held: Mapping[int, boxes.Held]

    def confirm(self, survivors: Survivors) -> tuple[Confirming, Confirmation]:
        """Return a signature under the list of survivors.

        Its neighbours in the list must have signed vectors that are masked for the same list of
        participants: a neighbour that was told of fewer would stand with fewer masks than it seems.

        Raises
        ------
        MessageError
            ``schema`` or ``signature`` for the neighbours' signatures, or as
            `Group.check_present`.
        """
        group, node, nodes = self.group, self.keys.node, survivors.nodes
        group.check_present(nodes, self.participants, node)
        alive = frozenset(nodes)
        peers = [other for other in group.neighbours(node) if other in alive]
        if not len(peers) == len(survivors.inputs) == len(survivors.signatures):
            raise MessageError("schema", f"signatures of {len(peers)} neighbours are expected")
        listed = group.participants(self.participants)
        rows = zip(peers, survivors.inputs, survivors.signatures, strict=True)
        for other, words_hash, signature in rows:
            content = group.masked(other, listed, words_hash)
            group.terms.check_signed(other, content, signature, "masked vector")
        content = group.survivors(listed, nodes)
        message = Confirmation(node, self.keys.identity.sign(content))
        return Confirming(self.keys, group, self.participants, self.held, nodes), message


@dataclass(frozen=True)
class Confirming:
    """After its confirmation went out, until the others' arrive."""

    keys: Keys
    group: Group
    participants: tuple[int, ...]
    held: Mapping[int, boxes.Held]
    survivors: tuple[int, ...]

    def reveal(self, confirmations: Confirmations) -> Revelation:
        """Return a share of each neighbour: of the seed if it survived, of the key if it was lost.

        Raises
        ------
        MessageError
            ``quorum`` if too few confirmed the same list, ``unknown_node`` if one who is not on
            it did, ``signature`` if one confirmed another list.
        """
        group = self.group
        num_confirmed = len(frozenset(confirmations.nodes))  # each counts once
        if num_confirmed < group.degree.quorum:
            raise MessageError(
                "quorum",
                f"{num_confirmed} nodes confirmed the list of survivors; "
                f"{group.degree.quorum} must",
            )
        alive = frozenset(self.survivors)
        if not alive.issuperset(confirmations.nodes):
            raise MessageError("unknown_node", "a node confirmed that is no survivor")
        content = group.survivors(group.participants(self.participants), self.survivors)
        for other, signature in zip(confirmations.nodes, confirmations.signatures, strict=True):
            group.terms.check_signed(other, content, signature, "list of survivors")
        return self.revelation()

    def revelation(self) -> Revelation:
        """Return the shares without looking at confirmations: safe once `reveal` would be."""
        group, node, alive = self.group, self.keys.node, frozenset(self.survivors)
        seeds_of = tuple(other for other in self.held if other in alive)
        keys_of = tuple(other for other in self.held if other not in alive)
        seed_shares = tuple(self.held[other].of_seed.reveal() for other in seeds_of)
        key_shares = tuple(self.held[other].of_key.reveal() for other in keys_of)
        content = group.revealed(node, seeds_of, keys_of, (*seed_shares, *key_shares))
        signature = self.keys.identity.sign(content)
        return Revelation(node, seeds_of, keys_of, seed_shares, key_shares, signature)


def advertised(terms: Terms, node: int, identity: Identity) -> tuple[Advertising, Advertisement]:
    """Return the first state of a node and its advertisement of two fresh keys.

    Raises
    ------
    MessageError
        With reason ``unknown_node`` or ``swapped_key`` if the roster lists the node not at all or
        with another key.
    """
    if terms.roster.key_of(node) != identity.public:
        raise MessageError("swapped_key", f"the roster has another identity for node {node}")
    keys = Keys(node, identity, masks.new_private_key(), masks.new_private_key())
    publics = masks.public_key(keys.mask_key), masks.public_key(keys.share_key)
    signature = identity.sign(terms.advertised(node, *publics))
    message = Advertisement(node, *publics, signature)
    return Advertising(keys, terms, message), message
