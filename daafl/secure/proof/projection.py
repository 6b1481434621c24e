"""Random projections: products with a matrix of signs that a seed of 32 bytes determines.

The signs are the bits of an AES-256-CTR keystream under the seed. The vector is cut into rows of
equal length; the keystream holds, row by row, the signs of each projection in turn, a whole number
of bytes for each. A set bit is +1. Only a block of the matrix exists at any time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from daafl.secure.proof.limbs import Floats

SEED_BYTES: Final = 32
BLOCK_SIGNS: Final = 1 << 19


def projected(
    seed: bytes, columns: Floats, *, num_rows: int, num_projections: int
) -> npt.NDArray[np.int64]:
    """Return every projection's part in each row, times each column.

    Parameters
    ----------
    seed
        32 bytes, drawn after what is projected was committed to.
    columns
        Integers as float64, shape (entries of a row, columns); sums over a column must stay below
        2**52 in magnitude, so that they are exact.
    num_rows, num_projections
        Rows of the vector and rows of the matrix.

    Returns
    -------
    NDArray
        Shape (rows, projections, columns): ``[i, t]`` is the part of projection ``t`` that falls on
        row ``i``, multiplied with ``columns``.
    """
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()
    width, num_columns = columns.shape
    num_bytes = -(-width // 8)
    total = columns.sum(axis=0)
    result = np.empty((num_rows, num_projections, num_columns), np.int64)
    step = max(1, min(num_projections, BLOCK_SIGNS // width))
    for row in range(num_rows):
        for start in range(0, num_projections, step):
            count = min(step, num_projections - start)
            bits = _bits(stream.update(bytes(count * num_bytes)), num_bytes, width)
            # With bits b for signs 2 b - 1, the product is 2 (b x) - sum of x.
            product = bits @ columns
            product *= 2
            product -= total
            result[row, start : start + count] = product
    return result


def _bits(stream: bytes, num_bytes: int, width: int) -> npt.NDArray[Any]:
    octets = np.frombuffer(stream, np.uint8).reshape(-1, num_bytes)
    return np.unpackbits(octets, axis=1, count=width).astype(np.float64)
