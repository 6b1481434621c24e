"""Rényi differential privacy of the sampled Gaussian mechanism.

Mironov, Talwar and Zhang (2019), *Rényi Differential Privacy of the Sampled Gaussian Mechanism*:
with ``L(x) = 1 - q + q * exp((2x - 1) / (2 z^2))``, the ratio of densities at ``x``, the mechanism
has at order ``a`` the divergence ``log(E[L^a]) / (a - 1)`` over ``x ~ N(0, z^2)`` (section 3.3),
for the removal and the addition of a unit alike (theorem 5). The paper sums series; here the
expectation is the trapezoidal rule on a fine grid, which converges exponentially for such
integrands, is the same for whole and fractional orders, and never subtracts.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from daafl.privacy.release import Release

Curve: TypeAlias = npt.NDArray[np.float64]
"""Divergence at each of `ORDERS`."""

ORDERS: Final = (
    *(1.0 + step / 10 for step in range(1, 100)),
    *map(float, range(11, 64)),
    *(64.0 * 2 ** (step / 8) // 1 for step in range(0, 41)),
)
"""Orders at which divergences are kept; the best one is chosen at the end."""

_REACH: Final = 12.0
"""Standard deviations beyond which integrands are left out: a share of ``1e-32``."""

_MOST_POINTS: Final = 200_000


@lru_cache(maxsize=1024)
def curve(noise_multiplier: float, rate: float) -> Curve:
    """Return the divergences of one step, at `ORDERS`; infinite where they are not computed."""
    orders = np.array(ORDERS)
    if noise_multiplier == 0.0:
        return np.full(len(orders), math.inf)
    if rate == 1.0:
        return orders / (2.0 * noise_multiplier**2)
    return np.array([_divergence(noise_multiplier, rate, order) for order in ORDERS])


def total(releases: Iterable[Release]) -> Curve:
    """Return the divergences of all releases together: divergences add up."""
    sums = np.zeros(len(ORDERS))
    for release in releases:
        if release.steps:
            sums = sums + release.steps * curve(release.noise_multiplier, release.credited_rate)
    return sums


def epsilon(divergences: Curve, delta: float) -> float:
    """Return the epsilon that divergences give at ``delta``.

    Balle et al. (2020), *Hypothesis Testing Interpretations and Rényi Differential Privacy*,
    theorem 21, at the best order.
    """
    if not divergences.any():
        return 0.0
    orders = np.array(ORDERS)
    bounds = (
        divergences + np.log1p(-1.0 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1.0)
    )
    return max(0.0, float(bounds.min()))


def _divergence(noise_multiplier: float, rate: float, order: float) -> float:
    """Return the divergence at one order, by quadrature."""
    z = noise_multiplier
    # The nearest zero of L lies pi * z**2 off the real line; the step resolves it and the density.
    step = min(z / 8.0, z * z / 2.0)
    low, high = -_REACH * z, order + _REACH * z
    points = math.ceil((high - low) / step)
    if points > _MOST_POINTS:
        return math.inf
    x: npt.NDArray[Any] = low + step * np.arange(points + 1)
    log_ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2.0 * x - 1.0) / (2.0 * z * z))
    log_density = -0.5 * (x / z) ** 2 - math.log(z * math.sqrt(2.0 * math.pi))
    log_moment = float(logsumexp(order * log_ratio + log_density)) + math.log(step)
    return max(0.0, log_moment) / (order - 1.0)
