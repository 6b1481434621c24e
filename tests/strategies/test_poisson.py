"""Independent coins: their statistics, and what makes them independent."""

import math

import numpy as np
import pytest

from daafl.errors import ConfigError
from daafl.strategies.poisson import PoissonSelection, poisson
from daafl.strategies.selection import NodeFacts

NODES = [NodeFacts(node, 100 + node, 8, "") for node in range(40)]
RNG = np.random.default_rng(0)


def draws(count: int, rate: float, rng: str = "secret") -> np.ndarray:
    """Return who was drawn in each of ``count`` draws, shape ``[count, nodes]``."""
    select, generator = poisson(rate, rng=rng), np.random.default_rng(1)
    drawn = np.zeros((count, len(NODES)), bool)
    for row in drawn:
        row[select(NODES, 5, generator)] = True
    return drawn


@pytest.mark.parametrize("rng", ["secret", "seeded"])
def test_every_node_comes_with_the_probability_it_should(rng: str) -> None:
    # 4,000 coins of 0.3 per node: standard error sqrt(.3 * .7 / 4000) = .00725; six of them.
    shares = draws(4000, 0.3, rng).mean(axis=0)
    assert np.abs(shares - 0.3).max() < 6 * math.sqrt(0.3 * 0.7 / 4000)


def test_sizes_vary_as_a_binomial_and_not_with_the_count_asked_for() -> None:
    # Variance 40 * .3 * .7 = 8.4; that of a sample variance of 4,000 is about 2 * 8.4**2 / 4000.
    sizes = draws(4000, 0.3).sum(axis=1)
    assert sizes.mean() == pytest.approx(12.0, abs=6 * math.sqrt(8.4 / 4000))
    assert sizes.var() == pytest.approx(8.4, abs=6 * 8.4 * math.sqrt(2 / 4000))


def test_two_nodes_come_together_as_often_as_chance_has_it() -> None:
    # Without replacement from a fixed size they would be negatively correlated: .3 * 11 / 39.
    together = draws(4000, 0.3)
    pairs = (together[:, ::2] & together[:, 1::2]).mean()
    # 20 disjoint pairs, 80,000 coins of probability .09.
    assert pairs == pytest.approx(0.09, abs=6 * math.sqrt(0.09 * 0.91 / 80_000))


def test_nobody_may_be_drawn_and_at_rate_one_everybody_is() -> None:
    assert not draws(50, 1e-9).any()
    assert draws(3, 1.0).all()
    assert poisson(0.5)([], 3, RNG) == []


def test_seeded_coins_are_a_function_of_the_arguments_and_secret_ones_are_not() -> None:
    def drawn(select: PoissonSelection) -> list[list[int]]:
        return [select(NODES, 5, np.random.default_rng(seed)) for seed in range(20)]

    assert drawn(poisson(0.5, rng="seeded")) == drawn(poisson(0.5, rng="seeded"))
    assert drawn(poisson(0.5)) != drawn(poisson(0.5))  # equal with probability 2**-800


def test_nodes_are_drawn_in_ascending_order_of_their_ids() -> None:
    shuffled = [NODES[index] for index in np.random.default_rng(2).permutation(len(NODES))]
    chosen = poisson(0.5)(shuffled, 5, RNG)
    assert chosen == sorted(set(chosen))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        poisson(rate)


def test_an_unknown_source_of_coins_is_refused() -> None:
    with pytest.raises(ConfigError, match="rng"):
        poisson(0.5, rng="clock")
