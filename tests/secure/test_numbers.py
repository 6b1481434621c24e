"""Quantised sums, headers, shares and masks: exact numbers and properties."""

import hashlib
import hmac
import random
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import DataError, MessageError
from daafl.secure import Header, HeaderSum, Quantiser, Secret, masks, shamir
from daafl.secure.header import HEADER_SLOTS

SECRETS = st.binary(min_size=32, max_size=32)


def test_eight_bit_words_by_hand() -> None:
    """Modulus 256, 3 summands: 255 // 3 = 85, even: 84 levels; step 2 * 4.2 / 84 = 0.1."""
    quantiser = Quantiser(clip=4.2, num_summands=3, modulus=256)
    assert quantiser.levels == 84
    assert quantiser.step == pytest.approx(0.1)
    words = quantiser.quantised(np.array([0.0, 4.2, -4.2, 99.0, 0.14, -0.16]))
    assert words.tolist() == [42, 84, 0, 84, 43, 40]
    assert quantiser.sum_of(words, 1)[4] == pytest.approx(0.1)
    assert quantiser.error_bound(3, is_stochastic=False) == pytest.approx(0.15)


@given(
    st.integers(1, 1000),
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_sums_stay_within_the_error_bound(n: int, values: list[float], seed: int | None) -> None:
    quantiser = Quantiser(1.5, n)
    vector = np.array(values, np.float32)
    rng = None if seed is None else np.random.default_rng(seed)
    total = np.zeros(len(values), np.uint32)
    for _ in range(min(n, 5)):
        total += quantiser.quantised(vector, rng)
    num = min(n, 5)
    error = np.abs(quantiser.sum_of(total, num) - num * np.clip(vector.astype(float), -1.5, 1.5))
    assert (error <= quantiser.error_bound(num, is_stochastic=seed is not None) + 1e-12).all()


def test_the_largest_sum_does_not_wrap() -> None:
    quantiser = Quantiser(1.0, 1000)
    one = quantiser.quantised(np.ones(1))
    total = np.zeros(1, np.uint32)
    for _ in range(1000):
        total += one
    assert quantiser.sum_of(total, 1000)[0] == pytest.approx(1000)


def test_stochastic_rounding_is_unbiased_with_the_stated_deviation() -> None:
    """At a fraction of one half, a rounding is a fair coin of one step: deviation step / 2."""
    quantiser = Quantiser(1.0, 1, modulus=33)
    values = np.full(200_000, quantiser.step / 2)
    found = quantiser.sum_of(quantiser.quantised(values, np.random.default_rng(0)), 1)
    assert found.std() == pytest.approx(quantiser.error_deviation(1), rel=0.01)
    assert found.mean() == pytest.approx(values[0], rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_is_not_quantised(value: float) -> None:
    with pytest.raises(DataError, match="finite"):
        Quantiser(1.0, 2).quantised(np.array([value]))


@pytest.mark.parametrize(
    "kwargs", [{"clip": 0}, {"clip": np.nan}, {"modulus": 20}, {"num_summands": 0}]
)
def test_a_useless_quantiser_is_refused(kwargs: dict[str, float]) -> None:
    with pytest.raises((DataError, ZeroDivisionError)) as caught:
        Quantiser(**{"clip": 1.0, "num_summands": 2, **kwargs})
    assert caught.type is DataError


def test_a_sum_above_what_nodes_can_reach_is_refused() -> None:
    with pytest.raises(DataError, match="out of range"):
        Quantiser(1.0, 2).sum_of(np.array([2**32 - 1], np.uint32), 1)


def test_headers_add_up() -> None:
    """Losses 2 and 4 of two nodes, a third without: mean 3; 10 + 20 + 30 examples."""
    headers = [Header(10, 2.0), Header(20, 4.0, is_within_clip=False), Header(30, None, True, 0.3)]
    total = sum((h.slots(3) for h in headers), np.zeros(HEADER_SLOTS, np.uint32))
    result = HeaderSum.of(total, 3, 3)
    assert (result.num_nodes, result.num_examples) == (3, 60)
    assert result.mean_loss == pytest.approx(3.0, abs=1e-6)
    assert result.within_clip_fraction == pytest.approx(2 / 3)
    assert result.saturated_fraction == pytest.approx(0.1, abs=1e-6)


@given(
    st.lists(
        st.builds(
            Header,
            st.integers(0, 10**9),
            st.one_of(st.none(), st.floats(0, 100)),
            st.booleans(),
            st.floats(0, 1),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 5),
)
def test_any_headers_add_up(headers: list[Header], more: int) -> None:
    """Counts exactly, up to the capacity of a slot; shares within a unit of it for each node."""
    summands = len(headers) + more
    top = (2**32 - 1) // summands
    total = sum((h.slots(summands) for h in headers), np.zeros(HEADER_SLOTS, np.uint32))
    result = HeaderSum.of(total, len(headers), summands)
    assert result.num_examples == sum(min(h.num_examples, top) for h in headers)
    assert result.within_clip_fraction * len(headers) == pytest.approx(
        sum(h.is_within_clip for h in headers)
    )
    losses = [min(h.loss, 64.0) for h in headers if h.loss is not None]
    assert (result.mean_loss is None) == (not losses)
    if losses:
        assert result.mean_loss == pytest.approx(sum(losses) / len(losses), abs=64 / top)
    cut = sum(h.saturated_fraction for h in headers) / len(headers)
    assert result.saturated_fraction == pytest.approx(cut, abs=1 / top)


def test_a_header_of_fewer_nodes_is_refused() -> None:
    with pytest.raises(DataError, match="lied"):
        HeaderSum.of(Header(1, 1.0).slots(3), 2, 3)


def test_the_prime_is_the_first_above_every_secret() -> None:
    """Fermat's test to several bases; the 148 odd numbers below it fail to base 3.

    2**256 + 1, a Fermat number, passes to base 2 without being prime.
    """
    assert shamir.PRIME.bit_length() == 257
    assert all(pow(a, shamir.PRIME - 1, shamir.PRIME) == 1 for a in (2, 3, 5, 7, 11, 13))
    between = range(2**256 + 1, shamir.PRIME, 2)
    assert not any(pow(3, m - 1, m) == 1 for m in between)


@settings(max_examples=60, deadline=None)
@given(SECRETS, st.integers(1, 12), st.integers(0, 12), st.randoms())
def test_any_threshold_of_shares_gives_the_secret_back(
    value: bytes, threshold: int, more: int, rng: random.Random
) -> None:
    secret = Secret(value)
    shares = shamir.shared(secret, rng.sample(range(1, 1000), threshold + more), threshold)
    some = dict(rng.sample(sorted(shares.items()), threshold))
    assert shamir.recovered(some, threshold, lambda one: one == secret) == (secret, ())


@settings(max_examples=60, deadline=None)
@given(SECRETS, st.integers(1, 8), st.integers(0, 4), st.integers(0, 2**32))
def test_wrong_shares_are_corrected_and_named(
    value: bytes, threshold: int, wrong: int, seed: int
) -> None:
    """With errors drawn at random: chosen ones may cancel in the secret, and need no correction."""
    secret, rng = Secret(value), random.Random(seed)
    shares = shamir.shared(secret, range(1, threshold + 2 * wrong + 1), threshold)
    bad = sorted(rng.sample(sorted(shares), wrong))
    for point in bad:
        shares[point] = (shares[point] + 1 + rng.randrange(2**256)) % shamir.PRIME
    found, named = shamir.recovered(shares, threshold, lambda one: one == secret)
    assert found == secret
    assert named in ((), tuple(bad))
    first = set(list(shares)[:threshold])
    assert bool(named) == bool(first & set(bad))


def test_fewer_shares_fit_every_secret() -> None:
    """With one share missing, each other secret has a polynomial through the same shares."""
    shares = shamir.shared(Secret(b"\x01" * 32), [1, 2, 3], 3)
    for guess in (0, 5, 2**255):
        third = {1: shares[1], 2: shares[2]}
        # Lagrange at 0 over 1, 2, 3 has coefficients 3, -3, 1.
        third[3] = (guess - 3 * shares[1] + 3 * shares[2]) % shamir.PRIME
        found, _ = shamir.recovered(third, 3, lambda _: True)
        assert int.from_bytes(found.reveal(), "big") == guess


def test_too_few_or_too_many_wrong_shares_are_refused() -> None:
    secret = Secret(bytes(32))
    shares = shamir.shared(secret, [1, 2, 3, 4], 3)
    with pytest.raises(DataError, match="threshold"):
        shamir.recovered({1: shares[1], 2: shares[2]}, 3, lambda _: True)
    bad = {x: y ^ 1 for x, y in shares.items()}
    with pytest.raises(DataError, match="determine"):
        shamir.recovered({**bad, 1: shares[1]}, 3, lambda one: one == secret)


def test_masks_are_the_published_keystream() -> None:
    """NIST SP 800-38A, F.5.5: AES-256-CTR; and our stream against a cipher of zeros."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    cipher = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
    assert cipher.update(plain).hex() == "601ec313775789a5b7a7f504bbf3d228"
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(40))
    assert masks.mask(Secret(key), 10).astype("<u4").tobytes() == stream


def test_keys_are_derived_by_rfc_5869() -> None:
    """Extract with a key of zeros, one block of expand, written out with HMAC."""
    extracted = hmac.digest(bytes(32), b"s" * 32, hashlib.sha256)
    expected = hmac.digest(extracted, b"use\x01", hashlib.sha256)
    assert masks.derived(Secret(b"s" * 32), b"use").reveal() == expected


@pytest.mark.parametrize("length", [1, 65_535, 65_536, 65_537, 200_000])
def test_two_nodes_expand_masks_that_cancel(length: int) -> None:
    one, two = masks.new_private_key(), masks.new_private_key()
    info = masks.pair_info(b"s", 1, 2)
    assert info == masks.pair_info(b"s", 2, 1)
    keys = (
        masks.agreed_key(one, masks.public_key(two), info),
        masks.agreed_key(two, masks.public_key(one), info),
    )
    total = np.arange(length, dtype=np.uint32)
    masks.add_masks(total, [(keys[0], True)])
    assert length < 3 or not np.array_equal(total, np.arange(length, dtype=np.uint32))
    masks.add_masks(total, [(keys[1], False)])
    assert np.array_equal(total, np.arange(length, dtype=np.uint32))


def test_a_million_parameters_need_the_memory_of_a_block() -> None:
    total = np.zeros(1_000_000, np.uint32)
    key = Secret(b"k" * 32)
    masks.add_masks(total[:1], [(key, True)])
    tracemalloc.start()
    masks.add_masks(total, [(key, True)] * 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * masks.BLOCK_BYTES


# Every encoding of a point of order 1, 2, 4 or 8, canonical or not; the seven are those that
# libsodium refuses, the highest bit of a key is ignored.
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    *((2**255 - 19 + k).to_bytes(32, "little") for k in (-1, 0, 1)),
]


@pytest.mark.parametrize("high_bit", [0, 0x80])
@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8])
def test_a_point_of_small_order_is_refused(point: bytes, high_bit: int) -> None:
    public = point[:31] + bytes([point[31] | high_bit])
    for call in (
        lambda: masks.check_public(public),
        lambda: masks.agreed_key(masks.new_private_key(), public, b""),
    ):
        with pytest.raises(MessageError) as caught:
            call()
        assert caught.value.reason == "key"


def test_keys_that_are_keys_are_accepted() -> None:
    for _ in range(50):
        masks.check_public(masks.public_key(masks.new_private_key()))
    masks.check_public(b"\x09" + bytes(31))  # the base point
    with pytest.raises(MessageError, match="malformed"):
        masks.check_public(b"\x09")
