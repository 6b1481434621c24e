"""The group of the proof: the first subgroup of BLS12-381, of prime order, and its scalars.

Points come from ``py_arkworks_bls12381``, loaded on first use; scalars are Python integers modulo
`ORDER`. Generators are hashed to the curve (RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_), so
that nobody knows a relation between any two of them and no setup has to be trusted. Nothing here
runs in constant time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from daafl.errors import ConfigError, MessageError

if TYPE_CHECKING:
    from py_arkworks_bls12381 import G1Point, Scalar

ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
POINT_BYTES: Final = 48
SCALAR_BYTES: Final = 32
SUITE: Final = b"DAAFL-NORM-PROOF-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"

Point: TypeAlias = "G1Point"

_WIDE_POINT_BYTES: Final = 96


@lru_cache(maxsize=1)
def library() -> Any:
    """Return the library of the curve.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module("py_arkworks_bls12381")
    except ImportError as error:
        raise ConfigError(
            "norm proofs need py_arkworks_bls12381, which is not installed: "
            "pip install 'daafl[proofs]'"
        ) from error


def random_scalar() -> int:
    """Return a scalar drawn uniformly from the system's secure source."""
    return secrets.randbelow(ORDER)


def combined(points: Sequence[Point], scalars: Sequence[int]) -> Point:
    """Return the sum of ``scalars[i] * points[i]``; scalars may be any integers.

    Raises
    ------
    ValueError
        If the two differ in length; the library would drop what is over.
    """
    if len(points) != len(scalars):
        raise ValueError(f"{len(points)} points and {len(scalars)} scalars; one each is needed")
    total: Point = library().G1Point.multiexp_unchecked(list(points), _scalars(scalars))
    return total


def is_identity(point: Point) -> bool:
    """Return whether the point is the neutral element."""
    return bool(point == library().G1Point.identity())


def written(points: Iterable[Point]) -> bytes:
    """Return points in compressed form, 48 bytes each."""
    return b"".join(point.to_compressed_bytes() for point in points)


def read_points(data: bytes, what: str) -> list[Point]:
    """Return the points in ``data``, whose length must be whole points.

    Each is checked to lie on the curve and in the subgroup of prime order, and to be written in the
    one way there is.

    Raises
    ------
    MessageError
        With reason ``point``.
    """
    read = library().G1Point.from_compressed_bytes
    points = []
    for start in range(0, len(data), POINT_BYTES):
        part = data[start : start + POINT_BYTES]
        try:
            point = read(part)
        except ValueError:
            raise MessageError("point", f"{what} holds bytes that are no point") from None
        # The library takes several encodings for the neutral element.
        if point.to_compressed_bytes() != part:
            raise MessageError("point", f"{what} holds a point that is not written canonically")
        points.append(point)
    return points


def read_scalars(data: bytes, what: str) -> list[int]:
    """Return the scalars in ``data``, little-endian, whose length must be whole scalars.

    Raises
    ------
    MessageError
        With reason ``scalar`` if one is not below the order.
    """
    scalars = [
        int.from_bytes(data[start : start + SCALAR_BYTES], "little")
        for start in range(0, len(data), SCALAR_BYTES)
    ]
    if any(scalar >= ORDER for scalar in scalars):
        raise MessageError("scalar", f"{what} holds a scalar that is not below the group's order")
    return scalars


def written_scalars(scalars: Iterable[int]) -> bytes:
    """Return scalars below the order, little-endian, 32 bytes each."""
    return b"".join(scalar.to_bytes(SCALAR_BYTES, "little") for scalar in scalars)


class Generators:
    """Generators of the group, made on demand and kept for the life of the process."""

    def __init__(self) -> None:
        self._points: list[Point] = []

    @property
    def value(self) -> Point:
        """What single scalars are committed with."""
        return self._first(2)[0]

    @property
    def blinding(self) -> Point:
        """What randomness is committed with."""
        return self._first(2)[1]

    def vector(self, count: int) -> list[Point]:
        """Return the first ``count`` generators for the entries of a vector."""
        return self._first(count + 2)[2:]

    def exported(self, count: int) -> bytes:
        """Return the generators for vectors of ``count`` entries, for a process of one's own."""
        return b"".join(point.to_xy_bytes_le() for point in self._first(count + 2))

    def adopt(self, exported: bytes) -> None:
        """Take generators that a process of one's own made; never those of somebody else."""
        read = library().G1Point.from_xy_bytes_unchecked_le
        self._points = [
            read(exported[start : start + _WIDE_POINT_BYTES])
            for start in range(0, len(exported), _WIDE_POINT_BYTES)
        ]

    def _first(self, count: int) -> list[Point]:
        hashed = library().G1Point.hash_to_curve
        self._points += [
            hashed(index.to_bytes(8, "big"), SUITE) for index in range(len(self._points), count)
        ]
        return self._points[:count]


GENERATORS: Final = Generators()


def _scalars(values: Sequence[int]) -> list[Scalar]:
    made = library().Scalar
    # The constructor is quickest for what is small, and refuses what is negative.
    return [made(value if value >= 0 else value % ORDER) for value in values]
