"""How far above its bound a norm can be and still be proved, and with what probability.

A proof shows that ``k`` random projections have a sum of squares of at most ``limit``. For a vector
of norm ``s`` the sum is ``k s**2`` on average. Two statements about its lower tail are kept apart:

approximate
    The sum divided by ``s**2`` is taken to be chi-square with ``k`` degrees of freedom, which it is
    in the limit of many coordinates of similar size.
rigorous
    For every vector, ``E exp(-h Q**2) <= 1 - h + 3 h**2 / 2`` where ``Q`` is one projection divided
    by ``s`` (its fourth moment is at most 3), and Markov's inequality. Source: Achlioptas (2003),
    "Database-friendly random projections", section 5.

Both add ``2**-k``, for what is not a vector of small numbers: see `docs/norm-proof.md`. The upper
tail, which honest nodes care about, is rigorous: ``E exp(h Q**2) <= (1 - 2 h)**-1/2``.
"""

from __future__ import annotations

import math
from typing import Final

from scipy.optimize import brentq
from scipy.special import gammainc

from daafl.secure.proof.statement import DEVIATIONS, Claim

DEFAULT_PROBABILITY: Final = 2.0**-40

_LARGEST_RATIO: Final = 1e6


def honest_failure(claim: Claim) -> float:
    """Return a rigorous bound on the probability that a vector at the bound finds no proof.

    Either the sum of squares exceeds the limit, or a projection needs more than its bits, which
    hold seven times the bound (Hoeffding's inequality).
    """
    excess = claim.limit / (claim.projections * claim.bound**2)
    squares = math.exp(claim.projections / 2 * (math.log(excess) + 1 - excess))
    return squares + claim.projections * 2 * math.exp(-(DEVIATIONS**2) / 2)


def approximate(claim: Claim, ratio: float) -> float:
    """Return the probability that a norm of ``ratio`` times the bound passes, by chi-square."""
    degrees = claim.projections / 2
    return float(gammainc(degrees, degrees * _left(claim, ratio))) + 2.0**-claim.projections


def rigorous(claim: Claim, ratio: float) -> float:
    """Return a bound on the probability that a norm of ``ratio`` times the bound passes."""
    left = _left(claim, ratio)
    if left >= 1:
        return 1.0
    # Where the derivative of log(1 - h + 3 h**2 / 2) + h * left is zero.
    root = math.sqrt((3 - left) ** 2 + 6 * left * (1 - left))
    h = 2 * (1 - left) / (root + 3 - left)
    exponent = math.log(1 - h + 1.5 * h * h) + h * left
    return min(1.0, math.exp(claim.projections * exponent) + 2.0**-claim.projections)


def slack(claim: Claim, probability: float = DEFAULT_PROBABILITY, *, is_rigorous: bool) -> float:
    """Return the least ratio to the bound at which a norm passes with at most ``probability``.

    Infinite if no ratio does: the rigorous bound does not fall below ``(5/6)**k``.

    Examples
    --------
    >>> round(slack(Claim(1000, 30_000, 256), is_rigorous=False), 2)
    1.76
    >>> round(slack(Claim(1000, 30_000, 256), is_rigorous=True), 2)
    2.49
    """
    chance = rigorous if is_rigorous else approximate
    if chance(claim, _LARGEST_RATIO) > probability:
        return math.inf
    return float(
        brentq(lambda ratio: math.log(chance(claim, ratio) / probability), 1.0, _LARGEST_RATIO)
    )


def sentence(claim: Claim, step: float) -> str:
    """Return what a proof promises, for people.

    Parameters
    ----------
    step
        Of the quantiser, in real units.
    """
    exponent = -round(math.log2(DEFAULT_PROBABILITY))
    known = slack(claim, is_rigorous=True)
    certain = (
        f"a rigorous tail bound shows it from {known:.2f} times on"
        if math.isfinite(known)
        else "no rigorous tail bound shows it with so few projections"
    )
    return (
        f"Norm proof with {claim.projections} random projections, experimental and unaudited. "
        f"A quantised update of norm {claim.bound * step:.4g} or less finds a proof, except with "
        f"a probability of {honest_failure(claim):.1e}. A larger norm passes with a probability "
        f"of at most 2^-{exponent} per attempt from {slack(claim, is_rigorous=False):.2f} times "
        f"that on, by a chi-square approximation; {certain}."
    )


def _left(claim: Claim, ratio: float) -> float:
    """Return the limit over the mean sum of squares at ``ratio``."""
    return claim.limit / (claim.projections * (ratio * claim.bound) ** 2)
