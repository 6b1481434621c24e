"""Random numbers as a pure function of what they are for: the same key, the same number.

Nothing is drawn from a stream, so nothing depends on who asks first, in which process, or how
often a run was resumed. Keys are mixed by the finaliser of SplitMix64 (Steele, Lea and Flood 2014,
"Fast splittable pseudorandom number generators", figure 16); they are not for cryptography.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_DOUBLE_BITS: Final = np.uint64(11)  # 64 random bits less the 53 that a float64 in [0, 1) has


def mixed(*parts: int | npt.NDArray[Any]) -> Keys:
    """Return keys that depend on all of the parts and on their order.

    Parameters
    ----------
    parts
        Whole numbers, or arrays of them that broadcast; negative ones count modulo 2**64.

    Examples
    --------
    >>> int(mixed(1, 2)) == int(mixed(2, 1))
    False
    >>> mixed(7, np.arange(3)).shape
    (3,)
    """
    key = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        for part in parts:
            key = _finalised(key ^ _words(part))
    return key


def uniforms(keys: Keys) -> npt.NDArray[np.float64]:
    """Return numbers uniform in [0, 1), one for each key.

    Examples
    --------
    >>> bool(abs(uniforms(mixed(0, np.arange(100_000))).mean() - 0.5) < 0.005)
    True
    """
    return (keys >> _DOUBLE_BITS).astype(np.float64) * 2.0**-53


def _words(part: int | npt.NDArray[Any]) -> Keys:
    if isinstance(part, int):
        return np.array(part % 2**64, np.uint64)
    return np.asarray(part).astype(np.uint64)


def _finalised(key: Keys) -> Keys:
    key = key + _GAMMA
    key = (key ^ (key >> np.uint64(30))) * _FIRST
    key = (key ^ (key >> np.uint64(27))) * _SECOND
    return key ^ (key >> np.uint64(31))
