"""Proofs from commitment to sum: honest nodes are accepted, each way to cheat is refused."""

import itertools
import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daafl.errors import DataError, MessageError

pytest.importorskip("py_arkworks_bls12381")

from daafl.secure.proof import (
    ORDER,
    Claim,
    Commitment,
    Committed,
    Context,
    Proof,
    Statement,
    binding,
    challenges,
    commit,
    prove,
    prover,
    verify,
)
from daafl.secure.proof.group import GENERATORS, random_scalar

# A limit of 128 * 1.811 * 300**2 and thirteen bits for a projection: 1,691 bits, rows of 1,500.
CLAIM = Claim(3000, 300, 128)
SEED = bytes(range(32))


def statement(node: int = 1, round: int = 7, claim: Claim = CLAIM) -> Statement:
    return Statement(claim, Context("test", b"r" * 32, b"s" * 32, b"m" * 32, round, node))


def vector(norm: float, seed: int = 0, dimension: int = CLAIM.dimension) -> np.ndarray:
    """Whole numbers whose norm is at most ``norm``, and nearly that."""
    values = np.random.default_rng(seed).normal(size=dimension)
    return np.trunc(values / np.linalg.norm(values) * norm).astype(np.int64)


def answer(committed: Committed, seed: bytes = SEED) -> Proof:
    """What the prover's own code makes when nothing stops it at the limit."""
    claim = committed.statement.claim
    mask = [random_scalar() for _ in range(claim.width)]
    parts = prover.projected_parts(committed, mask, seed)
    rest = claim.limit - sum(value**2 for value in prover.projections_in(parts))
    return prover.proof_of(committed, seed, mask, parts, rest)


@pytest.fixture(scope="module")
def honest() -> tuple[Committed, Proof]:
    committed = commit(vector(300), statement())
    return committed, prove(committed, SEED)


def refused(call: Callable[[], object], reason: str = "proof") -> None:
    with pytest.raises(MessageError) as caught:
        call()
    assert caught.value.reason == reason


def test_the_bits_and_rows_by_hand() -> None:
    """7 * 300 = 2100 has 12 bits, with a sign 13; the limit, 20862720, has 25."""
    assert CLAIM.limit == 300**2 * 128 * 1811 // 1000 == 20_862_720
    assert (CLAIM.projection_bits, CLAIM.slack_bits) == (13, 25)
    assert (CLAIM.num_bits, CLAIM.num_rows, CLAIM.width) == (128 * 13 + 25, 2, 1500)
    assert CLAIM.commitment_bytes == 2 * 48
    assert CLAIM.proof_bytes == (8 + 4) * 48 + (6 + 1500 + 1689) * 32


def test_an_honest_proof_is_accepted_after_travelling(honest: tuple[Committed, Proof]) -> None:
    committed, proof = honest
    data = committed.commitment.to_bytes(), proof.to_bytes()
    assert [len(one) for one in data] == [CLAIM.commitment_bytes, CLAIM.proof_bytes]
    read = Commitment.from_bytes(data[0], CLAIM), Proof.from_bytes(data[1], CLAIM)
    verify(read[0], SEED, read[1], statement())


@pytest.mark.parametrize("dimension", [1, 2, 31, 1689, 1690, 5000])
@pytest.mark.parametrize("values", ["zeros", "full"])
def test_every_shape_of_vector_is_accepted(dimension: int, values: str) -> None:
    claim = Claim(dimension, 300, 128)
    committed = commit(
        np.zeros(dimension, int) if values == "zeros" else vector(300, dimension=dimension),
        statement(claim=claim),
    )
    verify(committed.commitment, SEED, prove(committed, SEED), committed.statement)


@pytest.mark.parametrize("projections", [256, 512])
def test_more_projections_are_accepted_too(projections: int) -> None:
    """Nine ones have a norm of 3; projections of seven times that take six bits."""
    claim = Claim(40, 3, projections)
    committed = commit(np.repeat([1, 0, -1, 0], [5, 20, 4, 11]), statement(claim=claim))
    verify(committed.commitment, SEED, prove(committed, SEED), committed.statement)


def test_a_change_to_any_part_is_refused(honest: tuple[Committed, Proof]) -> None:
    committed, proof = honest
    other = GENERATORS.vector(1)[0]
    for name, value in vars(proof).items():
        if isinstance(value, int):
            changes: list[object] = [(value + 1) % ORDER]
        elif isinstance(value, tuple):
            step = 1 if isinstance(value[0], int) else other
            changes = []
            for place in {0, len(value) // 2, len(value) - 1}:
                changed = list(value)
                changed[place] = changed[place] + step
                changes.append(tuple(changed))
        else:
            changes = [value + other]
        for changed_part in changes:
            changed_proof = replace(proof, **{name: changed_part})
            refused(lambda p=changed_proof: verify(committed.commitment, SEED, p, statement()))


def test_a_proof_for_another_commitment_is_refused(honest: tuple[Committed, Proof]) -> None:
    """Also one of the same vector: its randomness is another."""
    _, proof = honest
    for values in (vector(300), vector(300, 1), 3 * vector(300)):
        refused(
            lambda v=values: verify(commit(v, statement()).commitment, SEED, proof, statement())
        )


def test_a_proof_about_a_small_vector_does_not_pass_for_a_large_one() -> None:
    """A cheater commits to three times the vector and answers with the vector."""
    large = commit(3 * vector(300), statement())
    forged = replace(large, rows=large.rows // 3)
    refused(lambda: verify(large.commitment, SEED, prove(forged, SEED), statement()))


def test_a_norm_above_the_slack_is_refused_on_both_sides() -> None:
    committed = commit(vector(900), statement())
    with pytest.raises(DataError, match="beyond the norm bound"):
        prove(committed, SEED)
    refused(lambda: verify(committed.commitment, SEED, answer(committed), statement()))


def test_projections_that_do_not_fit_their_bits_are_refused() -> None:
    """One value of 30,000: projections of that size do not fit 13 bits."""
    values = np.zeros(3000, int)
    values[17] = 30_000
    committed = commit(values, statement())
    refused(lambda: verify(committed.commitment, SEED, answer(committed), statement()))


def test_bits_that_are_no_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cheater writes a negative distance to the limit as one bit, and all sums come out right."""
    made = prover._bits

    def forged(claim: Claim, projections: list[int], rest: int) -> list[int]:
        bits = made(claim, projections, 0)
        bits[-claim.slack_bits] = rest
        return bits

    monkeypatch.setattr(prover, "_bits", forged)
    committed = commit(vector(900), statement())
    refused(lambda: verify(committed.commitment, SEED, answer(committed), statement()))


@pytest.mark.parametrize(
    ("point", "scalar"),
    [
        ("row_mask", "row_randomness"),
        ("bit_mask", "bit_randomness"),
        ("bit_square", "square_randomness"),
        ("sum_mask", "sum_randomness"),
        ("norm_square", "norm_randomness"),
        ("products", "product_randomness"),
    ],
)
def test_what_is_announced_cannot_be_shifted_with_the_answer(
    honest: tuple[Committed, Proof], point: str, scalar: str
) -> None:
    """The equations still hold; that the announcement went into the challenge does not."""
    committed, proof = honest
    old = getattr(proof, point)
    new = (
        (old[0] + GENERATORS.blinding, *old[1:])
        if isinstance(old, tuple)
        else old + GENERATORS.blinding
    )
    shifted = replace(proof, **{point: new, scalar: (getattr(proof, scalar) + 1) % ORDER})
    refused(lambda: verify(committed.commitment, SEED, shifted, statement()))


def test_the_same_code_proves_when_the_norm_is_right() -> None:
    """The cheaters above are refused for what they claim, not for how they answer."""
    committed = commit(vector(300), statement())
    verify(committed.commitment, SEED, answer(committed), statement())


@pytest.mark.parametrize(
    "change",
    [
        {"node": 2},
        {"round": 8},
        {"federation": "other"},
        {"session": b"t" * 32},
        {"roster": b"t" * 32},
        {"model": b"t" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_replayed_proof_is_refused(
    honest: tuple[Committed, Proof], change: dict[str, object]
) -> None:
    committed, proof = honest
    other = Statement(CLAIM, replace(statement().context, **change))
    refused(lambda: verify(committed.commitment, SEED, proof, other))


def test_a_proof_for_another_seed_is_refused(honest: tuple[Committed, Proof]) -> None:
    committed, proof = honest
    refused(lambda: verify(committed.commitment, secrets.token_bytes(32), proof, statement()))
    refused(lambda: verify(committed.commitment, SEED[:31], proof, statement()), "seed")


def test_a_proof_for_another_claim_is_refused(honest: tuple[Committed, Proof]) -> None:
    """The bound 299 has a proof of the same size; 100 has another."""
    committed, proof = honest
    near = replace(CLAIM, bound=299)
    assert near.proof_bytes == CLAIM.proof_bytes
    refused(lambda: verify(committed.commitment, SEED, proof, statement(claim=near)))
    far = statement(claim=replace(CLAIM, bound=100))
    refused(lambda: verify(committed.commitment, SEED, proof, far), "schema")


def test_errors_of_two_equations_do_not_cancel(honest: tuple[Committed, Proof]) -> None:
    """What is added to the randomness of one is taken from that of another."""
    committed, proof = honest
    names = [name for name in vars(proof) if name.endswith("_randomness")]
    assert len(names) == 6
    for one, other in itertools.pairwise(names):
        wrong = replace(
            proof,
            **{
                one: (getattr(proof, one) + 1) % ORDER,
                other: (getattr(proof, other) - 1) % ORDER,
            },
        )
        refused(lambda p=wrong: verify(committed.commitment, SEED, p, statement()))


def test_challenges_depend_on_the_whole_statement(honest: tuple[Committed, Proof]) -> None:
    """Even where a change would be noticed by the equations too."""
    committed, _ = honest
    context, mine, point = statement().context, statement(), committed.commitment
    other = commit(vector(300), mine).commitment
    contexts = [
        replace(context, **change)
        for change in (
            {"node": 2},
            {"round": 8},
            {"federation": "t"},
            {"session": b"t" * 32},
            {"roster": b"t" * 32},
            {"model": b"t" * 32},
        )
    ]
    claims = [replace(CLAIM, dimension=2999), replace(CLAIM, bound=299), Claim(3000, 300, 256)]
    begun = [
        challenges.begun(mine, point, SEED),
        challenges.begun(mine, point, SEED[::-1]),
        challenges.begun(mine, other, SEED),
        *(challenges.begun(Statement(CLAIM, one), point, SEED) for one in contexts),
        *(challenges.begun(statement(claim=one), point, SEED) for one in claims),
    ]
    drawn = {transcript.challenge("projections") for transcript in begun}
    assert len(drawn) == len(begun) == 12
    again = challenges.begun(mine, point, SEED)
    assert again.challenge("projections") in drawn


def test_two_proofs_of_one_commitment_share_nothing(honest: tuple[Committed, Proof]) -> None:
    """Every point and every response is blinded afresh."""
    committed, proof = honest
    again = prove(committed, SEED)
    assert not set(again.row_response + again.bit_response) & set(
        proof.row_response + proof.bit_response
    )
    points = {point.to_compressed_bytes() for point in (proof.bits, *proof.announced)}
    assert not points & {point.to_compressed_bytes() for point in (again.bits, *again.announced)}


@pytest.fixture(scope="module")
def three() -> tuple[list[Committed], np.ndarray, np.ndarray]:
    committed = [commit(vector(300, node), statement(node)) for node in range(3)]
    total = sum(vector(300, node) for node in range(3))
    words = sum(binding.words_of(one.randomness) for one in committed)
    return committed, total, words


def test_the_sum_opens_the_sum_of_commitments(three: tuple) -> None:
    committed, total, words = three
    randomness = binding.randomness_in(words, CLAIM)
    binding.check_sum([one.commitment for one in committed], total, randomness, CLAIM)
    rows = zip(*(one.randomness for one in committed), strict=True)
    expected = [sum(row) % ORDER for row in rows]
    assert list(randomness) == expected


@pytest.mark.parametrize("place", [0, 1499, 1500, 2999])
@pytest.mark.parametrize("step", [1, -1, 2**31])
def test_a_sum_that_is_off_is_refused(three: tuple, place: int, step: int) -> None:
    committed, total, words = three
    wrong = total.copy()
    wrong[place] += step
    commitments = [one.commitment for one in committed]
    randomness = binding.randomness_in(words, CLAIM)
    refused(lambda: binding.check_sum(commitments, wrong, randomness, CLAIM), "binding")


def test_errors_of_two_rows_do_not_cancel(three: tuple) -> None:
    """One more in the first row, one less in the same place of the second."""
    committed, total, words = three
    wrong = total.copy()
    wrong[3] += 1
    wrong[CLAIM.width + 3] -= 1
    commitments = [one.commitment for one in committed]
    randomness = binding.randomness_in(words, CLAIM)
    refused(lambda: binding.check_sum(commitments, wrong, randomness, CLAIM), "binding")


def test_other_nodes_or_other_randomness_are_refused(three: tuple) -> None:
    committed, total, words = three
    commitments = [one.commitment for one in committed]
    randomness = binding.randomness_in(words, CLAIM)
    for some in (commitments[:2], [*commitments, commitments[0]]):
        refused(lambda s=some: binding.check_sum(s, total, randomness, CLAIM), "binding")
    off = words.copy()
    off[20] += 1
    wrong = binding.randomness_in(off, CLAIM)
    refused(lambda: binding.check_sum(commitments, total, wrong, CLAIM), "binding")


def test_values_that_no_commitment_takes_are_refused() -> None:
    values = np.zeros(3000, int)
    values[0] = 32_768
    with pytest.raises(DataError, match="32767"):
        commit(values, statement())
    with pytest.raises(DataError, match="shape"):
        commit(values[1:], statement())
