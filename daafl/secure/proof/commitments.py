"""Pedersen commitments to a vector of small integers, row by row, which add up as vectors do.

Row ``x`` with randomness ``r`` becomes ``sum_i x_i G_i + r H``. The sum of two commitments commits
to the sum of the rows, which is how a proof about one node's vector is tied to the sum of all.
Source: Pedersen (1991), "Non-interactive and information-theoretic secure verifiable secret
sharing"; hiding is unconditional, binding rests on discrete logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError
from daafl.secure.proof.group import GENERATORS, Point, combined, random_scalar
from daafl.secure.proof.messages import Commitment
from daafl.secure.proof.statement import LARGEST_VALUE, Claim, Statement

Values = npt.NDArray[np.int64]

_OFFSET = LARGEST_VALUE + 1


@dataclass(frozen=True)
class Committed:
    """A vector, its commitment and what opens it; kept by the node.

    Parameters
    ----------
    statement
        What is to be proved.
    commitment
        What is sent.
    rows
        The vector cut into rows, shape (rows, width).
    randomness
        One scalar for each row; they travel with the vector, see `daafl.secure.proof.binding`.
    """

    statement: Statement
    commitment: Commitment
    rows: Values = field(repr=False)
    randomness: tuple[int, ...] = field(repr=False)


def commit(values: npt.NDArray[np.integer], statement: Statement) -> Committed:
    """Return the commitment to ``values``, with fresh randomness.

    Parameters
    ----------
    values
        One-dimensional; as many as the claim says, each of magnitude at most `LARGEST_VALUE`.
    statement
        What is to be proved about them.

    Raises
    ------
    DataError
        If there are more or fewer, or one is too large.
    """
    claim = statement.claim
    rows = cut(values, claim)
    if values.size and int(np.abs(values.astype(np.int64)).max()) > LARGEST_VALUE:
        raise DataError(f"a value to commit to is beyond {LARGEST_VALUE} in magnitude")
    randomness = tuple(random_scalar() for _ in range(claim.num_rows))
    points = [
        _row_point(row, scalar) for row, scalar in zip(rows.tolist(), randomness, strict=True)
    ]
    return Committed(statement, Commitment(tuple(points)), rows, randomness)


def cut(values: npt.NDArray[np.integer], claim: Claim) -> Values:
    """Return ``values`` as the rows of a claim, filled up with zeros.

    Raises
    ------
    DataError
        If there are not as many as the claim says.
    """
    if values.shape != (claim.dimension,):
        raise DataError(
            f"a vector of shape {values.shape} for a proof over {claim.dimension} values"
        )
    rows = np.zeros(claim.num_rows * claim.width, np.int64)
    rows[: claim.dimension] = values
    return rows.reshape(claim.num_rows, claim.width)


def _row_point(row: Sequence[int], scalar: int) -> Point:
    # Products with small scalars are eight times as fast, and -1 is a large scalar: shift by 2**15.
    width = len(row)
    shifted = combined(GENERATORS.vector(width), [value + _OFFSET for value in row])
    return shifted + combined([_sum_of_generators(width), GENERATORS.blinding], [-_OFFSET, scalar])


@lru_cache(maxsize=8)
def _sum_of_generators(width: int) -> Point:
    return combined(GENERATORS.vector(width), [1] * width)
