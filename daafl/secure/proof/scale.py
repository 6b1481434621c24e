"""From a bound in real units to whole numbers: what the proof's integers mean.

Masked sums and proofs must see the same integers. An update is clipped to the bound in norm and
quantised to at most 2**16 - 2 levels, fewer than a masked word could hold. The integers that are
summed run from 0; the proof is about them less half the levels, so that zero stays zero. Rounding
moves each value by less than a step, and a vector of ``d`` values by less than ``sqrt(d)`` steps:
the bound in steps allows for that.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, MessageError
from daafl.secure.proof.statement import LARGEST_VALUE, Claim
from daafl.secure.quantisation import Quantiser, Words

PROOF_LEVELS: Final = 2 * LARGEST_VALUE
MIN_BOUND: Final = 1e-30

Integers = npt.NDArray[np.int64]


def quantiser_for(bound: float, num_summands: int, *, clip: float | None = None) -> Quantiser:
    """Return the quantiser for a sum whose parts are proved to be within ``bound``.

    Parameters
    ----------
    bound
        Largest Euclidean norm of an update, in real units; what nodes clip to.
    num_summands
        Most vectors in a sum; up to 2**16.
    clip
        Largest magnitude of one coordinate that is kept. No coordinate of a vector within the bound
        exceeds the bound, the default. A smaller clip makes the step smaller in proportion.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> quantiser_for(1.0, 100).levels
    65534
    """
    if not MIN_BOUND <= bound <= 1 / MIN_BOUND:
        raise ConfigError(
            f"the norm bound of a proof is {bound}; {MIN_BOUND:g} to {1 / MIN_BOUND:g} may be"
        )
    if clip is not None and not 0 < clip <= bound:
        raise ConfigError(f"the clip of a proved update is {clip}; it must be in (0, {bound}]")
    if not 1 <= num_summands <= 1 << 16:
        raise ConfigError(f"{num_summands} nodes in a sum with proofs; 1 to 65536 may be")
    return Quantiser(bound if clip is None else clip, num_summands, num_summands * PROOF_LEVELS + 1)


def claim_for(
    bound: float, quantiser: Quantiser, dimension: int, *, projections: int = 256
) -> Claim:
    """Return what nodes prove: a norm of at most ``bound``, in steps, rounding included.

    Parameters
    ----------
    bound
        In real units.
    quantiser
        From `quantiser_for`.
    dimension
        Values of an update.
    projections
        128, 256 or 512.

    Raises
    ------
    ConfigError
        If the quantiser has more levels than a proof can commit to, or a value is out of range.
    """
    if quantiser.levels > PROOF_LEVELS:
        raise ConfigError(
            f"a proof needs a quantiser of at most {PROOF_LEVELS} levels, this one has "
            f"{quantiser.levels}: take it from quantiser_for"
        )
    steps = math.ceil(bound / quantiser.step + math.sqrt(dimension))
    return Claim(dimension, steps, projections)


def centred(words: Words, quantiser: Quantiser) -> Integers:
    """Return the integers a proof is about, from those that are summed."""
    return words.astype(np.int64) - quantiser.levels // 2


def centred_sum(total: Words, num_nodes: int, quantiser: Quantiser) -> Integers:
    """Return the sum of the integers of ``num_nodes`` proofs, from the sum of the words.

    Raises
    ------
    MessageError
        With reason ``binding`` if no such nodes' words have this sum.
    """
    largest = num_nodes * quantiser.levels
    if total.size and int(total.max()) > largest:
        raise MessageError(
            "binding", f"a sum of {num_nodes} vectors exceeds {largest}: a node broke the protocol"
        )
    return total.astype(np.int64) - num_nodes * (quantiser.levels // 2)
