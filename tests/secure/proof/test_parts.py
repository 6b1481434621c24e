"""The parts of a proof against independent computations and numbers by hand."""

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from daafl.errors import ConfigError, MessageError
from daafl.secure.hidden import Secret
from daafl.secure.proof import Claim, Context, centred, centred_sum, claim_for, quantiser_for, slack
from daafl.secure.proof.binding import MAX_NODES, num_words, randomness_in, words_of
from daafl.secure.proof.group import ORDER
from daafl.secure.proof.limbs import limbs, recombined
from daafl.secure.proof.projection import projected
from daafl.secure.proof.sampling import fresh_secret, missed, sampled
from daafl.secure.proof.statement import ALLOWANCE
from daafl.secure.proof.transcript import Transcript
from daafl.secure.quantisation import Quantiser

SCALARS = st.integers(0, ORDER - 1)


@settings(deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=4), st.lists(st.integers(-(2**40), 2**40)))
def test_limbs_add_up_as_scalars_do(scalars: list[int], factors: list[int]) -> None:
    pairs = list(zip(scalars, factors, strict=False))
    sums = np.zeros((1, 16), np.int64)
    for scalar, factor in pairs:
        sums += limbs([scalar]).astype(np.int64) * factor
    assert recombined(sums) == [sum(a * b for a, b in pairs) % ORDER]


@pytest.mark.parametrize(("width", "num_rows", "k"), [(1, 3, 4), (8, 1, 5), (13, 2, 7)])
def test_projections_are_those_of_the_published_keystream(
    width: int, num_rows: int, k: int
) -> None:
    """A byte per eight signs, highest bit first; each projection of each row begins a byte."""
    num_bytes = -(-width // 8)
    cipher = Cipher(algorithms.AES(b"k" * 32), modes.CTR(bytes(16))).encryptor()
    stream = cipher.update(bytes(num_rows * k * num_bytes))
    columns = np.random.default_rng(0).integers(-(2**15), 2**15, (width, 3)).astype(float)
    found = projected(b"k" * 32, columns, num_rows=num_rows, num_projections=k)
    for row in range(num_rows):
        for t in range(k):
            start = (row * k + t) * num_bytes
            bits = "".join(f"{byte:08b}" for byte in stream[start : start + num_bytes])[:width]
            signs = [1 if bit == "1" else -1 for bit in bits]
            expected = [sum(a * int(x) for a, x in zip(signs, c, strict=True)) for c in columns.T]
            assert found[row, t].tolist() == expected


def test_projections_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(1).integers(-9, 9, (50, 2)).astype(float)
    whole = projected(b"k" * 32, columns, num_rows=3, num_projections=11)
    monkeypatch.setattr("daafl.secure.proof.projection.BLOCK_SIGNS", 101)
    assert np.array_equal(projected(b"k" * 32, columns, num_rows=3, num_projections=11), whole)


def test_a_transcript_depends_on_each_thing_said() -> None:
    def challenge(values: tuple[bytes, ...], said: list[tuple[str, bytes]], name: str) -> int:
        transcript = Transcript(*values)
        for one in said:
            transcript.absorb(*one)
        return transcript.challenge(name)

    made = [
        challenge((b"ab", b"c"), [("x", b"1")], "q"),
        challenge((b"a", b"bc"), [("x", b"1")], "q"),
        challenge((b"ab", b"c"), [("x", b"2")], "q"),
        challenge((b"ab", b"c"), [("y", b"1")], "q"),
        challenge((b"ab", b"c"), [("x", b"1"), ("x", b"")], "q"),
        challenge((b"ab", b"c"), [("x", b"1")], "r"),
    ]
    assert len(set(made)) == len(made)
    transcript = Transcript(b"a")
    assert transcript.challenge("q") != transcript.challenge("q")


@given(st.lists(st.tuples(SCALARS, SCALARS), min_size=1, max_size=5))
def test_randomness_is_summed_exactly(pairs: list[tuple[int, int]]) -> None:
    claim = Claim(10_000, 1, 128)  # 520 bits: 20 rows
    rows = [pair + (ORDER - 1,) * 18 for pair in pairs]
    total = np.sum([words_of(row) for row in rows], axis=0, dtype=np.uint32)
    expected = [sum(column) % ORDER for column in zip(*rows, strict=True)]
    assert list(randomness_in(total, claim)) == expected


def test_the_most_nodes_do_not_wrap_around() -> None:
    """65,536 words of 65,535 are 2**32 - 65,536."""
    claim = Claim(1, 1, 128)
    words = words_of([2**254 - 1]).astype(np.int64) * MAX_NODES
    assert words.max() < 2**32
    found = randomness_in(words.astype(np.uint32), claim)
    assert found == (MAX_NODES * (2**254 - 1) % ORDER,)
    assert num_words(claim) == 16
    with pytest.raises(MessageError, match="16 words"):
        randomness_in(np.zeros(17, np.uint32), claim)


def test_sums_and_proofs_see_the_same_integers() -> None:
    """Bound 3.2767, 65,534 levels: a step of 0.0001; 100 values round by up to 10 steps."""
    quantiser = quantiser_for(3.2767, 1000)
    assert quantiser.levels == 65_534
    assert quantiser.step == pytest.approx(1e-4)
    assert claim_for(3.2767, quantiser, 100).bound in (32_777, 32_778)
    update = np.array([0.0, 1.0, -3.2767, 3.2767])
    words = quantiser.quantised(update)
    assert centred(words, quantiser).tolist() == [0, 10_000, -32_767, 32_767]
    total = words + words + words
    assert centred_sum(total, 3, quantiser).tolist() == [0, 30_000, -98_301, 98_301]
    assert quantiser.sum_of(total, 3) == pytest.approx(3 * update)


def test_the_largest_federation_fits() -> None:
    quantiser = quantiser_for(1.0, 65_536)
    assert quantiser.levels == 65_534
    top = np.array([65_536 * 65_534], np.uint32)
    assert centred_sum(top, 65_536, quantiser).tolist() == [65_536 * 32_767]
    with pytest.raises(MessageError, match="exceeds"):
        centred_sum(top, 65_535, quantiser)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(0, 99), st.floats(0.01, 100))
def test_rounding_stays_within_the_bound_in_steps(d: int, seed: int, bound: float) -> None:
    rng = np.random.default_rng(seed)
    update = rng.normal(size=d) * rng.exponential(size=d)
    update *= bound / np.linalg.norm(update)
    quantiser = quantiser_for(bound, 10)
    integers = centred(quantiser.quantised(update, rng), quantiser)
    claim = claim_for(bound, quantiser, d)
    assert np.linalg.norm(integers) <= claim.bound
    assert claim.bound * quantiser.step <= bound * (1 + (math.sqrt(d) + 1) / 32_767)


def test_a_coarse_quantiser_makes_the_bound_in_steps_larger() -> None:
    """Bound 1, 4,194 levels: 2,097 steps, and the root of 100,000: 2,413.2; 15.1 % more."""
    coarse = Quantiser(1.0, 1000, 1000 * 4194 + 1)
    assert coarse.levels == 4194
    assert claim_for(1.0, coarse, 100_000).bound == 2414


@pytest.mark.parametrize(
    "call",
    [
        lambda: quantiser_for(0.0, 2),
        lambda: quantiser_for(math.nan, 2),
        lambda: quantiser_for(1.0, 2, clip=1.5),
        lambda: quantiser_for(1.0, 65_537),
        lambda: claim_for(1.0, Quantiser(1.0, 2), 10),
        lambda: quantiser_for(1e-320, 2),
        lambda: claim_for(1.0, quantiser_for(1.0, 2, clip=1e-9), 10),
        lambda: Claim(0, 1),
        lambda: Claim(1, 0),
        lambda: Claim(1, 1, 100),
        lambda: Context("f", b"", bytes(32), bytes(32), 1, 1),
        lambda: Context("f", bytes(32), bytes(32), bytes(32), -1, 1),
        lambda: sampled([1, 2], 0, fresh_secret()),
        lambda: missed(3, 4, 1),
    ],
)
def test_settings_out_of_range_are_refused(call: object) -> None:
    with pytest.raises(ConfigError):
        call()


@pytest.mark.parametrize("k", sorted(ALLOWANCE))
def test_the_allowance_is_the_least_for_honest_nodes(k: int) -> None:
    """At most 2**-20, and a thousandth less would be above; the exact chi-square tail is below."""
    claim = Claim(1000, 30_000, k)
    assert slack.honest_failure(claim) <= 2**-20
    less = (ALLOWANCE[k] - 1) / 1000
    assert math.exp(k / 2 * (math.log(less) + 1 - less)) + 2 * k * math.exp(-24.5) > 2**-20
    assert chi2.sf(ALLOWANCE[k] / 1000 * k, k) < slack.honest_failure(claim)


@pytest.mark.parametrize("k", sorted(ALLOWANCE))
@pytest.mark.parametrize("ratio", [1.2, 1.5, 1.8, 2.5, 4.0])
def test_tails_against_exact_ones(k: int, ratio: float) -> None:
    """Chi-square from scipy; and two equal values, whose squares are 0 or 2 with even chances."""
    claim = Claim(1000, 30_000, k)
    left = ALLOWANCE[k] / 1000 * k / ratio**2
    assert slack.approximate(claim, ratio) == pytest.approx(chi2.cdf(left, k), rel=1e-6, abs=1e-38)
    exact = binom.cdf(math.floor(left / 2), k, 0.5)
    assert slack.rigorous(claim, ratio) >= exact
    assert slack.rigorous(claim, ratio) >= chi2.cdf(left, k)


def test_the_rigorous_exponent_is_the_best_of_its_kind() -> None:
    claim = Claim(1000, 30_000, 512)
    left = ALLOWANCE[512] / 1000 / 1.7**2
    grid = [512 * (math.log(1 - h + 1.5 * h * h) + h * left) for h in np.linspace(0, 0.5, 5001)]
    assert slack.rigorous(claim, 1.7) == pytest.approx(math.exp(min(grid)), rel=1e-5, abs=0)
    assert slack.rigorous(claim, 1.0) == 1.0


def test_slack_is_where_the_probability_is_met() -> None:
    claim = Claim(1000, 30_000, 256)
    for is_rigorous, chance in ((False, slack.approximate), (True, slack.rigorous)):
        ratio = slack.slack(claim, 1e-9, is_rigorous=is_rigorous)
        assert chance(claim, ratio) == pytest.approx(1e-9, rel=1e-6, abs=0)
    assert slack.slack(Claim(1000, 30_000, 128), is_rigorous=True) == math.inf


def test_real_projections_have_the_stated_tail() -> None:
    """At the ratio where chi-square says 5 %, 4,000 seeds over 64 values: deviation 0.34 %."""
    claim = Claim(64, 1000, 128)
    ratio = slack.slack(claim, 0.05, is_rigorous=False)
    signs = projected(b"t" * 32, np.eye(64), num_rows=4000, num_projections=128)
    values = np.random.default_rng(0).normal(size=64)
    values *= ratio * claim.bound / np.linalg.norm(values)
    squares = ((signs @ values) ** 2).sum(axis=1)
    assert np.mean(squares <= claim.limit) == pytest.approx(0.05, abs=0.014)


def test_what_is_printed_says_slack_and_probability() -> None:
    text = slack.sentence(Claim(1000, 30_000, 256), 1e-4)
    for part in ("norm 3 ", "2^-40", "1.76", "2.49", "unaudited", "9.3e-07"):
        assert part in text
    assert "no rigorous tail bound" in slack.sentence(Claim(1000, 30_000, 128), 1e-4)


def test_samples() -> None:
    """Of five, two cheat and two are looked at: 3/5 * 2/4 = 0.3."""
    assert missed(5, 2, 2) == pytest.approx(0.3)
    assert missed(5, 0, 5) == 1.0
    assert missed(5, 2, 4) == 0.0
    secret = Secret(b"k" * 32)
    assert sampled(range(100), 10, secret) == sampled(reversed(range(100)), 10, secret)
    assert sampled([3, 1, 2], 10, secret) == (1, 2, 3)
    counts = np.zeros(10)
    for _ in range(2000):
        counts[list(sampled(range(10), 3, fresh_secret()))] += 1
    assert (np.abs(counts - 600) < 110).all()  # deviation 20.5
