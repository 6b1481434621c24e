"""Random sketches of updates: a few thousand numbers that keep lengths and angles.

A count sketch (Charikar, Chen and Farach-Colton 2002) with a fixed place for every parameter:
parameter ``i`` is added, with a random sign, to number ``i mod size``. For any two vectors the
inner product of their sketches is unbiased over the signs and deviates by about
``|x| |y| / sqrt(size)``, 1.6 % here. Consecutive parameters get different places, so that a small
layer which holds most of the length is kept almost exactly; and since the size is a prime, so do
the parameters of a column of a layer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.learning.layout import Vector

Sketch = npt.NDArray[np.float32]
"""One-dimensional; as long as the vector, at most a few thousand numbers."""

SIZE: Final = 4093
"""The largest prime below 4,096."""

_ROWS: Final = 32  # rows of signs; with as many rows of the vector they fit a core's cache


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
        num_rows = -(-num_parameters // max(self.size, 1))
        rng = np.random.default_rng(seed)
        self._signs = _signs(rng, (min(num_rows, _ROWS), self.size))
        # The rows of signs are used again every 32 rows, each time all flipped or none.
        self._flips = _signs(rng, (-(-num_rows // _ROWS),))

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

    def _folded(self, vector: Vector) -> tuple[Sketch, float]:
        sketch = np.zeros(self.size, vector.dtype)
        signs = self._signs.astype(vector.dtype, copy=False)
        square = 0.0
        step = _ROWS * self.size
        for flip, start in zip(self._flips, range(0, vector.size, step), strict=True):
            block = vector[start : start + step]
            square += float(np.dot(block, block))
            num_rows, rest = divmod(block.size, self.size)
            rows = block[: num_rows * self.size].reshape(num_rows, self.size)
            part = np.einsum("bj,bj->j", rows, signs[:num_rows])
            if rest:
                part[:rest] += block[num_rows * self.size :] * signs[num_rows, :rest]
            sketch += flip * part
        return sketch.astype(np.float32, copy=False), float(np.sqrt(square))


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Sketch:
    return (1 - 2 * rng.integers(0, 2, shape)).astype(np.float32)
