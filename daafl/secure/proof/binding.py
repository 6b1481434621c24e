"""What ties proofs to the sum: the commitments of all nodes must open to what was summed.

Randomness travels with the vector, under the same masks or encryption: sixteen words of 16 bits for
each row. 2**16 of these add up below 2**32, so that the sum of the words gives the exact sum of the
scalars. The server learns that sum, as it learns the sum of the vectors, and nothing of one node.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import reduce
from operator import add, mul
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError, MessageError
from daafl.secure.proof.commitments import cut
from daafl.secure.proof.group import GENERATORS, ORDER, combined, is_identity
from daafl.secure.proof.limbs import NUM_LIMBS, limbs, recombined
from daafl.secure.proof.messages import Commitment
from daafl.secure.proof.statement import Claim
from daafl.secure.quantisation import Words

MAX_NODES: Final = 1 << 16
"""Nodes whose words of randomness add up without wrapping around."""

_WEIGHT_BITS: Final = 128


def num_words(claim: Claim) -> int:
    """Return how many words the randomness of one vector takes."""
    return claim.num_rows * NUM_LIMBS


def words_of(randomness: Sequence[int]) -> Words:
    """Return scalars as words of 16 bits, lowest first, to be summed with those of other nodes."""
    return limbs(randomness).astype(np.uint32).ravel()


def randomness_in(words: Words, claim: Claim) -> tuple[int, ...]:
    """Return the sum of the scalars from the sum of the words, one for each row.

    Raises
    ------
    MessageError
        With reason ``schema`` if there are not as many words as the claim says.
    """
    if words.shape != (num_words(claim),):
        raise MessageError("schema", f"the randomness of a sum must be {num_words(claim)} words")
    return tuple(recombined(words.reshape(-1, NUM_LIMBS)))


def check_sum(
    commitments: Sequence[Commitment],
    total: npt.NDArray[np.integer],
    randomness: Sequence[int],
    claim: Claim,
) -> None:
    """Return if the commitments add up to one that opens to the sum.

    One product with fresh weights checks all rows at once; a wrong sum passes with a probability of
    2**-128.

    Parameters
    ----------
    commitments
        Of the nodes in the sum, and of no others.
    total
        Sum of their centred integers; see `daafl.secure.proof.scale.centred_sum`.
    randomness
        Sum of their randomness, by row.
    claim
        As the proofs had it.

    Raises
    ------
    MessageError
        With reason ``binding``. It shows that some node's proof is not about what it sent, not
        whose.
    DataError
        If there are no nodes or too many, or the sum has another length than the claim.
    """
    if not 1 <= len(commitments) <= MAX_NODES:
        raise DataError(f"a sum of {len(commitments)} nodes; 1 to {MAX_NODES} can be checked")
    if len(randomness) != claim.num_rows or any(
        len(one.rows) != claim.num_rows for one in commitments
    ):
        raise MessageError("schema", f"a commitment under this claim has {claim.num_rows} rows")
    weights = [secrets.randbits(_WEIGHT_BITS) for _ in range(claim.num_rows)]
    # Whole numbers: values of 33 bits times limbs of 16, over 64 rows, are beyond a float64.
    folded = recombined(cut(total, claim).T @ limbs(weights).astype(np.int64))
    added = [reduce(add, points) for points in zip(*(one.rows for one in commitments), strict=True)]
    points = [*GENERATORS.vector(claim.width), GENERATORS.blinding, *added]
    scalars = [
        *folded,
        sum(map(mul, weights, randomness)) % ORDER,
        *(-weight % ORDER for weight in weights),
    ]
    if not is_identity(combined(points, scalars)):
        raise MessageError("binding", "the sum is not the sum of the vectors whose norm was proved")
