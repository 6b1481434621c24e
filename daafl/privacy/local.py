"""Local differential privacy: a node randomises its update before anybody else sees it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError
from daafl.privacy.clipping import clipped
from daafl.privacy.gaussian import Doubles, noised
from daafl.privacy.keystream import Keystream
from daafl.privacy.release import Release


@dataclass(frozen=True)
class LocalRandomiser:
    """The Gaussian mechanism on one node's whole update.

    Whatever a node holds, its message is nearly as likely as under any other data: neighbours are
    any two updates of norm at most ``bound``, which lie up to ``2 * bound`` apart, and the noise is
    scaled to that. There is no credit for sampling: the server sees who answered.

    Attributes
    ----------
    bound
        Euclidean norm that updates are clipped to.
    noise_multiplier
        Standard deviation of the noise over ``2 * bound``.

    Raises
    ------
    ConfigError
        If a value is not positive.
    """

    bound: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("bound", "noise_multiplier"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}={getattr(self, name)} of local privacy must be positive")

    @property
    def release(self) -> Release:
        """What one message costs the node."""
        return Release(self.noise_multiplier)

    def randomised(self, update: npt.NDArray[np.floating[Any]], keystream: Keystream) -> Doubles:
        """Return the clipped update with noise.

        Raises
        ------
        DataError
            If the update holds NaN or infinity.
        """
        short, _ = clipped(np.asarray(update, np.float64), self.bound)
        return noised(
            short,
            noise_multiplier=self.noise_multiplier,
            sensitivity=2.0 * self.bound,
            keystream=keystream,
        )
