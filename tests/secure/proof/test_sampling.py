"""Verification of many proofs, alone and by several processes."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("py_arkworks_bls12381")

from daafl.secure.proof import Claim, Context, Statement, commit, prove, sampling

CLAIM = Claim(20, 5, 128)
SEED = b"q" * 32


@pytest.fixture(scope="module")
def received() -> dict[int, sampling.Received]:
    """Four nodes; node 2 sends node 1's proof, node 3 bytes of a wrong size."""
    found = {}
    for node in range(4):
        context = Context("test", b"r" * 32, b"s" * 32, b"m" * 32, 1, node)
        values = np.zeros(20, int)
        values[node] = 5
        committed = commit(values, Statement(CLAIM, context))
        found[node] = sampling.Received(
            committed.statement,
            SEED,
            committed.commitment.to_bytes(),
            prove(committed, SEED).to_bytes(),
        )
    found[2] = replace(found[1], statement=found[2].statement)
    found[3] = replace(found[3], proof=found[3].proof[:-1])
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_who_is_refused_and_why(received: dict[int, sampling.Received], processes: int) -> None:
    errors = sampling.refused(received, processes=processes)
    assert {node: error.reason for node, error in errors.items()} == {2: "proof", 3: "schema"}
    assert "node 2" in errors[2].detail


def test_nobody_is_refused_without_reason(received: dict[int, sampling.Received]) -> None:
    assert sampling.refused({node: received[node] for node in (0, 1)}) == {}
    assert sampling.refused({}) == {}
