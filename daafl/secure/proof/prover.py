"""The node's side: a proof that the vector it committed to has a norm within the bound.

`docs/norm-proof.md` has the protocol step by step and its soundness. The names here are those of
`daafl.secure.proof.messages.Proof`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError
from daafl.secure.proof.challenges import begun
from daafl.secure.proof.commitments import Committed
from daafl.secure.proof.folding import inner, numbers, powers
from daafl.secure.proof.group import (
    GENERATORS,
    ORDER,
    Point,
    combined,
    random_scalar,
    written,
)
from daafl.secure.proof.limbs import limbs, recombined
from daafl.secure.proof.messages import Proof
from daafl.secure.proof.projection import projected
from daafl.secure.proof.statement import Claim


def prove(committed: Committed, seed: bytes) -> Proof:
    """Return the proof for the projections that ``seed`` determines.

    A node answers one seed for each commitment: whoever may ask for several learns for each whether
    it was met.

    Parameters
    ----------
    committed
        What the node committed to.
    seed
        32 bytes from the server, drawn after it had every commitment.

    Raises
    ------
    DataError
        If the projections exceed the limit: the norm is above the bound or, with a probability
        below 2**-20, the seed is unlucky.
    """
    claim = committed.statement.claim
    mask = [random_scalar() for _ in range(claim.width)]
    parts = projected_parts(committed, mask, seed)
    rest = claim.limit - sum(value**2 for value in projections_in(parts))
    reach = 1 << (claim.projection_bits - 1)
    if rest < 0 or not all(-reach <= value < reach for value in projections_in(parts)):
        raise DataError(
            f"the update is beyond the norm bound of {claim.bound} steps; no proof can be made. "
            "Clip the update to the bound before it is quantised"
        )
    return proof_of(committed, seed, mask, parts, rest)


def projected_parts(
    committed: Committed, mask: Sequence[int], seed: bytes
) -> npt.NDArray[np.int64]:
    """Return each projection's part in row ``i``, times every row and the limbs of ``mask``."""
    claim = committed.statement.claim
    columns = np.hstack([committed.rows.T.astype(np.float64), limbs(mask)])
    return projected(seed, columns, num_rows=claim.num_rows, num_projections=claim.projections)


def projections_in(parts: npt.NDArray[np.int64]) -> list[int]:
    """Return the projections of the whole vector: every row with its own part."""
    values: list[int] = np.trace(parts[:, :, : len(parts)], axis1=0, axis2=2).tolist()
    return values


def proof_of(
    committed: Committed,
    seed: bytes,
    mask: Sequence[int],
    parts: npt.NDArray[np.int64],
    rest: int,
) -> Proof:
    """Return the proof that the squared projections and ``rest`` add up to the limit.

    If they do not, or a number does not fit its bits, a proof comes out that nobody accepts.

    Parameters
    ----------
    mask, parts
        Random vector as wide as a row, and `projected_parts` with it.
    rest
        Distance of the sum of squares to the limit.
    """
    claim = committed.statement.claim
    projections = projections_in(parts)
    bits = _bits(claim, projections, rest)
    transcript = begun(committed.statement, committed.commitment, seed)

    bit_randomness = random_scalar()
    bit_point = _committed(bits, bit_randomness)
    transcript.absorb("bits", written([bit_point]))
    weights = powers(transcript.challenge("projections"), claim.projections)

    products = _products(parts, weights)
    product_randomness = [random_scalar() for _ in products]
    row_mask_randomness = random_scalar()

    # Responses will be c * bit + hide: hide's own projections and distance follow as bits do.
    hide = [random_scalar() for _ in bits]
    hide_randomness, cross_randomness, square_randomness = _random_scalars(3)
    hidden, hidden_rest = numbers(claim, hide)
    sum_randomness, norm_cross_randomness, norm_square_randomness = _random_scalars(3)

    row_mask = _committed(mask, row_mask_randomness)
    product_points = [_single(*pair) for pair in zip(products, product_randomness, strict=True)]
    bit_mask = _committed(hide, hide_randomness)
    crossed = [one * (1 - 2 * bit) for one, bit in zip(hide, bits, strict=True)]
    bit_cross = _committed(crossed, cross_randomness)
    bit_square = _committed([-(one**2) for one in hide], square_randomness)
    sum_mask = _single(inner(weights, hidden), sum_randomness)
    norm_cross = _single(2 * inner(projections, hidden) + hidden_rest, norm_cross_randomness)
    norm_square = _single(inner(hidden, hidden), norm_square_randomness)
    announced = (
        row_mask,
        bit_mask,
        bit_cross,
        bit_square,
        sum_mask,
        norm_cross,
        norm_square,
        *product_points,
    )
    transcript.absorb("announced", written(announced))
    c = transcript.challenge("answers")

    folds = powers(c, 2 * claim.num_rows)
    row_folds = folds[1 : claim.num_rows + 1]
    folded = recombined(committed.rows.T.astype(np.float64) @ limbs(row_folds).astype(np.float64))
    return Proof(
        bits=bit_point,
        row_mask=row_mask,
        bit_mask=bit_mask,
        bit_cross=bit_cross,
        bit_square=bit_square,
        sum_mask=sum_mask,
        norm_cross=norm_cross,
        norm_square=norm_square,
        products=tuple(product_points),
        row_randomness=(row_mask_randomness + inner(row_folds, committed.randomness)) % ORDER,
        product_randomness=inner(folds, product_randomness),
        bit_randomness=(c * bit_randomness + hide_randomness) % ORDER,
        square_randomness=(c * cross_randomness + square_randomness) % ORDER,
        sum_randomness=(c * product_randomness[claim.num_rows] + sum_randomness) % ORDER,
        norm_randomness=(c * norm_cross_randomness + norm_square_randomness) % ORDER,
        row_response=tuple((x + y) % ORDER for x, y in zip(folded, mask, strict=True)),
        bit_response=tuple((c * bit + one) % ORDER for bit, one in zip(bits, hide, strict=True)),
    )


def _products(parts: npt.NDArray[np.int64], weights: Sequence[int]) -> list[int]:
    """Return, by power of the challenge, what the folded matrix times the folded rows sums to.

    The matrix is folded with powers m - 1 - i for its part ``i``, the rows with powers j + 1 and
    the mask with 0: power m collects every part times its own row.
    """
    num_rows = len(parts)
    products = [0] * (2 * num_rows)
    for offset in range(1 - num_rows, num_rows):
        diagonal = np.trace(parts[:, :, :num_rows], offset=offset, axis1=0, axis2=2)
        products[num_rows + offset] += inner(weights, diagonal.tolist())
    for row, part in enumerate(parts[:, :, num_rows:]):
        products[num_rows - 1 - row] += inner(weights, recombined(part))
    return [product % ORDER for product in products]


def _bits(claim: Claim, projections: Sequence[int], rest: int) -> list[int]:
    """Return all bits, lowest first; a projection is shifted so that none is negative."""
    shift = 1 << (claim.projection_bits - 1)
    bits = [
        value + shift >> place & 1
        for value in projections
        for place in range(claim.projection_bits)
    ]
    return bits + [rest >> place & 1 for place in range(claim.slack_bits)]


def _random_scalars(count: int) -> list[int]:
    return [random_scalar() for _ in range(count)]


def _single(value: int, randomness: int) -> Point:
    return combined([GENERATORS.value, GENERATORS.blinding], [value, randomness])


def _committed(values: Sequence[int], randomness: int) -> Point:
    points = [*GENERATORS.vector(len(values)), GENERATORS.blinding]
    return combined(points, [*values, randomness])
