"""Arithmetic on lists of scalars that prover and verifier share."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

from daafl.secure.proof.group import ORDER
from daafl.secure.proof.statement import Claim


def powers(base: int, count: int) -> list[int]:
    """Return the powers of ``base`` from 0 to ``count - 1``, modulo the order."""
    result = [1] * count
    for place in range(1, count):
        result[place] = result[place - 1] * base % ORDER
    return result


def inner(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the sum of products, modulo the order; the shorter list ends it."""
    total: int = sum(map(mul, one, other))
    return total % ORDER


def numbers(claim: Claim, places: Sequence[int]) -> tuple[list[int], int]:
    """Return the numbers that scalars in the places of a claim's bits stand for.

    One for each projection, without the shift that keeps its bits from being negative, and the
    distance to the limit.
    """
    width = claim.projection_bits
    cut = claim.projections * width
    return [_number(places[at : at + width]) for at in range(0, cut, width)], _number(places[cut:])


def _number(places: Sequence[int]) -> int:
    return sum(value << place for place, value in enumerate(places)) % ORDER
