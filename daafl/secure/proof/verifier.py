"""The server's side: whether a proof holds, by one product of many points.

A proof stands for six equations between points. They are added up with weights that the verifier
draws afresh, so that a proof which breaks one passes with a probability of 2**-128, and the whole
costs a single product.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import numpy as np

from daafl.errors import MessageError
from daafl.secure.proof.challenges import begun
from daafl.secure.proof.folding import inner, numbers, powers
from daafl.secure.proof.group import GENERATORS, ORDER, combined, is_identity, written
from daafl.secure.proof.limbs import limbs, recombined
from daafl.secure.proof.messages import Commitment, Proof
from daafl.secure.proof.projection import projected
from daafl.secure.proof.statement import Claim, Statement

_WEIGHT_BITS: Final = 128
_NUM_EQUATIONS: Final = 6


def verify(commitment: Commitment, seed: bytes, proof: Proof, statement: Statement) -> None:
    """Return if ``proof`` shows that what was committed to is within the bound.

    Parameters
    ----------
    commitment
        What the node sent before the seed was drawn.
    seed
        32 bytes, the server's own.
    proof
        What the node answered.
    statement
        Of this node, in this round.

    Raises
    ------
    MessageError
        With reason ``proof`` if it does not hold, ``schema`` if its parts are not as many as the
        claim says.
    """
    claim = statement.claim
    _check_counts(commitment, proof, claim)
    transcript = begun(statement, commitment, seed)
    transcript.absorb("bits", written([proof.bits]))
    weights = powers(transcript.challenge("projections"), claim.projections)
    transcript.absorb("announced", written(proof.announced))
    c = transcript.challenge("answers")
    folds = powers(c, 2 * claim.num_rows)

    product = _product(proof.row_response, seed, claim, weights, folds)
    places, rest = numbers(claim, proof.bit_response)
    shift = c << (claim.projection_bits - 1)
    folded = [(value - shift) % ORDER for value in places]
    total = inner(weights, folded)
    squares = (inner(folded, folded) + c * (rest - c * claim.limit)) % ORDER

    row, bit, square, multiple, linear, norm = (
        secrets.randbits(_WEIGHT_BITS) for _ in range(_NUM_EQUATIONS)
    )
    points = [*GENERATORS.vector(claim.num_generators)]
    scalars = [0] * claim.num_generators
    for place, value in enumerate(proof.row_response):
        scalars[place] = row * value
    for place, value in enumerate(proof.bit_response):
        scalars[place] += value * (bit + square * (c - value))
    points += [GENERATORS.value, GENERATORS.blinding]
    scalars += [
        multiple * product + linear * total + norm * squares,
        row * proof.row_randomness
        + bit * proof.bit_randomness
        + square * proof.square_randomness
        + multiple * proof.product_randomness
        + linear * proof.sum_randomness
        + norm * proof.norm_randomness,
    ]
    points += commitment.rows
    scalars += [-row * fold for fold in folds[1 : claim.num_rows + 1]]
    points += proof.products
    scalars += [-multiple * fold for fold in folds[: 2 * claim.num_rows]]
    scalars[len(scalars) - claim.num_rows] -= linear * c
    points += [proof.bits, *proof.announced[:7]]
    scalars += [-bit * c, -row, -bit, -square * c, -square, -linear, -norm * c, -norm]
    if not is_identity(combined(points, [scalar % ORDER for scalar in scalars])):
        raise MessageError(
            "proof", f"the norm proof of node {statement.context.node} does not hold"
        )


def _product(
    response: Sequence[int],
    seed: bytes,
    claim: Claim,
    weights: Sequence[int],
    folds: Sequence[int],
) -> int:
    """Return the folded matrix times the folded rows."""
    parts = projected(
        seed,
        limbs(response).astype(np.float64),
        num_rows=claim.num_rows,
        num_projections=claim.projections,
    )
    return (
        sum(
            folds[claim.num_rows - 1 - row] * inner(weights, recombined(part))
            for row, part in enumerate(parts)
        )
        % ORDER
    )


def _check_counts(commitment: Commitment, proof: Proof, claim: Claim) -> None:
    counts = (
        (len(commitment.rows), claim.num_rows),
        (len(proof.products), 2 * claim.num_rows),
        (len(proof.row_response), claim.width),
        (len(proof.bit_response), claim.num_bits),
    )
    if any(found != wanted for found, wanted in counts):
        raise MessageError("schema", "a proof does not have as many parts as its claim says")
