"""The search for the most harmful update, against numbers worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from daafl.errors import ConfigError
from daafl.learning.task import Task
from daafl.robust import RULES, mean
from daafl.simulation.attacks import Adaptive, Attack
from daafl.simulation.attacks.adaptive import KNOWN_RULES, crafted, harm, stand_ins
from daafl.simulation.attacks.imitation import screened_mean

Ask = Callable[..., object]

COLLUDERS = np.array([[0.0, 4.0], [6.0, 2.0]])  # mean (3, 3), deviations (3, 1)


def test_harm_is_measured_along_the_honest_mean() -> None:
    honest = np.tile([2.0, 0.0], (4, 1))
    # One of five sends -3 times the mean: (4 - 3) / 5 of it is left, so four fifths are lost.
    assert harm(mean, honest, np.array([[-6.0, 0.0]])) == pytest.approx(0.8)
    # What is done across the mean does not count, nor does pushing forwards.
    assert harm(mean, honest, np.array([[2.0, 100.0]])) == pytest.approx(0.0)
    assert harm(mean, honest, np.array([[12.0, 0.0]])) == pytest.approx(-1.0)
    assert harm(RULES["median"], honest, np.array([[-6.0, 0.0]])) == pytest.approx(0.0)
    assert harm(lambda *_: np.array([np.nan, 0.0]), honest, honest) == math.inf


def test_crafted_updates() -> None:
    assert np.array_equal(crafted("reversed", 2.0, COLLUDERS, COLLUDERS), [[-6, -6], [-6, -6]])
    assert np.array_equal(crafted("shifted", 1.0, COLLUDERS, COLLUDERS), [[0, 2], [0, 2]])
    # Both are sqrt(10) from the mean, whose length is 3 sqrt(2): a step back by sqrt(5)/3 of it.
    back = math.sqrt(5)
    ball = crafted("in_the_ball", 1.0, COLLUDERS, COLLUDERS[1:])
    assert np.allclose(ball, [[6 - back, 2 - back]])


def test_stand_ins_have_the_attackers_mean_and_covariance() -> None:
    colluders = np.array([[0.0, 4.0], [6.0, 2.0], [3.0, 0.0]])
    drawn = stand_ins(colluders, 20_000, np.random.default_rng(0))
    assert np.allclose(drawn.mean(axis=0), colluders.mean(axis=0), atol=0.1)
    assert np.allclose(np.cov(drawn.T), np.cov(colluders.T), atol=0.3)


def test_a_plain_mean_is_attacked_with_all_there_is(ask: Ask, means: Task) -> None:
    asked = ask(means, Attack(Adaptive("mean", scales=[1.0, 7.0]), nodes=[1, 2]))
    assert np.array_equal(asked.delta(1), [-21, -21])
    assert np.array_equal(asked.delta(2), [-21, -21])
    assert np.array_equal(asked.delta(0), [2, 0])


def test_the_plan_is_the_worst_of_the_grid_for_the_rule_in_force(ask: Ask, means: Task) -> None:
    """A rule that ignores what is longer than 5 leaves only the shorter ones to choose from."""

    def refuses_long(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
        kept = np.linalg.norm(updates, axis=1) <= 5
        return updates[kept].sum(axis=0) / len(updates)

    attack = Attack(Adaptive(refuses_long, scales=[0.5, 1.0, 2.0]), nodes=[1, 2])
    # Reversed: lengths 2.1, 4.2, 8.5; the middle one is the most harmful that still counts.
    assert np.array_equal(ask(means, attack).delta(1), [-3, -3])


@pytest.mark.parametrize("rule", KNOWN_RULES)
def test_every_rule_can_be_attacked_alike_by_all_attackers(
    rule: str, ask: Ask, means: Task
) -> None:
    attack = Attack(Adaptive(rule), nodes=[1, 2])
    first, second = ask(means, attack), ask(means, attack, workers=2)
    for node in (1, 2):
        assert np.isfinite(first.delta(node)).all()
        assert np.array_equal(first.delta(node), second.delta(node))


def test_only_some_coordinates_of_a_large_model_are_tried(ask: Ask) -> None:
    """The plan is made on 1,024 of 9,640 values; what is sent has all of them."""
    from daafl.learning.tasks.digits import Digits

    seen = []

    def spy(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
        seen.append(updates.shape)
        return updates.mean(axis=0)

    attack = Attack(Adaptive(spy, scales=[1.0]), nodes=[0, 3])
    asked = ask(Digits(), attack, num_nodes=6, lr=0.1)
    # Three directions of one scale, planned once for both attackers.
    assert seen == [(6, 1024)] * 3
    assert asked.delta(0).shape == (9640 // 4,)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="rule is 'best', but must be one of mean, median"):
        Adaptive("best")
    with pytest.raises(ConfigError, match="scales"):
        Adaptive(scales=[])


def test_the_imitated_screening_leaves_out_what_stands_out() -> None:
    rng = np.random.default_rng(0)
    honest = np.array([10.0, 0.0, 0.0]) + rng.normal(0, 1, (9, 3))
    updates = np.concatenate([honest, [[-30.0, 0.0, 0.0]]])
    result = screened_mean(updates, np.ones(10))
    assert result[0] > 9
    assert harm(screened_mean, honest, updates[9:]) < 0.1 < harm(mean, honest, updates[9:])
