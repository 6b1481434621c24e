"""The server's phases: one commitment, then one seed, then one proof, then the sum."""

from collections.abc import Callable

import numpy as np
import pytest

from daafl.errors import FederationError, MessageError

pytest.importorskip("py_arkworks_bls12381")

from daafl.secure.proof import (
    Commitments,
    Committed,
    Context,
    Proofs,
    Statement,
    binding,
    centred,
    claim_for,
    commit,
    prove,
    quantiser_for,
)

QUANTISER = quantiser_for(1.0, 3)
CLAIM = claim_for(1.0, QUANTISER, 12, projections=128)
CONTEXTS = {
    node: Context("test", b"r" * 32, b"s" * 32, b"m" * 32, round=1, node=node) for node in range(3)
}


def update(node: int) -> np.ndarray:
    values = np.zeros(12)
    values[node : node + 4] = 0.5  # a norm of one
    return values


WORDS = {node: QUANTISER.quantised(update(node)) for node in CONTEXTS}


@pytest.fixture(scope="module")
def committed() -> dict[int, Committed]:
    return {
        node: commit(centred(WORDS[node], QUANTISER), Statement(CLAIM, context))
        for node, context in CONTEXTS.items()
    }


def opened(committed: dict[int, Committed]) -> Proofs:
    phase = Commitments(CLAIM, CONTEXTS)
    for node, one in committed.items():
        phase.receive(node, one.commitment.to_bytes())
    return phase.close()


def refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        call()
    assert caught.value.reason == reason


def test_a_step_with_a_node_that_is_lost(committed: dict[int, Committed]) -> None:
    """Node 1 commits and proves nothing: it is left out of the sum."""
    proofs = opened(committed)
    for node in (0, 2):
        proofs.receive(node, prove(committed[node], proofs.seed).to_bytes())
    assert proofs.nodes == (0, 2)
    assert proofs.refused() == {}
    randomness = sum(binding.words_of(committed[node].randomness) for node in (0, 2))
    proofs.check_sum((0, 2), WORDS[0] + WORDS[2], randomness, QUANTISER)
    off = WORDS[0] + WORDS[2]
    off[7] += 1
    refused(lambda: proofs.check_sum((0, 2), off, randomness, QUANTISER), "binding")
    refused(lambda: proofs.check_sum((0,), WORDS[0], randomness, QUANTISER), "binding")
    refused(lambda: proofs.check_sum((0, 1), off, randomness, QUANTISER), "unexpected_node")
    top = np.full(12, 2**32 - 1, np.uint32)
    refused(lambda: proofs.check_sum((0, 2), top, randomness, QUANTISER), "binding")


def test_a_proof_for_an_old_seed_is_refused(committed: dict[int, Committed]) -> None:
    old, new = opened(committed), opened(committed)
    assert old.seed != new.seed
    new.receive(0, prove(committed[0], old.seed).to_bytes())
    new.receive(1, prove(committed[1], new.seed).to_bytes())
    assert {node: error.reason for node, error in new.refused().items()} == {0: "proof"}
    assert new.refused([1]) == {}
    refused(lambda: new.refused([2]), "unexpected_node")


def test_nothing_is_taken_twice_late_or_from_strangers(committed: dict[int, Committed]) -> None:
    phase = Commitments(CLAIM, CONTEXTS)
    with pytest.raises(FederationError, match="no node"):
        phase.close()
    data = committed[0].commitment.to_bytes()
    phase.receive(0, data)
    refused(lambda: phase.receive(0, data), "duplicate")
    refused(lambda: phase.receive(9, data), "unexpected_node")
    refused(lambda: phase.receive(1, data[:-1]), "schema")
    refused(lambda: phase.receive(1, bytes(len(data))), "point")
    proofs = phase.close()
    refused(lambda: phase.receive(1, data), "late")
    with pytest.raises(FederationError, match="one seed"):
        phase.close()
    proof = prove(committed[0], proofs.seed).to_bytes()
    refused(lambda: proofs.receive(1, proof), "unexpected_node")
    refused(lambda: proofs.receive(0, proof[1:]), "schema")
    proofs.receive(0, proof)
    refused(lambda: proofs.receive(0, proof), "duplicate")
