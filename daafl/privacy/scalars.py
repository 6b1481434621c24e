"""Figures about private examples, such as losses, that may leave a node: clipped and noised.

A training loss, a probe's loss or an accuracy is computed from the examples that are protected, and
no accountant of gradients knows of it. Either it stays where it is, or it leaves through here and
is debited as any other release.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError
from daafl.privacy.gaussian import noised
from daafl.privacy.keystream import Keystream
from daafl.privacy.release import Release


@dataclass(frozen=True)
class PrivateMean:
    """Releases the mean over examples of a value between two limits.

    Values are clipped to the limits and summed around their middle, so that adding or removing an
    example changes the sum by half of their distance at most. The number of examples is public.

    Attributes
    ----------
    lowest, highest
        Limits of one example's value.
    noise_multiplier
        Standard deviation of the noise over the sensitivity.

    Raises
    ------
    ConfigError
        If the limits are not finite and in order, or the noise is not positive.
    """

    lowest: float
    highest: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not -math.inf < self.lowest < self.highest < math.inf:
            raise ConfigError(
                f"a private mean has limits {self.lowest} and {self.highest}; they must be finite, "
                "the first below the second"
            )
        if not 0.0 < self.noise_multiplier < math.inf:
            raise ConfigError(
                f"a private mean has noise_multiplier={self.noise_multiplier}; it must be positive"
            )

    @property
    def release(self) -> Release:
        """What one figure costs."""
        return Release(self.noise_multiplier)

    def of(self, values: npt.NDArray[np.float64], keystream: Keystream) -> float:
        """Return the noised mean of one value per example, within the limits.

        NaN counts as the highest value, as it stands for a loss that diverged.
        """
        middle = (self.lowest + self.highest) / 2.0
        known = np.where(np.isnan(values), self.highest, values)
        total = np.clip(known, self.lowest, self.highest).sum() - middle * len(values)
        released = noised(
            np.array([total]),
            noise_multiplier=self.noise_multiplier,
            sensitivity=(self.highest - self.lowest) / 2.0,
            keystream=keystream,
        )
        mean = float(released[0]) / max(len(values), 1) + middle
        return min(max(mean, self.lowest), self.highest)
