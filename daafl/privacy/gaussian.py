"""Gaussian noise from a keystream, added so that floating-point numbers give nothing away.

Samples are made in pairs by Box and Muller's method (1958) in double precision, from one 64-bit
word for the radius and one for the angle: about 9.5 standard deviations can be reached, and the
time taken does not depend on the values drawn.

**What floating point would leak.** ``value + sample`` in doubles can reach only some numbers, and
which ones depends on ``value``: from the last bits of an output one can tell two inputs apart
(Mironov 2012; for Gaussian samplers Jin et al. 2022, *Are We There Yet? Timing and Floating-Point
Attacks on Differential Privacy Systems*). `noised` therefore rounds the value and the sample to
multiples of one power of two, the grid, before it adds them, exactly. Every output is on the grid
whatever the value, and is what the Gaussian mechanism gives for the rounded value, rounded
afterwards, which is post-processing. Three things follow and are dealt with:

- Rounding moves two neighbouring values apart by less than one grid step per coordinate, so the
  sensitivity grows by at most ``step * sqrt(coordinates)``; the noise is scaled up for it.
- The sampler's own rounding errors move the border of a grid cell. They are below ``2**-50``
  standard deviations for samples within 4, and the step is about ``2**-20``, so that the
  probability of an output changes by a factor of at most about ``1 +- 2**-29`` per coordinate:
  0.001 in epsilon for half a million coordinates in the worst case, which is not in the
  accountant's figures.
- Samples beyond 9.5 standard deviations, of probability ``2**-70``, do not occur.

An exact discrete Gaussian would do without the second point and is some hundred times slower.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError
from daafl.privacy.keystream import BLOCK_WORDS, Keystream

Doubles: TypeAlias = npt.NDArray[np.float64]

GRID_BITS: Final = 20
"""A grid step is the largest power of two that is at most ``2**-GRID_BITS`` of the noise."""

_SIGN_SHIFT: Final = np.uint64(63)
_ONE: Final = np.float64(1.0).view(np.uint64)
_WORDS_AT_ONCE: Final = 2 * BLOCK_WORDS
_LARGEST: Final = 2.0**52
"""Largest multiple of the step that a value may have, so that adding noise to it is exact."""


def standard_normal(count: int, keystream: Keystream) -> Doubles:
    """Return ``count`` independent samples of mean 0 and variance 1, before any rounding.

    Use `noised` for protection: it adds them in the safe way.
    """
    samples: Doubles = _normal_rows(count, [keystream])[0]
    return samples


def _normal_rows(count: int, keystreams: Sequence[Keystream]) -> Doubles:
    """Return samples for several keystreams, shape ``[keystreams, count]``."""
    samples = np.empty((len(keystreams), count))
    for start in range(0, count, BLOCK_WORDS):
        needed = min(count - start, BLOCK_WORDS)
        pairs = -(-needed // 2)
        words = np.empty((len(keystreams), 2 * pairs), "<u8")
        for row, keystream in zip(words, keystreams, strict=True):
            keystream.fill(row)
        block = np.empty(words.shape)
        _box_muller(words, block)
        samples[:, start : start + needed] = block[:, :needed]
    return samples


def grid_step(deviation: float) -> float:
    """Return the grid for noise of a standard deviation: a power of two.

    Examples
    --------
    >>> grid_step(1.5) == 2.0**-20
    True
    """
    if not 0.0 < deviation < math.inf:
        raise ValueError(f"noise needs a positive finite standard deviation, not {deviation}")
    return math.ldexp(1.0, math.frexp(deviation)[1] - 1 - GRID_BITS)


def deviation_of(noise_multiplier: float, sensitivity: float, num_coordinates: int) -> float:
    """Return the standard deviation of the noise, with the growth of the sensitivity by rounding.

    Parameters
    ----------
    noise_multiplier
        What the accountant counts with: standard deviation over sensitivity, z.
    sensitivity
        Largest Euclidean distance between values that must not be told apart, before rounding.
    num_coordinates
        Length of the value.
    """
    step = grid_step(noise_multiplier * sensitivity)
    return noise_multiplier * (sensitivity + step * math.sqrt(num_coordinates))


def noised(
    values: npt.NDArray[np.floating[Any]],
    *,
    noise_multiplier: float,
    sensitivity: float,
    keystream: Keystream,
) -> Doubles:
    """Return ``values`` plus Gaussian noise, on the grid; this is the Gaussian mechanism.

    Parameters
    ----------
    values
        What is released, of any shape; stays as it is.
    noise_multiplier
        Standard deviation of the noise over the sensitivity; positive.
    sensitivity
        Largest Euclidean distance between the values of neighbouring data sets; positive.
    keystream
        Where the noise comes from.

    Returns
    -------
    Doubles that what follows (a division, a conversion to float32) may treat in any way.

    Raises
    ------
    DataError
        If a value is NaN, infinite or so large that noise would vanish in its rounding.
    """
    rows = np.array(values, np.float64).reshape(1, -1)
    noise_rows(rows, [noise_multiplier], sensitivity=sensitivity, keystreams=[keystream])
    return rows.reshape(np.shape(values))


def noise_rows(
    rows: Doubles,
    noise_multipliers: Sequence[float],
    *,
    sensitivity: float,
    keystreams: Sequence[Keystream],
) -> None:
    """Add noise to each row, in place: what `noised` gives for it with a keystream of its own.

    Short rows are worked on a few at a time, which saves calls.

    Parameters
    ----------
    rows
        What is released. Shape ``[rows, coordinates]``.
    noise_multipliers, keystreams
        One for each row; the noise multipliers are positive.
    sensitivity
        As for `noised`, the same for all rows.

    Raises
    ------
    DataError
        As `noised` does; rows before may have their noise already.
    """
    count = rows.shape[1]
    steps = np.array([[grid_step(noise * sensitivity)] for noise in noise_multipliers])
    deviations = np.array(
        [[deviation_of(noise, sensitivity, count)] for noise in noise_multipliers]
    )
    at_once = max(_WORDS_AT_ONCE // max(count, 1), 1)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        _noise(rows[part], steps[part], deviations[part] / steps[part], keystreams[part])


def _noise(
    rows: Doubles, steps: Doubles, deviations: Doubles, keystreams: Sequence[Keystream]
) -> None:
    """Add noise on the grid, whose steps and deviations in steps are ``[rows, 1]``."""
    limits = _LARGEST * steps[:, 0]
    # Said without the value, which is private.
    if rows.size and not (
        (rows.max(axis=1) <= limits).all() and (rows.min(axis=1) >= -limits).all()
    ):
        raise DataError(
            "a value to be released with noise is not finite or more than 2**32 times the noise; "
            "clip it first"
        )
    noise = _normal_rows(rows.shape[1], keystreams)
    noise *= deviations
    np.rint(noise, out=noise)
    # Multiples of a power of two, below 2**53 of them: neither the sum nor the product rounds.
    rows *= 1.0 / steps
    np.rint(rows, out=rows)
    rows += noise
    rows *= steps


def _box_muller(words: npt.NDArray[np.uint64], samples: Doubles) -> None:
    """Turn rows of an even number of words into as many samples.

    The first half of a row gives radii. Each word of the second half gives a direction: its
    lowest bit a sign, the others half an angle in [-pi/4, pi/4), whose tangent gives sine and
    cosine of the angle by two divisions. Numpy's tangent is ten times as fast as its sine.
    """
    half = words.shape[1] // 2
    radius = words[:, :half].astype(np.float64)
    # The middle of each of 2**64 cells of (0, 1), never 0; conversion may round the last to 1.
    radius += 0.5
    radius *= 2.0**-64
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    directions = words[:, half:]
    radius *= ((directions << _SIGN_SHIFT) | _ONE).view(np.float64)
    tangent = (directions.view(np.int64) >> 1).astype(np.float64)
    tangent *= math.pi * 2.0**-64
    np.tan(tangent, out=tangent)
    square = tangent * tangent
    radius /= 1.0 + square
    cosines, sines = samples[:, :half], samples[:, half:]
    np.subtract(1.0, square, out=cosines)
    cosines *= radius
    np.multiply(tangent, 2.0, out=sines)
    sines *= radius
