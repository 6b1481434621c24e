"""Packing is exact up to the number of nodes it is for, with noise to spare in real ciphertexts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.he.ciphertexts import SUM_BYTES, split
from daafl.secure.he.library import sealapi
from daafl.secure.he.packing import (
    DEGREE,
    MIN_NOISE_BUDGET,
    Packing,
    batching_prime,
    is_prime,
)
from daafl.secure.he.scheme import HeKey, Summation, decrypted, encrypted, noise_budget
from daafl.secure.quantisation import Quantiser


@pytest.mark.parametrize(
    ("num_summands", "slot_bits", "field_bits", "levels"),
    [
        # 60 - 1 - 5 - log2(6 * 3.24 * sqrt(K)) = 49.72 - log2(K) / 2, rounded down.
        (2, 49, 24, (2**24 - 1) // 2),
        (16, 47, 23, (2**23 - 1) // 16),
        (64, 46, 23, (2**23 - 1) // 64),
        (250, 45, 22, (2**22 - 1) // 250),
        (1000, 44, 22, (2**22 - 1) // 1000),
    ],
)
def test_fields_follow_from_the_number_of_nodes(
    num_summands: int, slot_bits: int, field_bits: int, levels: int
) -> None:
    packing = Packing(num_summands)
    found = (packing.slot_bits, packing.field_bits, packing.levels)
    assert found == (slot_bits, field_bits, levels)
    assert packing.plain_modulus > 2**slot_bits
    quantiser = Quantiser(1.0, num_summands, packing.modulus)
    assert packing.levels - 1 <= quantiser.levels <= packing.levels


@pytest.mark.parametrize(
    ("num_summands", "values_per_slot"),
    [(2, 1), (2, 2), (2, 3), (16, 2), (16, 4), (64, 2), (64, 3), (250, 2), (1000, 2)],
)
def test_the_largest_sum_is_exact_and_leaves_a_noise_budget(
    num_summands: int, values_per_slot: int
) -> None:
    """Every node sends the largest value there is, or random ones: real ciphertexts."""
    packing = Packing(num_summands, values_per_slot, num_wide=6)
    key, rng = HeKey.new(), np.random.default_rng(2)
    modulus, top = packing.plain_modulus, (2**32 - 1) // num_summands
    total = Summation(modulus, 1)
    expected = np.zeros(1000, np.int64)
    for _ in range(num_summands):
        words = rng.integers(0, packing.levels, 1000, np.uint32, endpoint=True)
        words[:6], words[6:300], words[-1] = top, packing.levels, packing.levels
        expected += words
        chunk = np.zeros((1, DEGREE), np.int64)
        slots = packing.packed(words)
        chunk[0, : len(slots)] = slots
        total.add(b"".join(encrypted(key, modulus, chunk)))
    (part,) = split(total.to_bytes(), 1, SUM_BYTES)
    chunk = decrypted(key, modulus, [part])
    found = packing.unpacked(chunk[0, : packing.num_slots(1000)], 1000, num_summands)
    assert np.array_equal(found, expected)
    assert noise_budget(key, modulus, part) >= MIN_NOISE_BUDGET


@given(
    st.integers(1, 1000),
    st.integers(1, 2),
    st.integers(0, 8),
    st.integers(0, 40),
    st.integers(0, 2**32),
)
def test_unpacking_a_sum_gives_the_sum(
    num_summands: int, per_slot: int, num_wide: int, rest: int, seed: int
) -> None:
    packing = Packing(num_summands, per_slot, num_wide)
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, num_summands, endpoint=True))
    wide = rng.integers(0, (2**32 - 1) // num_summands, num_wide, np.uint32, endpoint=True)
    words = np.concatenate([wide, rng.integers(0, packing.levels, rest, np.uint32, endpoint=True)])
    slots = packing.packed(words) * count
    assert int(slots.max()) < packing.plain_modulus
    assert np.array_equal(packing.unpacked(slots, len(words), count), words * np.uint32(count))


def test_what_does_not_fit_is_refused() -> None:
    packing = Packing(4, num_wide=1)
    with pytest.raises(DataError, match="largest of one"):
        packing.packed(np.array([0, packing.levels + 1], np.uint32))
    with pytest.raises(DataError, match="overflow"):
        packing.packed(np.array([2**30, 0], np.uint32))
    slots = packing.packed(np.array([1, 2, 3], np.uint32))
    with pytest.raises(MessageError, match="count"):
        packing.unpacked(slots, 3, 2)
    with pytest.raises(MessageError, match="shape"):
        packing.unpacked(slots[:-1], 3, 1)
    for place, value in ((1, 2**32), (2, packing.levels + 1), (2, 2**48)):
        wrong = slots.copy()
        wrong[place] = value
        with pytest.raises(MessageError, match="range"):
            packing.unpacked(wrong, 3, 1)


def test_too_many_values_per_slot_are_refused() -> None:
    assert Packing(250, values_per_slot=3).field_bits == 15
    assert Packing(64, values_per_slot=4).levels == 31
    with pytest.raises(ConfigError, match="fewer values per slot"):
        Packing(250, values_per_slot=4)
    with pytest.raises(ConfigError, match="1 to 4"):
        Packing(2, values_per_slot=5)
    with pytest.raises(ConfigError, match="fewer nodes"):
        Packing(0)
    with pytest.raises(ConfigError, match="wide"):
        Packing(2, num_wide=-1)


@pytest.mark.parametrize("slot_bits", [32, 44, 45, 46, 47, 49])
def test_the_modulus_is_a_batching_prime_for_seal(slot_bits: int) -> None:
    modulus = sealapi().Modulus(batching_prime(slot_bits))
    assert modulus.is_prime()
    assert modulus.value() % (2 * DEGREE) == 1
    assert modulus.value() > 2**slot_bits


@given(st.integers(0, 20_000))
def test_primes_are_those_of_trial_division(number: int) -> None:
    expected = number > 1 and all(number % x for x in range(2, int(number**0.5) + 1))
    assert is_prime(number) == expected


def test_pseudoprimes_are_not_taken_for_primes() -> None:
    # Strong pseudoprimes to the first 4 and 9 bases; a Carmichael number (Jaeschke 1993).
    for number in (3_215_031_751, 3_825_123_056_546_413_051, 561):
        assert not is_prime(number)
