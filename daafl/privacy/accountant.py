"""How much privacy releases cost together, and how much noise a budget asks for.

Two accountants for the sampled Gaussian mechanism. ``rdp`` adds up Rényi divergences: fast and up
to a tenth too high. ``prv`` composes distributions of the privacy loss: tight, to 1 %. Both are
upper bounds, both count units that are added or removed, and both give subsampling credit only
where a `Release` says that sampling was Poisson. Whether epsilon is of an example or of a user
depends on what the releases' unit is; the mathematics is the same.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal, TypeAlias

from daafl.errors import ConfigError
from daafl.privacy import privacy_loss, renyi
from daafl.privacy.release import Release, Sampling

Accounting: TypeAlias = Literal["prv", "rdp"]

PRECISION: Final = 0.003
"""Error that ``prv`` may make, as a fraction of epsilon."""

MOST_EXACT: Final = 300.0
"""Epsilon by ``rdp`` beyond which ``prv`` is not asked, since numbers overflow there."""

HIGHEST_NOISE: Final = 1e6
"""Largest noise multiplier that calibration tries."""

_TOLERANCE: Final = 1e-3


def merged(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return releases with equal mechanisms as one, in the order of first appearance.

    Examples
    --------
    >>> merged([Release(1.0), Release(2.0), Release(1.0, steps=2)])[0].steps
    3
    """
    steps: dict[tuple[float, float], int] = defaultdict(int)
    for release in releases:
        steps[release.noise_multiplier, release.credited_rate] += release.steps
    return tuple(
        Release(noise, count, rate, "poisson") for (noise, rate), count in steps.items() if count
    )


def epsilon(releases: Iterable[Release], delta: float, accounting: Accounting = "prv") -> float:
    """Return the epsilon that releases cost together at ``delta``; infinite without noise.

    Raises
    ------
    ConfigError
        If ``delta`` is not in (0, 1) or there is no such accountant.

    Examples
    --------
    >>> run = [Release(1.0, steps=1000, rate=0.01, sampling="poisson")]
    >>> round(epsilon(run, 1e-5, "rdp"), 2), round(epsilon(run, 1e-5, "prv"), 2)
    (2.1, 1.83)
    """
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"delta={delta} must be in (0, 1)")
    if accounting not in ("prv", "rdp"):
        raise ConfigError(f"there is no accountant {accounting!r}; use prv or rdp")
    together = merged(releases)
    if not together:
        return 0.0
    bound = renyi.epsilon(renyi.total(together), delta)
    if accounting == "rdp" or not 0.0 < bound < MOST_EXACT:
        return bound
    tight = privacy_loss.epsilon(together, delta, error=PRECISION * bound)
    if 0.0 < tight < bound / 2.0:
        # The bound was too loose a measure of what error is small; time grows with the precision.
        error = PRECISION * max(tight, bound / 8.0)
        tight = privacy_loss.epsilon(together, delta, error=error)
    # Both are upper bounds, so the smaller one is.
    return min(bound, tight)


def noise_multiplier_for(
    target: float,
    delta: float,
    *,
    steps: int,
    rate: float = 1.0,
    sampling: Sampling = "all",
    accounting: Accounting = "prv",
    spent: Iterable[Release] = (),
) -> float:
    """Return the least noise multiplier, to 0.1 %, with which ``steps`` stay within ``target``.

    Parameters
    ----------
    target
        Epsilon that must not be exceeded.
    delta
        Its delta.
    steps, rate, sampling
        What is going to be released; see `Release`.
    accounting
        Accountant that will be asked.
    spent
        What was released before, which counts against ``target``.

    Raises
    ------
    ConfigError
        If no noise is enough.
    """
    before = merged(spent)
    if not 0.0 < target < math.inf:
        raise ConfigError(f"a target epsilon must be positive and finite, not {target}")

    def cost(noise: float, by: Accounting) -> float:
        return epsilon((*before, Release(noise, steps, rate, sampling)), delta, by)

    high = 1.0
    while cost(high, "rdp") > target:
        high *= 2.0
        if high > HIGHEST_NOISE:
            raise ConfigError(
                f"no noise keeps {steps} steps within epsilon {target} at delta {delta}; allow "
                "fewer steps, a smaller sampling rate or a larger epsilon"
            )
    low = high / 2.0
    while low > 1e-3 and cost(low, "rdp") <= target:
        high, low = low, low / 2.0
    if accounting == "rdp":
        return _least(partial(cost, by="rdp"), target, low, high, _TOLERANCE)
    # The tight accountant is never above the other one, so less noise is enough.
    high = low = _least(partial(cost, by="rdp"), target, low, high, 20 * _TOLERANCE)
    while low > 1e-3 and cost(low, accounting) <= target:
        high, low = low, low / 1.08
    return _least(partial(cost, by=accounting), target, low, high, _TOLERANCE)


def _least(
    cost: Callable[[float], float], target: float, low: float, high: float, tolerance: float
) -> float:
    """Return the least noise in (low, high], up to a share, that costs at most ``target``.

    Costs fall with noise, nearly as a straight line between logarithms, so the next noise to try
    is where the line through both ends meets the target: false position (the Illinois variant).
    """
    excess_low, excess_high = _excess(cost(low), target), _excess(cost(high), target)
    while high / low > 1.0 + tolerance:
        share = excess_low / (excess_low - excess_high) if math.isfinite(excess_low) else 0.5
        # A little more noise than that, so that the upper end is what closes in.
        tried = low * (high / low) ** min(share * 1.02, 1.0)
        tried = min(max(tried, low * (1.0 + tolerance / 2)), high / (1.0 + tolerance / 2))
        excess = _excess(cost(tried), target)
        if excess <= 0.0:
            high, excess_high, excess_low = tried, excess, excess_low / 2.0
        else:
            low, excess_low, excess_high = tried, excess, excess_high / 2.0
    return high


def _excess(cost: float, target: float) -> float:
    """Return how far a cost is above its target, as a logarithm; at most 0 if it is not."""
    return math.log(max(cost, 1e-300) / target) if cost < math.inf else math.inf
