"""The coordinator's side of norm proofs in a masked sum; see `docs/norm-proof.md`."""

from __future__ import annotations

from collections.abc import Mapping

from daafl.errors import FederationError, MessageError
from daafl.messages import COMMITMENT, SIGNATURE
from daafl.secure.fields import Fields
from daafl.secure.identity import SIGNATURE_BYTES
from daafl.secure.messages import Delivery
from daafl.secure.norm_bound import NormBound, drawn, signed_commitment
from daafl.secure.proof import Commitments, Proofs
from daafl.secure.quantisation import Quantiser
from daafl.secure.server import Inputs, check_expected
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
        self._commitments = Commitments(bound.claim, bound.contexts(inputs.group))
        self._committed: list[int] = []

    def receive(self, node: int, values: object) -> None:
        """Take a node's commitment, or raise `MessageError`."""
        check_expected(node, self.deliveries)
        read = Fields.of(values, "a commitment")
        commitment = read.data(COMMITMENT, self.bound.claim.commitment_bytes)
        signature = read.data(SIGNATURE, SIGNATURE_BYTES)
        read.end()
        group = self.inputs.group
        content = signed_commitment(group, node, commitment)
        group.terms.check_signed(node, content, signature, "commitment")
        self._commitments.receive(node, commitment)
        self._committed.append(node)

    def close(self) -> Proving:
        """Return the phase in which vectors come with proofs; the seed is drawn now.

        Raises
        ------
        FederationError
            If nobody committed.
        """
        return Proving(self._commitments.close(), self.bound, tuple(self._committed))


class Proving:
    """Verifies proofs as they come with the vectors, and the sum when it is there.

    Parameters
    ----------
    proofs
        Commitments, with the seed.
    bound
        What nodes prove.
    nodes
        Those that committed.
    """

    def __init__(self, proofs: Proofs, bound: NormBound, nodes: tuple[int, ...]) -> None:
        self.bound = bound
        self.nodes = nodes
        self._proofs = proofs
        self._verified = drawn(nodes, bound.settings.norm_checked)

    @property
    def seed(self) -> bytes:
        """Seed of the test."""
        return self._proofs.seed

    def check(self, node: int, proof: bytes) -> None:
        """Return if a node's proof holds, or is not among those that are verified.

        Raises
        ------
        MessageError
            With reason ``unexpected_node``, ``duplicate``, ``schema``, ``scalar``, ``point`` or
            ``proof``.
        """
        self._proofs.receive(node, proof)
        if node in self._verified:
            for error in self._proofs.refused((node,)).values():
                raise error

    def check_sum(self, found: MaskedSum, quantiser: Quantiser) -> None:
        """Return if the sum is that of the updates that were committed to.

        Raises
        ------
        FederationError
            If it is not: some node proved one thing and sent another. Nobody can tell which.
        """
        try:
            self._proofs.check_sum(found.nodes, *self.bound.parts(found.words), quantiser)
        except MessageError as error:
            raise FederationError(
                f"a sum of {len(found.nodes)} updates with proofs: {error.detail}"
            ) from None
