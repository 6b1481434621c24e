"""Scalars as sixteen limbs of 16 bits, so that exact sums of them are matrix products of floats.

A product of a limb below 2**16 and an integer below 2**16 is below 2**32; more than two million
of these add up exactly in a float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daafl.secure.proof.group import ORDER, SCALAR_BYTES, written_scalars

NUM_LIMBS: Final = 16
LIMB_BITS: Final = 16

Floats = npt.NDArray[np.float64]


def limbs(scalars: Sequence[int]) -> npt.NDArray[np.uint16]:
    """Return the limbs of scalars below the order, lowest first: shape (scalars, 16)."""
    return np.frombuffer(written_scalars(scalars), "<u2").reshape(-1, NUM_LIMBS)


def recombined(sums: npt.NDArray[Any]) -> list[int]:
    """Return the scalars whose limbs were summed: sum of ``sums[:, i] * 2**(16 i)``, reduced.

    Parameters
    ----------
    sums
        Shape (scalars, 16); whole numbers of any sign below 2**62 in magnitude.
    """
    words = np.empty(sums.shape, "<u2")
    carry = np.zeros(len(sums), np.int64)
    for place in range(NUM_LIMBS):
        carry += sums[:, place].astype(np.int64)
        words[:, place] = carry & 0xFFFF
        carry >>= LIMB_BITS
    data = words.tobytes()
    return [
        (int.from_bytes(data[index * SCALAR_BYTES : (index + 1) * SCALAR_BYTES], "little") + top)
        % ORDER
        for index, top in enumerate(carry.astype(object) << (NUM_LIMBS * LIMB_BITS))
    ]
