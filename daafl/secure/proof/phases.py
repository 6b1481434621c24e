"""The server's side of the proofs of one step: commitments, then a seed and proofs, then the sum.

The order is what the proof rests on, so it is kept here: the seed is drawn when no commitment can
come in any more, every node has one answer, and a step that is tried again begins anew. The phases
have no clock and no network.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping

from daafl.errors import FederationError, MessageError
from daafl.secure.proof.binding import check_sum, randomness_in
from daafl.secure.proof.messages import Commitment
from daafl.secure.proof.projection import SEED_BYTES
from daafl.secure.proof.sampling import Received, refused
from daafl.secure.proof.scale import centred_sum
from daafl.secure.proof.statement import Claim, Context, Statement
from daafl.secure.quantisation import Quantiser, Words


class Commitments:
    """Phase 1: collects commitments.

    Parameters
    ----------
    claim
        What all nodes prove.
    contexts
        By node, from what the server knows itself.
    """

    def __init__(self, claim: Claim, contexts: Mapping[int, Context]) -> None:
        self._claim = claim
        self._contexts = contexts
        self._received: dict[int, bytes] = {}
        self._is_closed = False

    def receive(self, node: int, data: bytes) -> None:
        """Take a node's commitment.

        Raises
        ------
        MessageError
            With reason ``unexpected_node``, ``duplicate``, ``schema`` or ``point``; ``late`` once
            the seed was drawn.
        """
        if self._is_closed:
            raise MessageError("late", f"node {node} committed after the seed was drawn")
        _check_new(node, self._contexts, self._received)
        Commitment.from_bytes(data, self._claim)
        self._received[node] = data

    def close(self) -> Proofs:
        """Return the next phase, with a fresh seed for all who committed.

        Raises
        ------
        FederationError
            If nobody did, or it was closed before: one set of commitments has one seed.
        """
        if self._is_closed or not self._received:
            raise FederationError(
                "commitments get one seed: begin the step again with new commitments"
                if self._is_closed
                else "no node committed to its update"
            )
        self._is_closed = True
        contexts = {node: self._contexts[node] for node in self._received}
        return Proofs(self._claim, contexts, self._received, secrets.token_bytes(SEED_BYTES))


class Proofs:
    """Phase 2: collects proofs for the seed, verifies them, and later checks the sum.

    Made by `Commitments.close`.
    """

    def __init__(
        self,
        claim: Claim,
        contexts: Mapping[int, Context],
        commitments: Mapping[int, bytes],
        seed: bytes,
    ) -> None:
        self.seed = seed
        self._claim = claim
        self._contexts = contexts
        self._commitments = commitments
        self._received: dict[int, bytes] = {}

    def receive(self, node: int, data: bytes) -> None:
        """Take a node's proof; it is read when it is verified.

        Raises
        ------
        MessageError
            With reason ``unexpected_node``, ``duplicate`` or ``schema``.
        """
        _check_new(node, self._contexts, self._received)
        if type(data) is not bytes or len(data) != self._claim.proof_bytes:
            raise MessageError("schema", f"the proof of node {node} has a wrong size")
        self._received[node] = data

    @property
    def nodes(self) -> tuple[int, ...]:
        """Those who sent a proof, ascending; nobody else may be in the sum."""
        return tuple(sorted(self._received))

    def refused(
        self, nodes: Iterable[int] | None = None, *, processes: int = 1
    ) -> dict[int, MessageError]:
        """Return whose proofs do not hold, and why.

        To be asked before the list of survivors is made: who is refused counts as lost.

        Parameters
        ----------
        nodes
            Whose to verify, such as a sample; ``None`` for all.
        processes
            How many verify at once.
        """
        chosen = self.nodes if nodes is None else tuple(nodes)
        return refused({node: self._packed(node) for node in chosen}, processes=processes)

    def check_sum(
        self, nodes: Collection[int], total: Words, randomness: Words, quantiser: Quantiser
    ) -> None:
        """Return if the sum is that of what the nodes in it committed to.

        Parameters
        ----------
        nodes
            Those in the sum; each must have sent a proof.
        total, randomness
            Sums of the words of updates and of randomness.
        quantiser
            Of the sum.

        Raises
        ------
        MessageError
            With reason ``binding``, ``unexpected_node`` or ``schema``.
        """
        for node in nodes:
            _check_known(node, self._received)
        points = [Commitment.from_bytes(self._commitments[n], self._claim) for n in nodes]
        integers = centred_sum(total, len(points), quantiser)
        check_sum(points, integers, randomness_in(randomness, self._claim), self._claim)

    def _packed(self, node: int) -> Received:
        _check_known(node, self._received)
        about = Statement(self._claim, self._contexts[node])
        return Received(about, self.seed, self._commitments[node], self._received[node])


def _check_known(node: int, among: Collection[int]) -> None:
    if node not in among:
        raise MessageError(
            "unexpected_node", f"node {node} has no part in this phase of the proofs"
        )


def _check_new(node: int, among: Collection[int], received: Collection[int]) -> None:
    _check_known(node, among)
    if node in received:
        raise MessageError("duplicate", f"node {node} has answered already")
