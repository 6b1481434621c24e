"""Degrees against an independent oracle, the paper's claims and direct simulation."""

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from daafl.errors import ConfigError
from daafl.secure import Policy, chosen, graph


@pytest.mark.parametrize(("n", "rate"), [(100, 0.1), (1000, 0.1), (1000, 0.33), (10_000, 0.05)])
def test_tails_equal_scipys(n: int, rate: float) -> None:
    for drawn in (10, 50):
        for least in range(drawn):
            exact = float(graph.tail(n, int(n * rate), drawn, least))
            assert exact == pytest.approx(
                hypergeom.sf(least - 1, n, int(n * rate), drawn), rel=1e-6
            )


def test_a_tail_by_hand() -> None:
    """Two of four marked, two drawn: both with 1/6, at least one with 5/6."""
    assert float(graph.tail(4, 2, 2, 1)) == pytest.approx(5 / 6)


@pytest.mark.parametrize("server", ["curious", "malicious"])
@pytest.mark.parametrize("n", [50, 100, 300, 1000])
def test_the_numbers_meet_the_policy(n: int, server: str) -> None:
    policy = Policy(0.1, 0.1, server=server)  # type: ignore[arg-type]
    found = chosen(n, policy)
    corrupt, lost = policy.counts(n)
    half = found.degree // 2
    known = n * hypergeom.sf(found.threshold - 1, n - 1, corrupt, found.degree)
    fails = n * hypergeom.sf(found.degree - found.threshold, n - 1, lost, found.degree)
    split = (
        n * hypergeom.sf(half - 1, n, corrupt + lost, half)
        if server == "curious"
        else n * hypergeom.sf(half - found.max_gap - 1, n, corrupt, half)
    )
    assert known + split <= 2**-40
    assert fails <= 2**-20
    assert found.threshold > found.degree / 2
    assert 2 * found.quorum - n > corrupt


@pytest.mark.parametrize(
    ("n", "corrupt", "lost", "degree", "threshold"),
    [
        (1000, 0.1, 0.1, 46, 26),
        (1000, 0.2, 0.1, 68, 43),
        (1000, 0.33, 0.1, 102, 72),
        (10_000, 0.05, 0.05, 34, 20),
        (10_000, 0.1, 0.1, 54, 30),
        (10_000, 0.2, 0.1, 80, 51),
        (10_000, 0.33, 0.1, 122, 85),
        (1000, 0.05, 0.05, 30, 17),
        (100, 0.1, 0.1, 32, 17),
        (100, 0.2, 0.1, 42, 22),
    ],
)
def test_no_smaller_degree_meets_the_policy(
    n: int, corrupt: float, lost: float, degree: int, threshold: int
) -> None:
    """The whole search again with scipy's tails, for a curious server."""
    c, d = round(corrupt * n), round(lost * n)

    def meets(k: int, t: int) -> bool:
        known = n * hypergeom.sf(t - 1, n - 1, c, k)
        split = n * hypergeom.sf(k // 2 - 1, n, c + d, k // 2)
        fails = n * hypergeom.sf(k - t, n - 1, d, k)
        return bool(known + split <= 2**-40 and fails <= 2**-20)

    found = chosen(n, Policy(corrupt, lost))
    assert (found.degree, found.threshold) == (degree, threshold)
    assert meets(degree, threshold)
    assert not meets(degree, threshold - 1) or 2 * (threshold - 1) <= degree
    assert not any(meets(degree - 2, t) for t in range(degree // 2, degree - 1))


def test_hypergeometric_tails_are_below_the_papers_chernoff_bound() -> None:
    """Bell et al. 2020 bound a node's corrupt neighbours by exp(-2 k (t/k - rate)^2), Hoeffding."""
    for n in (1000, 10_000):
        found = chosen(n, Policy(0.2, 0.1))
        gap = found.threshold / found.degree - 0.2
        bound = math.exp(-2 * found.degree * gap**2)
        assert float(graph.tail(n - 1, n // 5, found.degree, found.threshold)) <= bound


def test_degrees_grow_like_a_logarithm() -> None:
    degrees = [chosen(n, Policy()).degree for n in (1000, 10_000, 100_000)]
    assert degrees[0] == 46
    assert degrees[2] - degrees[1] <= 16
    assert degrees[1] - degrees[0] <= 16


def test_grinding_bits_cost_degree() -> None:
    assert chosen(1000, Policy(grinding_bits=40)).degree > chosen(1000, Policy()).degree


def test_a_malicious_server_is_taken_to_try_many_rings() -> None:
    server = Policy(server="malicious")
    assert chosen(1000, server) == chosen(1000, Policy(server="malicious", grinding_bits=40))
    assert chosen(1000, server).degree > chosen(1000, Policy(grinding_bits=40)).degree
    assert Policy().tries_bits == 0
    assert Policy(server="malicious", grinding_bits=0).tries_bits == 0
    for bits in (-1, 257):
        with pytest.raises(ConfigError, match="grinding_bits"):
            Policy(grinding_bits=bits)


@pytest.mark.parametrize("n", range(3, 60))
def test_two_quorums_share_an_honest_node_in_every_group(n: int) -> None:
    policy = Policy(0.2, 0.2)
    try:
        found = chosen(n, policy)
    except ConfigError:
        assert n < 10
        return
    corrupt, lost = policy.counts(n)
    assert 2 * found.quorum - n > corrupt
    assert found.quorum <= found.min_survivors <= n - lost
    assert corrupt < found.threshold <= found.degree


def test_small_groups_are_complete_or_refused() -> None:
    found = chosen(10, Policy(0.33, 0.1))
    assert found.is_complete
    assert "outside the sum never" in found.statement(Policy(0.33, 0.1))
    with pytest.raises(ConfigError, match=r"larger|survivors"):
        chosen(3, Policy())
    with pytest.raises(ConfigError):
        chosen(100, Policy(0.49, 0.49))


def test_the_statement_says_the_probability() -> None:
    text = chosen(1000, Policy()).statement(Policy())
    assert "46 neighbours and 26 shares" in text
    assert "2^-40.8" in text


def test_the_ring_follows_from_the_seed_and_is_regular() -> None:
    nodes = list(range(100, 200))
    order = graph.ring(b"s" * 32, nodes)
    assert order == graph.ring(b"s" * 32, nodes[::-1])
    assert order != graph.ring(b"t" * 32, nodes)
    around = {node: graph.neighbours(order, node, 8) for node in nodes}
    assert all(len(near) == 8 and node not in near for node, near in around.items())
    assert all(node in around[other] for node in nodes for other in around[node])


def test_the_ring_is_uniform() -> None:
    """First place of five nodes over 2,000 seeds: chi-square of 4 degrees below its 99.9 %."""
    firsts = [graph.ring(i.to_bytes(32, "big"), range(5))[0] for i in range(2000)]
    counts = np.bincount(firsts, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 18.47


def test_the_widest_gap_wraps_around() -> None:
    order = tuple(range(10))
    assert graph.widest_gap(order, frozenset({2, 3, 4, 5, 6, 7}), 4) == 4
    assert graph.widest_gap(order, frozenset(range(10)) - {0, 9, 5}, 3) == 2


def test_simulated_failures_stay_below_the_bound() -> None:
    """A loose policy, 2^-3 each, with corrupt and lost nodes put on the ring at random."""
    policy = Policy(0.2, 0.2, privacy_bits=3, correctness_bits=3)
    n, rng, bad = 60, np.random.default_rng(0), 0
    found = chosen(n, policy)
    corrupt, lost = policy.counts(n)
    trials = 400
    order = tuple(range(n))
    around = np.array([sorted(graph.neighbours(order, i, found.degree)) for i in range(n)])
    for _ in range(trials):
        marks = rng.permutation(n)
        is_corrupt, is_gone = marks < corrupt, marks < corrupt + lost
        known = is_corrupt[around].sum(1).max() >= found.threshold
        present = frozenset(np.flatnonzero(~is_gone).tolist())
        bad += known or graph.widest_gap(order, present, found.degree // 2) == found.degree // 2
    assert bad / trials <= 2**found.privacy_failure + 3 * math.sqrt(2**-3 / trials)
