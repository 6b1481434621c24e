"""Tight epsilon by composing distributions of the privacy loss numerically.

Gopi, Lee and Wutschitz (2021), *Numerical Composition of Differential Privacy*: the privacy loss of
one step is a random variable (a PRV); that of a run is a sum of independent ones. Each is cut off
at ``+-L``, put on a grid of width ``h`` without changing its mean (algorithm 2) and the sum is had
from fast Fourier transforms (algorithm 1). Theorem 5.5 bounds what that changes: with ``h = error /
sqrt(k / 2 * log(12 / slack))`` for ``k`` steps, epsilon is off by at most ``error`` and delta by at
most ``slack``, if the sum and each step leave ``+-(L - 2)`` with probability at most ``slack / 4``
and ``slack / (8 k)``. Here those probabilities are bounded by Chernoff's method from the Rényi
divergences. Both adding and removing a unit are composed; the larger epsilon counts.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr

from daafl.privacy import renyi
from daafl.privacy.release import Release

Doubles: TypeAlias = npt.NDArray[np.float64]
Change: TypeAlias = Literal["add", "remove"]

_MOST_POINTS: Final = 1 << 22
_QUADRATURE: Final = np.polynomial.legendre.leggauss(64)
_PANELS: Final = 200


def epsilon(releases: Sequence[Release], delta: float, *, error: float) -> float:
    """Return an upper bound of the epsilon of all releases together at ``delta``.

    Parameters
    ----------
    releases
        Of positive noise and at least one step each.
    delta
        In (0, 1).
    error
        How much more than the truth the bound may be, about; made coarser if the grid would need
        more than four million points.
    """
    slack = delta / 1000.0
    num_steps = sum(release.steps for release in releases)
    reach = _reach(releases, slack / 4.0) + 2.0
    for release in releases:
        single = _reach([release.times(1)], slack / (8.0 * num_steps)) + 2.0
        reach = max(reach, single)
    width = error / math.sqrt(num_steps / 2.0 * math.log(12.0 / slack))
    if 2.0 * reach / width > _MOST_POINTS:
        error *= 2.0 * reach / width / _MOST_POINTS
        width = 2.0 * reach / _MOST_POINTS
    size = next_fast_len(2 * math.ceil(reach / width) + 2, real=True)
    changes: tuple[Change, Change] = ("add", "remove")
    return max(_bound(releases, change, width, size, delta - slack) for change in changes) + error


def _bound(
    releases: Sequence[Release], change: Change, width: float, size: int, delta: float
) -> float:
    """Return the epsilon at which the composed losses meet ``delta``."""
    losses: Doubles = width * (np.arange(size, dtype=np.float64) - size // 2)
    spectrum: npt.NDArray[np.complex128] = np.ones(size // 2 + 1, np.complex128)
    shift = 0.0
    for release in releases:
        masses, moved = _discretised(release, change, losses, width)
        # Index 0 of the transform is the loss 0, so that sums of losses are sums of indices.
        spectrum = spectrum * rfft(np.roll(masses, -(size // 2))) ** release.steps
        shift += moved * release.steps
    masses = np.roll(irfft(spectrum, size), size // 2)
    # The mean-keeping shifts add up beyond the grid; those of whole cells wrap around with it.
    return _smallest_epsilon(np.maximum(masses, 0.0), losses + shift, delta)


def _discretised(
    release: Release, change: Change, losses: Doubles, width: float
) -> tuple[Doubles, float]:
    """Return the masses of a step's loss at the grid points, and the shift that keeps its mean."""
    edges = np.append(losses - width / 2.0, losses[-1] + width / 2.0)
    cumulated = _cumulative(release, change, edges)
    inside = cumulated[-1] - cumulated[0]
    masses = np.diff(cumulated) / inside
    mean = _mean(release, change, edges[0], edges[-1]) / inside
    return masses, mean - float(masses @ losses)


def _cumulative(release: Release, change: Change, losses: Doubles) -> Doubles:
    """Return the probability of a loss of at most each of ``losses`` (their propositions B.1, B.4).

    Removing: log(P/Q) under ``P = (1 - q) N(0, z^2) + q N(1, z^2)``, ``Q = N(0, z^2)``; adding:
    log(Q/P) under ``Q``. The loss grows with the output when removing, and falls when adding.
    """
    z, q = release.noise_multiplier, release.credited_rate
    if change == "add":
        below: Doubles = ndtr(-_output(release, -losses) / z)
        return below
    x = _output(release, losses)
    below = (1.0 - q) * ndtr(x / z) + q * ndtr((x - 1.0) / z)
    return below


def _output(release: Release, losses: Doubles) -> Doubles:
    """Return the output at which log(P/Q) is each of ``losses``; -inf below its infimum."""
    z, q = release.noise_multiplier, release.credited_rate
    with np.errstate(divide="ignore", invalid="ignore"):
        # For large losses, log(exp(loss) - 1 + q) without overflow.
        part = losses + np.log1p((q - 1.0) * np.exp(-np.maximum(losses, -700.0)))
    output: Doubles = np.where(np.isnan(part), -np.inf, z * z * (part - math.log(q)) + 0.5)
    return output


def _mean(release: Release, change: Change, low: float, high: float) -> float:
    """Return the integral of the loss over its values in ``[low, high]``, over the output."""
    z, q = release.noise_multiplier, release.credited_rate
    bounds = np.array([low, high]) if change == "remove" else np.array([-high, -low])
    start, stop = np.clip(_output(release, bounds), -40.0 * z, 1.0 + 40.0 * z)
    panels = np.linspace(start, stop, _PANELS + 1)
    half = (panels[1:] - panels[:-1])[:, None] / 2.0
    x: npt.NDArray[Any] = panels[:-1, None] + half * (1.0 + _QUADRATURE[0])
    log_ratio = np.logaddexp(
        math.log1p(-q) if q < 1.0 else -math.inf, math.log(q) + (2.0 * x - 1.0) / (2.0 * z * z)
    )
    density = np.exp(-0.5 * (x / z) ** 2) / (z * math.sqrt(2.0 * math.pi))
    if change == "remove":
        shifted = np.exp(-0.5 * ((x - 1.0) / z) ** 2) / (z * math.sqrt(2.0 * math.pi))
        integrand = log_ratio * ((1.0 - q) * density + q * shifted)
    else:
        integrand = -log_ratio * density
    return float((integrand * _QUADRATURE[1] * half).sum())


def _smallest_epsilon(masses: Doubles, losses: Doubles, delta: float) -> float:
    """Return the smallest epsilon with ``E[(1 - exp(epsilon - loss))_+] <= delta``, at least 0."""
    above = np.cumsum(masses[::-1])[::-1]
    # exp(-loss) of losses far below 0 overflows nothing that is used: epsilon is not negative.
    weights = masses * np.exp(-np.maximum(losses, 0.0))
    weighted = np.cumsum(weights[::-1])[::-1]
    first = int(np.searchsorted(losses, 0.0))
    spent = above[first:] - np.exp(losses[first:]) * weighted[first:]
    index = int(np.argmax(spent <= delta))
    if spent[index] > delta:
        return math.inf
    if index == 0 and above[first] - weighted[first] <= delta:
        return 0.0
    # Between two grid points the same losses lie above, so delta is linear in exp(epsilon).
    return math.log((above[first + index] - delta) / weighted[first + index])


def _reach(releases: Sequence[Release], probability: float) -> float:
    """Return a bound that the sum of losses leaves, either way, with at most ``probability``.

    Markov's inequality on ``exp((a - 1) loss)`` and ``exp(-a loss)``, whose expectations both are
    ``exp((a - 1) divergence)``, half of the probability each.
    """
    divergences = renyi.total(releases)
    orders = np.array(renyi.ORDERS)
    usable = np.isfinite(divergences)
    orders, divergences = orders[usable], divergences[usable]
    margin = math.log(2.0 / probability)
    upper = float((divergences + margin / (orders - 1.0)).min())
    lower = float((((orders - 1.0) * divergences + margin) / orders).min())
    return max(upper, lower)
