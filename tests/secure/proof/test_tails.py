"""No vector's projections have a fatter lower tail than Gaussian ones: the one-variable checks.

For a unit vector y and Q the product with random signs, E exp(-h Q**2) is the mean over a normal N
of the product of cos(sqrt(2 h) y_j N). `docs/norm-proof.md` bounds it by functions of one variable;
here they are compared on a grid with the Gaussian value (1 + 2 h)**-0.5.
"""

import itertools
import math

import numpy as np
import pytest

NORMAL = np.linspace(0, 14, 14_001)
DENSITY = 2 * np.exp(-(NORMAL**2) / 2) / math.sqrt(2 * math.pi) * (NORMAL[1] - NORMAL[0])
DENSITY[0] /= 2

H = pytest.mark.parametrize("h", [0.1, 0.3, 0.5, 0.75, 1.0])


def gaussian(h: float) -> float:
    return (1 + 2 * h) ** -0.5


def folded(h: float, exponent: float, square: float) -> float:
    """Mean of abs(cos(sqrt(2 h square) N)) ** (exponent / square)."""
    return float(
        DENSITY @ np.abs(np.cos(math.sqrt(2 * h * square) * NORMAL)) ** (exponent / square)
    )


def test_the_integral_by_hand() -> None:
    """Over squares of cosines: (1 + exp(-2 h)) / 2 at a square of 1/2."""
    assert folded(0.7, 1, 0.5) == pytest.approx((1 + math.exp(-1.4)) / 2, abs=1e-9)


@H
def test_no_large_coordinate(h: float) -> None:
    """All squares at most 1/2."""
    assert max(folded(h, 1, square) for square in np.linspace(0.005, 0.5, 67)) < gaussian(h)


@H
def test_one_large_coordinate(h: float) -> None:
    """The largest square is u > 1/2: one of the two bounds is enough for every u."""
    for u in np.linspace(0.5, 1, 51):
        rest = 1 - u
        w = np.linspace(0, 12, 6001)
        given = float(np.max(np.exp(-h * (u + w)) * np.cosh(2 * h * np.sqrt(u * w))))
        if given < gaussian(h):
            continue
        others = max(folded(h, 2 * rest, v) for v in np.linspace(0.01 * rest, rest, 25))
        others = max(others, (1 + 4 * h * rest) ** -0.5)  # the limit of small squares
        assert math.sqrt((1 + math.exp(-4 * h * u)) / 2 * others) < gaussian(h)


@H
@pytest.mark.parametrize("seed", range(4))
def test_real_vectors(h: float, seed: int) -> None:
    """All signs of ten coordinates, of very different sizes for higher seeds."""
    vector = np.random.default_rng(seed).normal(size=10) ** (2 * seed + 1)
    vector /= np.linalg.norm(vector)
    signs = np.array(list(itertools.product((1, -1), repeat=9)))
    squares = (vector[0] + signs @ vector[1:]) ** 2
    assert np.exp(-h * squares).mean() < gaussian(h)
