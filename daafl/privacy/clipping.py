"""Bounds on what one user can change: clipping of whole updates, fixed and adaptive.

Adaptive clipping follows a quantile of the norms: Andrew, Thakkar, McMahan and Ramaswamy (2021),
*Differentially Private Learning with Adaptive Clipping*. In each round every user says with one bit
whether its norm is within the bound; the bits are summed with noise of their own, and the bound
moves geometrically towards the quantile (algorithm 1).
"""

import math
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, DataError
from daafl.privacy.gaussian import noised
from daafl.privacy.keystream import Keystream

Float = TypeVar("Float", bound=np.floating[Any])

BIT_SENSITIVITY: Final = 0.5
"""What one user changes the sum of ``bit - 1/2`` by."""


def clipped(update: npt.NDArray[Float], bound: float) -> tuple[npt.NDArray[Float], bool]:
    """Return an update scaled to a Euclidean norm of at most ``bound``, and whether it was within.

    The norm is taken in double precision; what is returned holds the bound in its own number type.
    The update is returned as it is when it is within.

    Raises
    ------
    DataError
        If the update holds NaN or infinity.
    """
    if not 0.0 < bound < math.inf:
        raise ConfigError(f"a clipping bound must be positive and finite, not {bound}")
    norm = _norm(update)
    if not math.isfinite(norm):
        raise DataError("an update to be clipped holds NaN or infinity")
    if norm <= bound:
        return update, True
    # Rounding to the number type may push the norm over the bound; the second pass is beyond doubt.
    shorter = (update * (bound / norm)).astype(update.dtype)
    rounded = _norm(shorter)
    if rounded > bound:
        shrink = bound / rounded * (1.0 - 4.0 * float(np.finfo(update.dtype).eps))
        shorter = (shorter * shrink).astype(update.dtype)
    return shorter, False


@dataclass(frozen=True)
class AdaptiveClip:
    """The law by which a clipping bound follows a quantile of the users' norms.

    Attributes
    ----------
    quantile
        Share of users whose updates are to be within the bound (gamma), in (0, 1).
    rate
        Learning rate of the logarithm of the bound (eta_C); the paper's 0.2 unless given.
    bit_noise
        Standard deviation of the noise on the sum of bits (sigma_b), in users; positive.
    lowest, highest
        Between which the bound stays.

    Raises
    ------
    ConfigError
        If a value is out of its range.

    Examples
    --------
    >>> AdaptiveClip(quantile=0.5, bit_noise=1.0).next_bound(1.0, share_within=1.0)
    0.9048374180359595
    """

    quantile: float = 0.5
    rate: float = 0.2
    bit_noise: float = 5.0
    lowest: float = 1e-6
    highest: float = 1e6

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.quantile < 1.0:
            raise ConfigError(f"quantile={self.quantile} of clipping must be in (0, 1)")
        for name in ("rate", "bit_noise"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} of clipping must be positive")
        if not 0.0 < self.lowest <= self.highest < math.inf:
            raise ConfigError(
                f"a clipping bound must stay between 0 < lowest <= highest, not "
                f"{self.lowest} and {self.highest}"
            )

    def next_bound(self, bound: float, share_within: float) -> float:
        """Return the bound for the next round (their equation 2, with a limit on the share).

        Parameters
        ----------
        bound
            The bound of this round.
        share_within
            Noised share of users within it; outside [0, 1] it counts as the nearer end.
        """
        share = min(max(share_within, 0.0), 1.0)
        moved = bound * math.exp(-self.rate * (share - self.quantile))
        return min(max(moved, self.lowest), self.highest)

    def update_noise_multiplier(self, noise_multiplier: float) -> float:
        """Return the noise multiplier of the updates that leaves room for the bits' noise.

        A round costs as much as one release at ``noise_multiplier`` then (their theorem 1):
        ``z_update = (z**-2 - (2 * sigma_b)**-2) ** -1/2``.

        Raises
        ------
        ConfigError
            If the bits' noise alone costs as much.

        Examples
        --------
        >>> round(AdaptiveClip(bit_noise=1.0).update_noise_multiplier(1.0), 6)
        1.154701
        """
        room = noise_multiplier**-2 - (self.bit_noise / BIT_SENSITIVITY) ** -2
        if not room > 0.0:
            raise ConfigError(
                f"bit_noise={self.bit_noise} is too little for a noise multiplier of "
                f"{noise_multiplier}; it must be more than half of it"
            )
        return float(room**-0.5)

    def share_within(
        self, num_within: int, num_users: int, *, expected: float, keystream: Keystream
    ) -> float:
        """Return the noised share of users whose norm was within the bound.

        Parameters
        ----------
        num_within, num_users
            Who took part in this round, of whom the sum of ``bit - 1/2`` is released.
        expected
            Expected number of users per round, which is public where ``num_users`` is not.
        keystream
            Where the noise comes from.
        """
        centred = np.array([num_within - num_users / 2.0])
        released = noised(
            centred,
            noise_multiplier=self.bit_noise / BIT_SENSITIVITY,
            sensitivity=BIT_SENSITIVITY,
            keystream=keystream,
        )
        return float(released[0]) / expected + 0.5


def _norm(update: npt.NDArray[Float]) -> float:
    flat = update.reshape(-1).astype(np.float64, copy=False)
    return math.sqrt(float(np.dot(flat, flat)))
