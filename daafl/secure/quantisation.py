"""Real vectors as integers whose sum, taken modulo a power of two, is exact.

A value in [-clip, clip] becomes one of ``levels + 1`` integers from 0 to ``levels``, an even
number, so that zero is met exactly; ``levels`` is the largest for which the integers of all nodes
add up below the modulus. Stochastic rounding goes up with the probability of the fraction, which
makes every sum unbiased. Source: Suresh et al. (2017), "Distributed mean estimation with limited
communication", section 2.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError

WORD_MODULUS: Final = 1 << 32
MIN_LEVELS: Final = 16
BLOCK: Final = 1 << 16

Words = npt.NDArray[np.uint32]
Reals = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Quantiser:
    """How a federation writes real vectors as integers.

    Parameters
    ----------
    clip
        Largest magnitude that is kept; larger values are cut to it.
    num_summands
        Most vectors whose sum must not wrap around.
    modulus
        Above every sum; at most 2**32.

    Raises
    ------
    DataError
        If the clip is not positive and finite, or so many vectors leave fewer than 16 levels.

    Examples
    --------
    >>> quantiser = Quantiser(clip=1.0, num_summands=2)
    >>> total = quantiser.quantised(np.array([0.5, -1.0])) + quantiser.quantised(np.array([0.5, 0]))
    >>> quantiser.sum_of(total, num_nodes=2).round(6).tolist()
    [1.0, -1.0]
    """

    clip: float
    num_summands: int
    modulus: int = WORD_MODULUS

    def __post_init__(self) -> None:
        """Refuse what no sum would survive."""
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise DataError(
                f"the clip of a quantiser is {self.clip}; it must be above 0 and finite"
            )
        if not 2 <= self.modulus <= WORD_MODULUS:
            raise DataError(f"the modulus is {self.modulus}; it must be 2 to {WORD_MODULUS}")
        if self.num_summands < 1 or self.levels < MIN_LEVELS:
            raise DataError(
                f"{self.num_summands} summands leave {max(self.num_summands, 0) and self.levels} "
                f"levels below {self.modulus}; there must be at least one summand and "
                f"{MIN_LEVELS} levels"
            )

    @property
    def levels(self) -> int:
        """Largest integer a value becomes; even."""
        return (self.modulus - 1) // self.num_summands // 2 * 2

    @property
    def step(self) -> float:
        """Distance between two neighbouring values."""
        return 2 * self.clip / self.levels

    def quantised(self, vector: Reals, rng: np.random.Generator | None = None) -> Words:
        """Return the integers for ``vector``.

        Parameters
        ----------
        vector
            One-dimensional; finite.
        rng
            Source of stochastic rounding; ``None`` rounds to the nearest, half to even.

        Raises
        ------
        DataError
            If a value is not a finite number.
        """
        words = np.empty(vector.shape, np.uint32)
        for start in range(0, len(vector), BLOCK):
            block = vector[start : start + BLOCK].astype(np.float64)
            if not np.isfinite(block).all():
                raise DataError("a vector to quantise holds a value that is not a finite number")
            np.clip(block, -self.clip, self.clip, out=block)
            block /= self.step
            block += self.levels // 2
            if rng is None:
                np.rint(block, out=block)
            else:
                block += rng.random(len(block))
                np.floor(block, out=block)
            np.clip(block, 0, self.levels, out=block)
            words[start : start + BLOCK] = block
        return words

    def sum_of(self, total: Words, num_nodes: int) -> npt.NDArray[np.float64]:
        """Return the sum of the real vectors behind the sum of their integers.

        Parameters
        ----------
        total
            Sum of the integers of ``num_nodes`` vectors, modulo the modulus.

        Raises
        ------
        DataError
            If there are more nodes than summands, or the sum is above what they can add up to:
            then some node did not follow the quantiser.
        """
        self._check(num_nodes)
        if total.size and int(total.max()) > num_nodes * self.levels:
            raise DataError(
                f"a sum of {num_nodes} quantised vectors exceeds {num_nodes * self.levels}; "
                "a node sent values out of range"
            )
        return (total.astype(np.float64) - num_nodes * (self.levels // 2)) * self.step

    def error_bound(self, num_nodes: int, *, is_stochastic: bool) -> float:
        """Return the largest error of one coordinate of `sum_of`, for values within the clip."""
        self._check(num_nodes)
        return num_nodes * self.step * (1.0 if is_stochastic else 0.5)

    def error_deviation(self, num_nodes: int) -> float:
        """Return the largest standard deviation of a coordinate under stochastic rounding.

        One rounding is a Bernoulli variable of one step: at most half a step.
        """
        self._check(num_nodes)
        return math.sqrt(num_nodes) * self.step / 2

    def _check(self, num_nodes: int) -> None:
        if not 1 <= num_nodes <= self.num_summands:
            raise DataError(
                f"a sum of {num_nodes} vectors; this quantiser holds 1 to {self.num_summands}"
            )
