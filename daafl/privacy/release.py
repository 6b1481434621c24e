"""What a differentially private mechanism let out: the unit that accountants count."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, Self, TypeAlias

from daafl.errors import ConfigError

Sampling: TypeAlias = Literal["poisson", "fixed_size", "shuffled", "all"]
"""How those who take part in a step are chosen; only ``poisson`` earns subsampling credit."""

SAMPLINGS: Final[tuple[Sampling, ...]] = ("poisson", "fixed_size", "shuffled", "all")

MAX_STEPS: Final = 1 << 40


@dataclass(frozen=True)
class Release:
    """Steps of the Gaussian mechanism on samples of the protected units.

    The unit is what one is added or removed: an example of a node under sample-level privacy, a
    user with all their data under user-level privacy.

    Attributes
    ----------
    noise_multiplier
        Standard deviation of the noise over the sensitivity to one unit; 0 stands for none.
    steps
        How often.
    rate
        Probability of a unit to be in a step, in (0, 1].
    sampling
        How the sample is drawn. Amplification by subsampling (Mironov et al. 2019) holds for
        independent decisions; a cohort of fixed size and a shuffled epoch count as if everybody
        took part in every step.

    Raises
    ------
    ConfigError
        If a value is out of its range.

    Examples
    --------
    >>> Release(1.1, steps=100, rate=0.01, sampling="shuffled").credited_rate
    1.0
    """

    noise_multiplier: float
    steps: int = 1
    rate: float = 1.0
    sampling: Sampling = "all"

    def __post_init__(self) -> None:
        """Check the ranges, since a ledger or a setting may hold anything."""
        if not 0.0 <= self.noise_multiplier < math.inf:
            raise ConfigError(
                f"noise_multiplier={self.noise_multiplier} must be finite and at least 0"
            )
        if not 0 <= self.steps <= MAX_STEPS:
            raise ConfigError(f"steps={self.steps} of a release must be in [0, {MAX_STEPS}]")
        if not 0.0 < self.rate <= 1.0:
            raise ConfigError(f"a sampling rate of {self.rate} must be in (0, 1]")
        if self.sampling not in SAMPLINGS:
            raise ConfigError(
                f"sampling={self.sampling!r} is not known; it must be one of {', '.join(SAMPLINGS)}"
            )

    @property
    def credited_rate(self) -> float:
        """Sampling rate that an accountant may count with."""
        return self.rate if self.sampling == "poisson" else 1.0

    def times(self, steps: int) -> Self:
        """Return the same mechanism, done ``steps`` times."""
        return replace(self, steps=steps)
