"""The last phase of a masked sum: from shares to the seeds and keys that take the masks off.

A survivor's own mask comes off with its seed; the masks that a lost node's neighbours still carry
come off with the lost node's key. Every secret is checked against what its owner made public, so
wrong shares are corrected and named, and a node that shared something else is named too.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from daafl.errors import DataError, FederationError, MessageError
from daafl.secure import masks, shamir
from daafl.secure.hidden import Secret
from daafl.secure.masks import Words
from daafl.secure.messages import Revelation
from daafl.secure.terms import Group


@dataclass(frozen=True)
class MaskedSum:
    """What comes out of a session.

    Parameters
    ----------
    words
        Sum of the survivors' vectors, modulo 2**32.
    nodes
        The survivors.
    wrong_holders
        Nodes that revealed a share which was found to be wrong; the fault is theirs or that of who
        gave it to them, which nobody else can tell.
    """

    words: Words = field(repr=False)
    nodes: tuple[int, ...]
    wrong_holders: tuple[int, ...] = ()


class Revealing:
    """Phase 5: collects shares and takes the masks off.

    Parameters
    ----------
    group
        The session's group.
    commitments
        What each participant published about its seed.
    total
        Sum of the masked vectors; it is unmasked in place.
    survivors, confirmed
        Whose vectors are in it, and who confirmed that.
    """

    def __init__(
        self,
        group: Group,
        commitments: dict[int, bytes],
        total: Words,
        survivors: tuple[int, ...],
        confirmed: tuple[int, ...],
    ) -> None:
        self.group = group
        self._commitments = commitments
        self.total = total
        self._survivors = frozenset(survivors)
        self._lost = frozenset(commitments) - self._survivors
        self._waited = set(confirmed)
        self._shares: dict[int, dict[int, int]] = {node: {} for node in commitments}

    def receive(self, message: Revelation) -> None:
        """Take a node's shares, or raise `MessageError`."""
        node, group = message.node, self.group
        if node not in self._waited:
            raise MessageError("unexpected_node", f"node {node} has no shares to reveal, or did")
        around = frozenset(group.neighbours(node))
        if not (
            (self._survivors & around).issuperset(message.seeds_of)
            and (self._lost & around).issuperset(message.keys_of)
        ):
            raise MessageError("wrong_kind", f"node {node} reveals shares nobody asked it for")
        rows = (*message.seed_shares, *message.key_shares)
        content = group.revealed(node, message.seeds_of, message.keys_of, rows)
        group.terms.check_signed(node, content, message.signature, "set of shares")
        try:
            values = [shamir.share_from_bytes(row) for row in rows]
        except DataError as error:
            raise MessageError("share", f"node {node}: {error}") from None
        self._waited.remove(node)
        for owner, value in zip((*message.seeds_of, *message.keys_of), values, strict=True):
            self._shares[owner][group.points[node]] = value

    def close(self) -> MaskedSum:
        """Return the sum.

        Raises
        ------
        FederationError
            As `recovered`.
        """
        secrets, wrong = self.recovered()
        masks.add_masks(self.total, self.masks_left(secrets))
        return MaskedSum(self.total, tuple(sorted(self._survivors)), wrong)

    def recovered(self) -> tuple[dict[int, Secret], tuple[int, ...]]:
        """Return the seed of each survivor and the key of each lost node, and who was wrong.

        Raises
        ------
        FederationError
            Naming the nodes whose secret could not be recovered: too few of its neighbours
            answered, or it shared something else than it used.
        """
        wrong: set[int] = set()
        secrets: dict[int, Secret] = {}
        failed = []
        for owner, shares in self._shares.items():
            # Who was wrong before comes last, so that one node cannot cost a correction per owner.
            ordered = shares
            if wrong:
                ordered = dict(sorted(shares.items(), key=lambda share: share[0] in wrong))
            try:
                secrets[owner], points = shamir.recovered(
                    ordered, self.group.degree.threshold, partial(self._is_of, owner)
                )
                wrong.update(points)
            except DataError:
                failed.append(owner)
        if failed:
            raise FederationError(
                f"the masks of nodes {failed[:20]} cannot be taken off: fewer than "
                f"{self.group.degree.threshold} right shares arrived for each"
            )
        return secrets, tuple(n for n, point in self.group.points.items() if point in wrong)

    def _is_of(self, owner: int, secret: Secret) -> bool:
        """Return whether a secret is the one that its owner made something public of."""
        group = self.group
        if owner in self._survivors:
            found = group.commitment(owner, secret.reveal())
            return hmac.compare_digest(found, self._commitments[owner])
        return masks.public_key(secret) == group.members[owner].mask_key

    def masks_left(self, secrets: Mapping[int, Secret]) -> Iterator[tuple[Secret, bool]]:
        """Yield the key of every mask left in the sum, and whether adding it takes it off."""
        group = self.group
        for node in sorted(self._survivors):
            yield masks.derived(secrets[node], masks.own_info(group.session, node)), False
        for lost in sorted(self._lost):
            end = masks.Agreement(secrets[lost])
            for node in group.neighbours(lost):
                if node in self._survivors:
                    info = masks.pair_info(group.session, node, lost)
                    yield end.key(group.members[node].mask_key, info), node > lost
