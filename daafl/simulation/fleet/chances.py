"""Keys of everything that is random in a fleet: the same key, the same number."""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms


class Chance(IntEnum):
    """What is drawn; numbers are part of what a seed means and are never reused."""

    CLASS = 1
    SPEED = 2
    BANDWIDTH = 3
    CLOCK = 4
    CHARGE = 5
    PRESENCE = 6
    VISIBLE = 7
    ACTIVE = 8
    LOST_THERE = 9
    LOST_BACK = 10
    CRASH = 11
    CRASH_POINT = 12
    ORDER = 13


@cache
def key_of(seed: int, chance: Chance) -> int:
    """Return the key that numbers of nodes or messages are mixed into."""
    return int(mixed(seed, int(chance)))


def normals(key: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return standard normal numbers, one for each given one (Box and Muller 1958).

    Examples
    --------
    >>> draws = normals(7, np.arange(100_000))
    >>> bool(abs(draws.mean()) < 0.01), bool(abs(draws.std() - 1.0) < 0.01)
    (True, True)
    """
    first, second = (uniforms(mixed(key, numbers, part)) for part in (0, 1))
    drawn: NDArray[np.float64] = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
    return drawn
