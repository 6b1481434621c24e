"""What a node sends: a commitment first, a proof once the seed is known. Strictly read.

Sizes follow from the claim, which the reader has from its own configuration, so that nothing is
allocated before the length of the bytes is known to be right. Scalars are read before points:
they are cheap to check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from daafl.errors import MessageError
from daafl.secure.proof.group import (
    POINT_BYTES,
    Point,
    read_points,
    read_scalars,
    written,
    written_scalars,
)
from daafl.secure.proof.statement import SINGLE_POINTS, Claim

Scalars = tuple[int, ...]
Points = tuple[Point, ...]


@dataclass(frozen=True)
class Commitment:
    """Pedersen commitments to the rows of a vector.

    Parameters
    ----------
    rows
        One point for each row.
    """

    rows: Points = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the points in compressed form."""
        return written(self.rows)

    @classmethod
    def from_bytes(cls, data: bytes, claim: Claim) -> Self:
        """Return what `to_bytes` gave.

        Raises
        ------
        MessageError
            With reason ``schema`` or ``point``.
        """
        _check_size(data, claim.commitment_bytes, "a commitment")
        return cls(tuple(read_points(data, "a commitment")))


@dataclass(frozen=True)
class Proof:
    """A proof of the norm bound; `docs/norm-proof.md` names the parts as this class does.

    Parameters
    ----------
    bits
        Commitment to all bits: of the projections, then of the distance to the limit.
    row_mask, bit_mask
        Commitments to the random vectors that hide rows and bits in the responses.
    bit_cross, bit_square
        Terms of first and zeroth order of the test that bits are bits.
    sum_mask
        Zeroth-order term of the test that projections are those of the rows.
    norm_cross, norm_square
        Terms of first and zeroth order of the test of the sum of squares.
    products
        Terms of the product of matrix and rows, two per row.
    row_response, bit_response
        Rows and bits folded with the challenge.
    row_randomness, product_randomness, bit_randomness, square_randomness, sum_randomness, \
norm_randomness
        Randomness of the folded commitments.
    """

    bits: Point = field(repr=False)
    row_mask: Point = field(repr=False)
    bit_mask: Point = field(repr=False)
    bit_cross: Point = field(repr=False)
    bit_square: Point = field(repr=False)
    sum_mask: Point = field(repr=False)
    norm_cross: Point = field(repr=False)
    norm_square: Point = field(repr=False)
    products: Points = field(repr=False)
    row_randomness: int = field(repr=False)
    product_randomness: int = field(repr=False)
    bit_randomness: int = field(repr=False)
    square_randomness: int = field(repr=False)
    sum_randomness: int = field(repr=False)
    norm_randomness: int = field(repr=False)
    row_response: Scalars = field(repr=False)
    bit_response: Scalars = field(repr=False)

    @property
    def announced(self) -> Points:
        """What is fixed before the last challenge, apart from the bits."""
        return (
            self.row_mask,
            self.bit_mask,
            self.bit_cross,
            self.bit_square,
            self.sum_mask,
            self.norm_cross,
            self.norm_square,
            *self.products,
        )

    def to_bytes(self) -> bytes:
        """Return points, then scalars."""
        scalars = (
            self.row_randomness,
            self.product_randomness,
            self.bit_randomness,
            self.square_randomness,
            self.sum_randomness,
            self.norm_randomness,
            *self.row_response,
            *self.bit_response,
        )
        return written((self.bits, *self.announced)) + written_scalars(scalars)

    @classmethod
    def from_bytes(cls, data: bytes, claim: Claim) -> Self:
        """Return what `to_bytes` gave, for the same claim.

        Raises
        ------
        MessageError
            With reason ``schema``, ``scalar`` or ``point``.
        """
        _check_size(data, claim.proof_bytes, "a proof")
        cut = claim.num_points * POINT_BYTES
        scalars: Iterator[int] = iter(read_scalars(data[cut:], "a proof"))
        points = read_points(data[:cut], "a proof")
        return cls(
            bits=points[0],
            row_mask=points[1],
            bit_mask=points[2],
            bit_cross=points[3],
            bit_square=points[4],
            sum_mask=points[5],
            norm_cross=points[6],
            norm_square=points[7],
            products=tuple(points[SINGLE_POINTS:]),
            row_randomness=next(scalars),
            product_randomness=next(scalars),
            bit_randomness=next(scalars),
            square_randomness=next(scalars),
            sum_randomness=next(scalars),
            norm_randomness=next(scalars),
            row_response=tuple(islice(scalars, claim.width)),
            bit_response=tuple(scalars),
        )


def _check_size(data: bytes, size: int, what: str) -> None:
    if type(data) is not bytes or len(data) != size:
        raise MessageError("schema", f"{what} under this claim must be {size} bytes")
