"""Integers as the slots of BFV plaintexts, several per slot, so that sums stay exact.

A BFV plaintext with batching holds `DEGREE` integers modulo a prime t = 1 mod 2 `DEGREE`; adding
ciphertexts adds slot by slot (Smart & Vercauteren 2014, "Fully homomorphic SIMD operations"). Each
slot carries several values side by side, every one in a field wide enough for the sum over all
nodes, as FedBit does. How wide the fields may be follows from the noise: every sum must keep
`MIN_NOISE_BUDGET` bits of it, so more nodes get a smaller t.

Layout of the slots: one counts the nodes, `num_wide` words follow with a slot each (sums up to
2**32), then the rest, `values_per_slot` to a slot: the first stretch of them in the lowest field.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.quantisation import MIN_LEVELS, WORD_MODULUS, Words

Slots: TypeAlias = npt.NDArray[np.int64]

DEGREE: Final = 4096
"""Slots of a plaintext (N). At 128 bits of security N = 4096 allows a modulus of up to 109 bits
(Albrecht et al. 2018, "Homomorphic encryption security standard", table 1)."""

COEFFICIENT_BITS: Final = 60
"""Bits of the ciphertext modulus q, one prime."""

MIN_NOISE_BUDGET: Final = 5
NOISE_DEVIATION: Final = 3.24
"""Of one coefficient of a fresh ciphertext: SEAL draws it from the centred binomial distribution
with 42 coins, of variance 10.5."""

NOISE_DEVIATIONS: Final = 6
"""How many of them the noise of a sum is taken to reach."""

MAX_FIELD_BITS: Final = 32
MAX_VALUES_PER_SLOT: Final = 4
MAX_LENGTH: Final = 1 << 32
COUNT_SLOTS: Final = 1

_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@dataclass(frozen=True)
class Packing:
    """How vectors of a federation travel in slots.

    Parameters
    ----------
    num_summands
        Most nodes whose sum must be exact.
    values_per_slot
        1 to 4; more make the upload smaller and the values coarser.
    num_wide
        How many words at the beginning have a slot of their own.

    Raises
    ------
    ConfigError
        If the fields would be too narrow.

    Examples
    --------
    >>> packing = Packing(num_summands=1000)
    >>> packing.field_bits, packing.levels
    (22, 4194)
    """

    num_summands: int
    values_per_slot: int = 2
    num_wide: int = 0

    def __post_init__(self) -> None:
        """Refuse a packing in which nothing would be left of a value."""
        if not 1 <= self.values_per_slot <= MAX_VALUES_PER_SLOT:
            raise ConfigError(
                f"{self.values_per_slot} values per slot; there may be 1 to {MAX_VALUES_PER_SLOT}"
            )
        if not 0 <= self.num_wide < DEGREE // 2:
            raise ConfigError(f"{self.num_wide} wide words; there may be 0 to {DEGREE // 2 - 1}")
        if self.num_summands < 1 or self.slot_bits < MAX_FIELD_BITS or self.levels < MIN_LEVELS:
            raise ConfigError(
                f"{self.num_summands} nodes at {self.values_per_slot} values per slot leave fewer "
                f"than {MIN_LEVELS} levels; ask for fewer values per slot, or fewer nodes"
            )

    @cached_property
    def slot_bits(self) -> int:
        """Bits that a sum may take in one slot; t is the next prime above 2 to that power.

        A sum of K fresh ciphertexts has noise of ``NOISE_DEVIATIONS * sqrt(K)`` deviations; it
        decrypts while that is below q / 2t, and the budget is the binary logarithm of what is left.
        """
        noise = NOISE_DEVIATIONS * NOISE_DEVIATION * math.sqrt(self.num_summands)
        return math.floor(COEFFICIENT_BITS - 1 - MIN_NOISE_BUDGET - math.log2(noise))

    @property
    def plain_modulus(self) -> int:
        """The prime t."""
        return batching_prime(self.slot_bits)

    @property
    def field_bits(self) -> int:
        """Bits of one field."""
        return min(self.slot_bits // self.values_per_slot, MAX_FIELD_BITS)

    @property
    def modulus(self) -> int:
        """Above every sum in a field: the ``modulus`` of the `Quantiser` that fits."""
        return 1 << self.field_bits

    @property
    def levels(self) -> int:
        """Largest value of one node in a field."""
        return (self.modulus - 1) // self.num_summands

    def num_slots(self, length: int) -> int:
        """Return how many slots ``length`` words take."""
        if not self.num_wide <= length <= MAX_LENGTH:
            raise DataError(f"{length} words to pack; {self.num_wide} to {MAX_LENGTH} may be")
        return COUNT_SLOTS + self.num_wide + -(-(length - self.num_wide) // self.values_per_slot)

    def packed(self, words: Words) -> Slots:
        """Return the slots of one node's words, the count included.

        Parameters
        ----------
        words
            One-dimensional; those after the first ``num_wide`` are at most `levels`.

        Raises
        ------
        DataError
            If a value is larger than that.
        """
        slots = np.zeros(self.num_slots(len(words)), np.int64)
        wide, values = words[: self.num_wide], words[self.num_wide :]
        if len(wide) and int(wide.max()) > (WORD_MODULUS - 1) // self.num_summands:
            raise DataError(f"a wide word of {int(wide.max())} could overflow in the sum")
        if len(values) and int(values.max()) > self.levels:
            raise DataError(
                f"a value of {int(values.max())} to encrypt; {self.levels} is the largest of one "
                f"of {self.num_summands} nodes"
            )
        start = COUNT_SLOTS + self.num_wide
        slots[0] = 1
        slots[COUNT_SLOTS:start] = wide
        body = slots[start:]
        for place in range(self.values_per_slot):
            stretch = values[place * len(body) : (place + 1) * len(body)].astype(np.int64)
            body[: len(stretch)] |= stretch << (place * self.field_bits)
        return slots

    def unpacked(self, slots: Slots, length: int, num_nodes: int) -> Words:
        """Return the summed words behind the sum of ``num_nodes`` nodes' slots.

        Raises
        ------
        MessageError
            ``count`` if it is not the sum of that many nodes, ``range`` if a value is not one
            that so many can add up to.
        """
        if slots.shape != (self.num_slots(length),):
            raise MessageError("shape", f"{slots.size} slots are not those of {length} words")
        if not 1 <= num_nodes <= self.num_summands or int(slots[0]) != num_nodes:
            raise MessageError("count", f"a sum is not the one of {num_nodes} nodes")
        start = COUNT_SLOTS + self.num_wide
        wide, body = slots[COUNT_SLOTS:start], slots[start:]
        values = length - self.num_wide
        words = np.zeros(self.num_wide + len(body) * self.values_per_slot, np.uint32)
        for place in range(self.values_per_slot):
            stretch = words[self.num_wide + place * len(body) :][: len(body)]
            stretch[:] = (body >> (place * self.field_bits)) & (self.modulus - 1)
        over = bool(np.any(body >> (self.values_per_slot * self.field_bits)))
        over |= bool(np.any(wide > num_nodes * ((WORD_MODULUS - 1) // self.num_summands)))
        over |= bool(np.any(words[length:]))
        words[: self.num_wide] = wide & (WORD_MODULUS - 1)
        body_words = words[self.num_wide : self.num_wide + values]
        if over or (values and int(body_words.max()) > num_nodes * self.levels):
            raise MessageError("range", f"a sum of {num_nodes} nodes has values out of range")
        return words[:length]


@lru_cache(maxsize=64)
def batching_prime(slot_bits: int) -> int:
    """Return the smallest prime above ``2**slot_bits`` that is 1 modulo ``2 * DEGREE``.

    Examples
    --------
    >>> batching_prime(44) > 2**44, (batching_prime(44) - 1) % (2 * DEGREE)
    (True, 0)
    """
    candidate = (1 << slot_bits) + 1
    while not is_prime(candidate):
        candidate += 2 * DEGREE
    return candidate


def is_prime(number: int) -> bool:
    """Return whether ``number``, below 3.1e23, is prime.

    Miller & Rabin's test with the first twelve primes errs for none so small (Sorenson & Webster
    2017, "Strong pseudoprimes to twelve prime bases").
    """
    if number < 2:
        return False
    for witness in _WITNESSES:
        if number % witness == 0:
            return number == witness
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    for witness in _WITNESSES:
        power = pow(witness, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
