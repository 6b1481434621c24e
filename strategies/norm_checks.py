"""The coordinator's side of norm proofs in a masked sum; see `docs/norm-proof.md`."""

from __future__ import annotations

from collections.abc import Mapping

from daafl.errors import FederationError, MessageError
from daafl.messages import COMMITMENT, SIGNATURE
from daafl.secure.fields import Fields
from daafl.secure.identity import SIGNATURE_BYTES
from daafl.secure.messages import Delivery
from daafl.secure.norm_bound import NormBound, drawn, new_seed, signed_commitment
from daafl.secure.quantisation import Quantiser
from daafl.secure.server import Inputs, check_expected, check_first
from daafl.secure.unmasking import MaskedSum


class Committing:
    """Between shares and vectors: nodes commit to their updates before the test's seed is drawn.

    Parameters
    ----------
    inputs
        The phase that takes the vectors, when it is their time.
    deliveries
        What goes to each node with the question for its vector.
    bound
        What nodes prove.
    """

    def __init__(
        self, inputs: Inputs, deliveries: Mapping[int, Delivery], bound: NormBound
    ) -> None:
        self.inputs = inputs
        self.deliveries = deliveries
        self.bound = bound
        self._received: dict[int, bytes] = {}

    def receive(self, node: int, values: object) -> None:
        """Take a node's commitment, or raise `MessageError`."""
        check_expected(node, self.deliveries)
        check_first(node, self._received)
        read = Fields.of(values, "a commitment")
        commitment = read.data(COMMITMENT, self.bound.claim.commitment_bytes)
        signature = read.data(SIGNATURE, SIGNATURE_BYTES)
        read.end()
        group = self.inputs.group
        content = signed_commitment(group, node, commitment)
        group.terms.check_signed(node, content, signature, "commitment")
        self._received[node] = commitment

    def close(self) -> Proving:
        """Return the phase in which vectors come with proofs; the seed is drawn now."""
        if not self._received:
            raise FederationError("no node committed to an update")
        return Proving(self.inputs, self.bound, dict(self._received))


class Proving:
    """Takes vectors that come with proofs.

    Parameters
    ----------
    inputs
        The phase that adds up the vectors.
    bound
        What nodes prove.
    commitments
        What each committed to.
    """

    def __init__(self, inputs: Inputs, bound: NormBound, commitments: dict[int, bytes]) -> None:
        self.inputs = inputs
        self.bound = bound
        self.commitments = commitments
        self.seed = new_seed()
        self._verified = drawn(commitments, bound.settings.norm_checked)

    def check(self, node: int, proof: bytes) -> None:
        """Return if a node's proof holds, or is not among those that are verified.

        Raises
        ------
        MessageError
            With reason ``unexpected_node``, ``schema``, ``scalar``, ``point`` or ``proof``.
        """
        check_expected(node, self.commitments)
        if len(proof) != self.bound.claim.proof_bytes:
            raise MessageError(
                "schema",
                f"a proof has {len(proof)} bytes; it must be {self.bound.claim.proof_bytes}",
            )
        if node in self._verified:
            group = self.inputs.group
            self.bound.check(self.commitments[node], proof, group, node, seed=self.seed)

    def check_sum(self, found: MaskedSum, quantiser: Quantiser) -> None:
        """Return if the sum is that of the updates that were committed to.

        Raises
        ------
        FederationError
            If it is not: some node proved one thing and sent another. Nobody can tell which.
        """
        try:
            self.bound.check_total(self.commitments, found.words, found.nodes, quantiser)
        except MessageError as error:
            raise FederationError(
                f"a sum of {len(found.nodes)} updates with proofs: {error.detail}"
            ) from None
