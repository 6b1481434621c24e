"""Random sketches of updates: a few thousand numbers that keep lengths and angles.

A count sketch (Charikar, Chen and Farach-Colton 2002) with a fixed place for every parameter:
parameter ``i`` is added, with a random sign, to number ``i mod size``. For any two vectors the
inner product of their sketches is unbiased over the signs and deviates by about
``|x| |y| / sqrt(size)``, 1.6 % here. Consecutive parameters get different places, so that a small
layer which holds most of the length is kept almost exactly; and since the size is a prime, so do
the parameters of a column of a layer.

The signs repeat themselves with a period of another prime: two parameters of one place share a sign
for good only if they are half a billion apart.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.learning.layout import Vector

Sketch = npt.NDArray[np.float32]
"""One-dimensional; as long as the vector, at most a few thousand numbers."""

SIZE: Final = 4093
"""The largest prime below 4,096."""

_PERIOD: Final = 131_071  # of the signs; a prime
_ROWS: Final = 32  # rows of ``size`` numbers that are worked on at a time: they fit a core's cache


class Sketcher:
    """Takes sketches of vectors of one length; equal arguments give equal sketches.

    Parameters
    ----------
    num_parameters
        Length of the vectors.
    size
        Numbers in a sketch. Vectors that are no longer are their own sketch. Better a prime.
    seed
        Of the random signs.

    Examples
    --------
    >>> sketcher = Sketcher(100_000, size=997)
    >>> vector = np.random.default_rng(0).standard_normal(100_000, np.float32)
    >>> sketch = sketcher.sketch(vector)
    >>> sketch.shape, bool(np.isclose(sketch @ sketch, vector @ vector, rtol=0.2))
    ((997,), True)
    """

    def __init__(self, num_parameters: int, *, size: int = SIZE, seed: int = 0) -> None:
        self.num_parameters = num_parameters
        self.size = min(size, num_parameters)
        period = (1 - 2 * np.random.default_rng(seed).integers(0, 2, _PERIOD)).astype(np.float32)
        self._signs = np.resize(period, min(num_parameters, _PERIOD + _ROWS * self.size))

    def sketch(self, vector: Vector) -> Sketch:
        """Return the sketch of a vector of shape ``[num_parameters]``, in one pass over it.

        Raises
        ------
        ValueError
            If the vector has another shape.
        """
        return self.sketch_and_norm(vector)[0]

    def sketch_and_norm(self, vector: Vector) -> tuple[Sketch, float]:
        """Return the sketch of a vector and its exact Euclidean length, in one pass over it.

        The length is infinite if it is beyond the vector's number type.
        """
        if vector.shape != (self.num_parameters,):
            raise ValueError(
                f"a vector of shape {vector.shape} cannot be sketched; it must have the shape "
                f"({self.num_parameters},)"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            if self.num_parameters == self.size:
                return vector.astype(np.float32), float(np.sqrt(np.dot(vector, vector)))
            return self._folded(vector)

    def norm(self, vector: Vector) -> float:
        """Return the length that `sketch_and_norm` returns, bit for bit.

        It is infinite if it is beyond the vector's number type.
        """
        square = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            if self.num_parameters == self.size:
                return float(np.sqrt(np.dot(vector, vector)))
            for start in range(0, vector.size, _ROWS * self.size):
                block = vector[start : start + _ROWS * self.size]
                square += float(np.dot(block, block))
        return math.sqrt(square)

    def _folded(self, vector: Vector) -> tuple[Sketch, float]:
        signs = self._signs.astype(vector.dtype, copy=False)
        sketch = np.zeros(self.size, vector.dtype)
        square = 0.0
        step = _ROWS * self.size
        for start in range(0, vector.size, step):
            block = vector[start : start + step]
            square += float(np.dot(block, block))
            signs_of_block = signs[start % _PERIOD :][: block.size]
            whole = block.size - block.size % self.size
            sketch += np.einsum(
                "ij,ij->j",
                block[:whole].reshape(-1, self.size),
                signs_of_block[:whole].reshape(-1, self.size),
            )
            sketch[: block.size - whole] += block[whole:] * signs_of_block[whole:]
        return sketch.astype(np.float32, copy=False), float(np.sqrt(square))
