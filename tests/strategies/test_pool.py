"""Candidates that are drawn without being looked at: the same draws, for a million nodes too."""

from collections.abc import Sequence

import numpy as np
import pytest

from daafl.strategies.pool import Pool
from daafl.strategies.selection import NodeFacts, uniform

MANY = 1_000_000


def facts(nodes: Sequence[int]) -> list[NodeFacts]:
    return [NodeFacts(node, 1000 + node, 8, "") for node in nodes]


class Availability:
    """Nodes that are online, and a count of how many were looked at."""

    def __init__(self, num_nodes: int, share: float) -> None:
        self.here = np.random.default_rng(7).random(num_nodes) < share
        self.num_asked = 0

    def __call__(self, nodes: np.ndarray) -> np.ndarray:
        self.num_asked += len(nodes)
        online: np.ndarray = self.here[nodes]
        return online


@pytest.mark.parametrize("count", [1, 5, 29, 30, 99])
@pytest.mark.parametrize("out", [set(), {0, 1, 2}, {39, 38}, {5, 17, 18, 400, -3}])
@pytest.mark.parametrize("members", [range(40), range(5, 45), tuple(range(0, 80, 2))])
def test_a_draw_is_that_of_all_candidates_in_a_list(
    members: Sequence[int], out: set[int], count: int
) -> None:
    listed = facts([node for node in members if node not in out])
    for seed in range(10):
        expected = uniform(listed, count, np.random.default_rng(seed))
        pool = Pool(members, out, facts)
        assert uniform(pool, count, np.random.default_rng(seed)) == expected


def test_as_a_sequence_it_holds_the_candidates_that_are_online() -> None:
    here = np.array([True, True, False, True, True, False])
    pool = Pool(range(6), {1, 9}, facts, lambda nodes: here[nodes])
    assert [known.node for known in pool] == [0, 3, 4]
    assert (len(pool), pool[-1].address, pool[1:]) == (3, 1004, facts([3, 4]))
    with pytest.raises(IndexError):
        pool[3]
    assert not Pool(range(6), {0, 1, 3, 4}, facts, lambda nodes: here[nodes])
    assert not Pool((), set(), facts)


def test_few_of_a_million_nodes_are_looked_at() -> None:
    online = Availability(MANY, 0.5)
    out = set(range(0, 3000, 3))
    chosen = Pool(range(MANY), out, facts, online).drawn(1000, np.random.default_rng(0))
    assert len(set(chosen)) == 1000 and not out.intersection(chosen)
    assert online.here[chosen].all() and chosen == sorted(chosen)
    assert online.num_asked < 3000  # a thousand, half of which are offline, and then once more


def test_if_few_are_online_they_are_found_all_the_same() -> None:
    online = Availability(MANY, 0.001)
    chosen = Pool(range(MANY), set(), facts, online).drawn(900, np.random.default_rng(0))
    assert len(set(chosen)) == 900 and online.here[chosen].all()
    everyone = Pool(range(MANY), {chosen[0]}, facts, online).drawn(2000, np.random.default_rng(0))
    assert everyone == [node for node in np.flatnonzero(online.here).tolist() if node != chosen[0]]


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_every_node_that_is_online_has_the_same_chance(share: float) -> None:
    online = Availability(60, share)
    counts = np.zeros(60)
    for seed in range(2000):
        counts[Pool(range(60), {3}, facts, online).drawn(4, np.random.default_rng(seed))] += 1
    candidates = online.here & (np.arange(60) != 3)
    assert not counts[~candidates].any()
    chance = 4 / candidates.sum()
    spread = np.sqrt(2000 * chance * (1 - chance))
    assert (np.abs(counts[candidates] - 2000 * chance) < 4.5 * spread).all()
