"""Bytes from the network are refused with an error of ours, or are what was written."""

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daafl.errors import MessageError

pytest.importorskip("py_arkworks_bls12381")

from daafl.secure.proof import (
    ORDER,
    Claim,
    Commitment,
    Context,
    Proof,
    Statement,
    commit,
    prove,
    verify,
)
from daafl.secure.proof.group import POINT_BYTES, library, read_points

# 7 has 3 bits, 4 with a sign; the limit, 232, has 8: 128 * 4 + 8 bits and one row of 4.
CLAIM = Claim(4, 1, 128)
STATEMENT = Statement(CLAIM, Context("test", b"r" * 32, b"s" * 32, b"m" * 32, 7, 1))
SEED = b"s" * 32
COMMITTED = commit(np.array([0, 1, 0, 0]), STATEMENT)
PROOF = prove(COMMITTED, SEED).to_bytes()
COMMITMENT = COMMITTED.commitment.to_bytes()
SIZES = (0, 1, 47, 48, 49, 96, CLAIM.proof_bytes - 1, CLAIM.proof_bytes, CLAIM.proof_bytes + 1)
EDGES = (
    b"\xff" * 48,
    b"\xc0" + bytes(47),
    b"\x80" + bytes(47),
    bytes(48),
    ORDER.to_bytes(32, "little"),
    (ORDER - 1).to_bytes(32, "little"),
)

Read = Callable[[bytes, Claim], Proof | Commitment]


def read_or_refused(read: Read, data: bytes) -> Proof | Commitment | None:
    """What was read, which must write the same bytes; ``None`` if it was refused."""
    try:
        found = read(data, CLAIM)
    except MessageError as error:
        assert error.reason in ("schema", "scalar", "point")
        assert len(str(error)) < 200
        return None
    assert found.to_bytes() == data
    return found


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Each change overwrites what stands at a place, modulo the length."""
    result = bytearray(data)
    for place, new in changes:
        start = place % len(result)
        result[start : start + len(new)] = new
    return bytes(result[: len(data)])


def spliced(data: bytes, cut: tuple[int, int, int]) -> bytes:
    """Move a part elsewhere; the length may change."""
    start, stop, to = (place % len(data) for place in cut)
    return data[:to] + data[start:stop] + data[to + max(0, stop - start) :]


PLACES = st.integers(0, 1 << 20)
# Also at the starts of points, where the flags are, and of scalars.
STARTS = st.one_of(PLACES, st.integers(0, 9).map(lambda place: POINT_BYTES * place))
CHANGES = st.lists(
    st.tuples(STARTS, st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(EDGES))),
    min_size=1,
    max_size=4,
)
DAMAGED = st.one_of(
    CHANGES.map(lambda changes: changed(PROOF, changes)),
    st.tuples(PLACES, PLACES, PLACES).map(lambda cut: spliced(PROOF, cut)),
    st.integers(0, len(PROOF)).map(lambda size: PROOF[:size]),
)
RANDOM = st.tuples(st.sampled_from(SIZES), st.integers(0, 1 << 62)).map(lambda made: noise(*made))
ROWS = st.one_of(
    st.binary(max_size=2 * POINT_BYTES),
    st.binary(min_size=POINT_BYTES, max_size=POINT_BYTES),
    CHANGES.map(lambda changes: changed(COMMITMENT, changes)),
)


@settings(max_examples=60, deadline=None)
@given(DAMAGED)
def test_a_damaged_proof_is_refused_by_reader_or_verifier(data: bytes) -> None:
    proof = read_or_refused(Proof.from_bytes, data)
    if proof is not None and data != PROOF:
        with pytest.raises(MessageError):
            verify(COMMITTED.commitment, SEED, proof, STATEMENT)


@settings(max_examples=200, deadline=None)
@given(RANDOM, ROWS)
def test_random_bytes_are_refused(data: bytes, rows: bytes) -> None:
    assert read_or_refused(Proof.from_bytes, data) is None
    read_or_refused(Commitment.from_bytes, rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "made", "count"),
    [
        (Proof.from_bytes, DAMAGED, 60_000),
        (Proof.from_bytes, RANDOM, 20_000),
        (Commitment.from_bytes, ROWS, 20_000),
    ],
    ids=["damaged proofs", "random bytes", "commitments"],
)
def test_a_hundred_thousand_inputs_crash_nothing(
    read: Read, made: st.SearchStrategy[bytes], count: int
) -> None:
    """Together 100,000; an exception of another kind, or an input that hangs, fails the test."""
    seen = 0

    @settings(
        max_examples=count,
        deadline=2000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(made)
    def run(data: bytes) -> None:
        nonlocal seen
        seen += 1
        read_or_refused(read, data)

    run()
    assert seen >= count


@pytest.mark.parametrize("size", [CLAIM.proof_bytes - 1, CLAIM.proof_bytes + 1, 50_000_000])
def test_nothing_is_allocated_for_a_wrong_size(size: int) -> None:
    data = bytes(size)
    tracemalloc.start()
    assert read_or_refused(Proof.from_bytes, data) is None
    assert read_or_refused(Commitment.from_bytes, data) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


def test_a_proof_takes_memory_in_proportion_to_its_size() -> None:
    """A scalar of 32 bytes is a Python integer of 60 and a pointer, in a list and in a tuple."""
    Proof.from_bytes(PROOF, CLAIM)
    tracemalloc.start()
    Proof.from_bytes(PROOF, CLAIM)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(PROOF)


@pytest.mark.parametrize("place", [0, 5, CLAIM.num_scalars - 1])
def test_a_scalar_has_one_encoding(place: int) -> None:
    """The order more is the same scalar to the equations; only the reader can tell."""
    start = CLAIM.num_points * POINT_BYTES + 32 * place
    scalar = int.from_bytes(PROOF[start : start + 32], "little")
    for value in (scalar + ORDER, ORDER, 2**256 - 1):
        written = value.to_bytes(32, "little")
        with pytest.raises(MessageError) as caught:
            Proof.from_bytes(PROOF[:start] + written + PROOF[start + 32 :], CLAIM)
        assert caught.value.reason == "scalar"
    largest = (ORDER - 1).to_bytes(32, "little")
    Proof.from_bytes(PROOF[:start] + largest + PROOF[start + 32 :], CLAIM)


def test_a_point_outside_the_subgroup_is_refused() -> None:
    """Most points of the curve lie in no subgroup of prime order: search the first few."""
    point = library().G1Point
    for x in range(1, 100):
        data = bytes([0x80]) + bytes(46) + bytes([x])
        try:
            found = point.from_compressed_bytes_unchecked(data)
        except ValueError:
            continue  # no point has this x
        assert not found.is_in_subgroup()
        with pytest.raises(MessageError, match="no point"):
            read_points(data, "a test")
        return
    raise AssertionError("no point among the first hundred")


@pytest.mark.parametrize("data", [b"\xff" * 48, b"\xe0" + bytes(47), b"\xc0" + bytes(46) + b"\x01"])
def test_a_second_encoding_of_the_neutral_element_is_refused(data: bytes) -> None:
    """The library reads all of these as the neutral element."""
    assert library().G1Point.from_compressed_bytes(data) == library().G1Point.identity()
    with pytest.raises(MessageError, match="canonical"):
        read_points(data, "a test")
    assert len(read_points(b"\xc0" + bytes(47), "a test")) == 1


def test_the_library_loads_on_first_use_and_is_asked_for_by_name() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "import daafl.secure.proof as proof\n"
        "assert 'py_arkworks_bls12381' not in sys.modules\n"
        "sys.modules['py_arkworks_bls12381'] = None\n"
        "context = proof.Context('f', bytes(32), bytes(32), bytes(32), 1, 1)\n"
        "try:\n"
        "    proof.commit(np.zeros(2, int), proof.Statement(proof.Claim(2, 1), context))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("ConfigError")
    assert "pip install 'daafl[proofs]'" in done.stdout
