"""Sharing a 32-byte secret so that any ``threshold`` holders recover it and fewer learn nothing.

A secret is the constant term of a random polynomial over the integers modulo the prime
2**256 + 297, the smallest above all 32-byte numbers; a share is its value at the holder's point.

Sources: Shamir (1979), "How to share a secret"; for shares some of which are wrong, Gao (2003),
"A new algorithm for decoding Reed-Solomon codes": with ``m`` shares, up to ``(m - threshold) // 2``
wrong ones are corrected and named.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from secrets import randbelow
from typing import Final

from daafl.errors import DataError
from daafl.secure.hidden import SEED_BYTES, Secret

PRIME: Final = 2**256 + 297
SHARE_BYTES: Final = 33
MAX_POINT: Final = 1 << 32

Shares = Mapping[int, int]
"""Values of the polynomial by point; points are positive."""


def shared(secret: Secret, points: Sequence[int], threshold: int) -> dict[int, int]:
    """Return one share per point, any ``threshold`` of which give back ``secret``.

    Raises
    ------
    DataError
        If the secret has not 32 bytes, points repeat or are out of range, or the threshold is not
        between 1 and the number of points.
    """
    _check(points, threshold)
    value = secret.reveal()
    if len(value) != SEED_BYTES:
        raise DataError(f"a secret to share has {len(value)} bytes; it must have {SEED_BYTES}")
    coefficients = [randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(value, "big"))
    return {point: _value_at(coefficients, point) for point in points}


def recovered(
    shares: Shares, threshold: int, is_right: Callable[[Secret], bool]
) -> tuple[Secret, tuple[int, ...]]:
    """Return the secret behind ``shares`` and the points whose shares were found to be wrong.

    Parameters
    ----------
    shares
        At least ``threshold`` of them. Only if the first ``threshold`` do not give a secret that
        ``is_right`` are the others looked at, so points are named only in that case.
    threshold
        Number of shares that determine the secret.
    is_right
        Compares a candidate with something public: a public key, a commitment.

    Raises
    ------
    DataError
        If there are too few shares, or too many of them are wrong.
    """
    points = list(shares)
    _check(points, threshold)
    candidate = _secret(_interpolated_at_zero(shares, points[:threshold]))
    if candidate is not None and is_right(candidate):
        return candidate, ()
    polynomial = _decoded(shares, threshold)
    candidate = _secret(polynomial[0]) if polynomial else None
    if polynomial is None or candidate is None or not is_right(candidate):
        raise DataError(
            f"{len(shares)} shares do not determine a secret that {threshold} of them should"
        )
    coefficients = polynomial[::-1]
    return candidate, tuple(x for x in points if _value_at(coefficients, x) != shares[x] % PRIME)


def share_to_bytes(share: int) -> bytes:
    """Return a share as the 33 bytes that travel."""
    return share.to_bytes(SHARE_BYTES, "big")


def share_from_bytes(data: bytes) -> int:
    """Return the share in 33 bytes.

    Raises
    ------
    DataError
        If it has another length or is no residue of the field.
    """
    share = int.from_bytes(data, "big")
    if len(data) != SHARE_BYTES or share >= PRIME:
        raise DataError("a share is not a number of the field in 33 bytes")
    return share


def _check(points: Sequence[int], threshold: int) -> None:
    if not 1 <= threshold <= len(points):
        raise DataError(
            f"the threshold is {threshold} with {len(points)} shares; it must be 1 to their number"
        )
    if len(set(points)) < len(points) or not all(0 < point < MAX_POINT for point in points):
        raise DataError(f"points of shares must be distinct and from 1 to {MAX_POINT - 1}")


def _secret(value: int) -> Secret | None:
    """Return a residue as a secret, or nothing for one that no 32 bytes can be."""
    return None if value >> (8 * SEED_BYTES) else Secret(value.to_bytes(SEED_BYTES, "big"))


def _value_at(coefficients: Sequence[int], point: int) -> int:
    """Return a polynomial at ``point`` by Horner's rule; highest power first."""
    value = 0
    for coefficient in coefficients:
        value = (value * point + coefficient) % PRIME
    return value


def _interpolated_at_zero(shares: Shares, points: Sequence[int]) -> int:
    """Return the value at 0 of the polynomial through ``points``, by Lagrange's formula.

    The numbers stay small integers until all are inverted at once (Montgomery's trick).
    """
    through = prod(points)
    bottoms = [x * prod(other - x for other in points if other != x) % PRIME for x in points]
    total = 0
    for x, inverse in zip(points, _inverses(bottoms), strict=True):
        total += shares[x] * inverse
    return total * through % PRIME


def _inverses(values: Sequence[int]) -> list[int]:
    products = [1]
    for value in values:
        products.append(products[-1] * value % PRIME)
    inverse = pow(products[-1], -1, PRIME)
    inverses = []
    for value, before in zip(reversed(values), reversed(products[:-1]), strict=True):
        inverses.append(inverse * before % PRIME)
        inverse = inverse * value % PRIME
    return inverses[::-1]


def _decoded(shares: Shares, threshold: int) -> list[int] | None:
    """Return the polynomial that most shares lie on, lowest power first, by Gao's algorithm."""
    previous, current = [1], _interpolated(shares)
    for x in shares:
        previous = _times(previous, [-x % PRIME, 1])
    before: list[int] = []
    factor = [1]
    while 2 * (len(current) - 1) >= len(shares) + threshold:
        quotient, rest = _divided(previous, current)
        before, factor = factor, _minus(before, _times(quotient, factor))
        previous, current = current, rest
    quotient, rest = _divided(current, factor)
    if rest or len(quotient) > threshold:
        return None
    return quotient or [0]


def _interpolated(shares: Shares) -> list[int]:
    """Return the polynomial through all shares, by Newton's divided differences."""
    points = list(shares)
    differences = [shares[x] % PRIME for x in points]
    for order in range(1, len(points)):
        for i in range(len(points) - 1, order - 1, -1):
            gap = pow(points[i] - points[i - order], -1, PRIME)
            differences[i] = (differences[i] - differences[i - 1]) * gap % PRIME
    polynomial: list[int] = []
    for x, difference in zip(reversed(points), reversed(differences), strict=True):
        polynomial = _minus(_times(polynomial, [-x % PRIME, 1]), [-difference % PRIME])
    return polynomial


def _trimmed(polynomial: list[int]) -> list[int]:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _times(a: Sequence[int], b: Sequence[int]) -> list[int]:
    product = [0] * (len(a) + len(b))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return _trimmed([value % PRIME for value in product])


def _minus(a: Sequence[int], b: Sequence[int]) -> list[int]:
    length = max(len(a), len(b))
    padded = [[*p, *[0] * (length - len(p))] for p in (a, b)]
    return _trimmed([(x - y) % PRIME for x, y in zip(*padded, strict=True)])


def _divided(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return quotient and rest of ``a`` by ``b``, which is not zero."""
    rest = list(a)
    quotient = [0] * max(0, len(a) - len(b) + 1)
    inverse = pow(b[-1], -1, PRIME)
    for shift in range(len(a) - len(b), -1, -1):
        factor = rest[shift + len(b) - 1] * inverse % PRIME
        quotient[shift] = factor
        for i, value in enumerate(b):
            rest[shift + i] = (rest[shift + i] - factor * value) % PRIME
    return _trimmed(quotient), _trimmed(rest)
