"""Who attacks, and when."""

import pytest

from daafl.errors import ConfigError
from daafl.simulation.attacks import Attack, SignFlip, Sleeper


@pytest.mark.parametrize(
    ("share", "num_nodes", "count"), [(0.2, 30, 6), (0.3, 30, 9), (0.25, 30, 7), (0.1, 4, 1)]
)
def test_the_share_is_rounded_down_to_at_least_one_node(
    share: float, num_nodes: int, count: int
) -> None:
    attackers = Attack(SignFlip(), share=share).attackers(num_nodes)
    assert len(attackers) == count
    assert list(attackers) == sorted(set(attackers))
    assert set(attackers) <= set(range(num_nodes))


def test_the_draw_depends_on_the_seed_alone() -> None:
    draws = [Attack(SignFlip(), seed=seed).attackers(30) for seed in range(20)]
    assert draws == [Attack(SignFlip(3.0), start=9, seed=seed).attackers(30) for seed in range(20)]
    assert len(set(draws)) == 20


def test_every_node_is_drawn_equally_often() -> None:
    counts = [0] * 10
    for seed in range(1000):
        for node in Attack(SignFlip(), share=0.2, seed=seed).attackers(10):
            counts[node] += 1
    # Binomial with mean 200 and deviation sqrt(1000 * .2 * .8) = 12.6; five deviations either way.
    assert all(abs(count - 200) < 63 for count in counts)


def test_nodes_can_be_named() -> None:
    attack = Attack(SignFlip(), nodes=[7, 3, 3])
    assert attack.attackers(8) == (3, 7)
    assert hash(attack) == hash(Attack(SignFlip(), nodes=(3, 7)))
    with pytest.raises(ConfigError, match="names node 7, but nodes are 0 to 6"):
        attack.attackers(7)


def test_the_first_and_the_last_round_are_part_of_the_attack() -> None:
    attack = Attack(SignFlip(), start=3, stop=5)
    assert [r for r in range(1, 9) if attack.is_active(r)] == [3, 4, 5]
    assert Attack(SignFlip()).is_active(10**6)


def test_a_sleeper_is_honest_before_each_strike() -> None:
    attack = Attack(Sleeper(SignFlip(), honest_rounds=2, hostile_rounds=1), start=4, stop=11)
    # Honest 4 5, strikes 6, honest 7 8, strikes 9, honest 10 11; round 12 comes after the end.
    assert [r for r in range(1, 15) if attack.is_active(r)] == [6, 9]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"share": 0.0}, "attack.share is 0.0"),
        ({"share": 1.0}, "attack.share is 1.0"),
        ({"start": 0}, "attack.start is 0"),
        ({"start": 5, "stop": 4}, "attack.stop is 4, but must not come before"),
        ({"seed": -1}, "attack.seed is -1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Attack(SignFlip(), **values)
