"""The updates that attackers send, against numbers worked out by hand.

Four nodes; their honest updates from the starting model 0 are (2, 0), (0, 4), (6, 2) and (1, 1).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest

from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.task import Task
from daafl.simulation.attacks import (
    Alie,
    Attack,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    NotFinite,
    Poison,
    SignFlip,
    Sybils,
)
from daafl.simulation.attacks.collusion import hidden_deviations

HONEST = np.array([[2.0, 0.0], [0.0, 4.0], [6.0, 2.0], [1.0, 1.0]])

Ask = Callable[..., object]


def sent(ask: Ask, task: Task, does: Poison, nodes: list[int], **options: object) -> np.ndarray:
    """Return what all four nodes send when ``nodes`` attack."""
    asked = ask(task, Attack(does, nodes=nodes), **options)
    return np.stack([asked.delta(node) for node in range(4)])


def test_without_an_attack_nodes_send_what_they_learn(ask: Ask, means: Task) -> None:
    asked = ask(means, None)
    assert np.array_equal([asked.delta(node) for node in range(4)], HONEST)


def test_sign_flip_sends_the_update_turned_around(ask: Ask, means: Task) -> None:
    updates = sent(ask, means, SignFlip(scale=3.0), [1, 2])
    assert np.array_equal(updates, [[2, 0], [0, -12], [-18, -6], [1, 1]])


def test_inner_product_sends_the_attackers_mean_turned_around(ask: Ask, means: Task) -> None:
    # Mean of (0, 4) and (6, 2) is (3, 3).
    updates = sent(ask, means, InnerProduct(scale=0.5), [1, 2])
    assert np.array_equal(updates, [[2, 0], [-1.5, -1.5], [-1.5, -1.5], [1, 1]])


def test_alie_shifts_the_attackers_mean_by_their_deviation(ask: Ask, means: Task) -> None:
    # Mean (3, 3), deviations (3, 1).
    updates = sent(ask, means, Alie(deviations=1.5), [1, 2])
    assert np.array_equal(updates, [[2, 0], [-1.5, 1.5], [-1.5, 1.5], [1, 1]])


def test_alie_chooses_the_shift_that_a_majority_hides(ask: Ask, means: Task) -> None:
    # n = 4, m = 1: s = 3 - 1 = 2 of 3 honest nodes are needed; the quantile of 1/3 is below 0.
    assert hidden_deviations(4, 1) == 0.0
    # n = 50, m = 24: s = 2 of 26; the normal quantile of 24/26 from a table.
    assert hidden_deviations(50, 24) == pytest.approx(1.426, abs=1e-3)
    # A majority by themselves.
    assert hidden_deviations(4, 3) == 3.0
    updates = sent(ask, means, Alie(deviations=None), [1, 2])
    # n = 4, m = 2: s = 1 of 2 honest nodes; the quantile of 1/2 is 0, which leaves the mean.
    assert np.allclose(updates[1:3], [[3, 3], [3, 3]])


def test_label_flip_trains_on_opposite_labels(ask: Ask) -> None:
    examples = Examples(np.zeros((3, 1)), np.array([0, 1, 4]))
    assert LabelFlip(num_classes=5).flipped(examples).targets.tolist() == [4, 3, 0]
    assert examples.targets.tolist() == [0, 1, 4]
    with pytest.raises(ConfigError, match="num_classes=3, but labels go from 0 to 4"):
        LabelFlip(num_classes=3).flipped(examples)


def test_gaussian_noise_has_the_root_mean_square_of_the_honest_update(
    ask: Ask, means: Task
) -> None:
    noise = np.stack(
        [
            sent(ask, means, Gaussian(scale=10.0), [2], draw=draw)[2] / math.sqrt(20)
            for draw in range(100)
        ]
    )
    # Node 2 sends (6, 2), so the root mean square is sqrt((36 + 4) / 2) = sqrt(20).
    assert abs(noise.mean()) < 5 * 10 / math.sqrt(200)
    assert noise.std() == pytest.approx(10.0, rel=5 / math.sqrt(400))


def test_a_free_rider_sends_the_model_back(ask: Ask, means: Task) -> None:
    assert np.array_equal(sent(ask, means, FreeRider(noise=0.0), [1])[1], [0, 0])
    busy = sent(ask, means, FreeRider(noise=1e-3), [1])[1]
    assert 0 < np.abs(busy).max() < 5e-3


def test_sybils_send_the_mean_of_their_poison_hardly_different(ask: Ask, means: Task) -> None:
    # Sign flips of (0, 4) and (6, 2); their mean is (-3, -3), of length 3 * sqrt(2).
    exact = sent(ask, means, Sybils(SignFlip(1.0), noise=0.0), [1, 2])
    assert np.array_equal(exact[1:3], [[-3, -3], [-3, -3]])
    updates = sent(ask, means, Sybils(SignFlip(1.0), noise=0.01), [1, 2])
    assert not np.array_equal(updates[1], updates[2])
    # Noise of length 0.01 * 3 * sqrt(2) = 0.042 in two values; five times that is improbable.
    assert np.abs(updates[1:3] + 3).max() < 0.21


def test_not_finite_replaces_a_share_of_the_values(ask: Ask, means: Task) -> None:
    half = sent(ask, means, NotFinite(math.inf, share=0.5), [2])[2]
    assert np.isinf(half).sum() == 1
    assert np.isnan(sent(ask, means, NotFinite(math.nan, share=1.0), [2])[2]).all()
    with pytest.raises(ConfigError, match="must be nan, inf or -inf"):
        NotFinite(1.0)


def test_honest_nodes_answer_as_ever(ask: Ask, means: Task) -> None:
    honest = ask(means, None)
    attacked = ask(means, Attack(SignFlip(), nodes=[1]))
    for node in (0, 2, 3):
        for record in ("arrays", "metrics", "envelope"):
            assert attacked.replies[node][record] == honest.replies[node][record]
    assert attacked.replies[1]["envelope"] == honest.replies[1]["envelope"]


def test_attackers_are_honest_before_the_start_and_after_the_stop(ask: Ask, means: Task) -> None:
    attack = Attack(SignFlip(), nodes=[0], start=2, stop=3)
    firsts = [ask(means, attack, rounds=[number]).delta(0)[0] for number in (1, 2, 3, 4)]
    assert firsts == [2, -2, -2, 2]


def test_attackers_repeat_the_honest_work_of_others_bit_for_bit(ask: Ask) -> None:
    """On a task whose batches are drawn, the attackers' mean is that of what nodes would send."""
    from daafl.learning.tasks.digits import Digits

    honest = ask(Digits(), None, num_nodes=8, rounds=[5], lr=0.1, draw=1)
    attack = Attack(InnerProduct(scale=1.0), nodes=[2, 5])
    attacked = ask(Digits(), attack, num_nodes=8, rounds=[5], lr=0.1, draw=1)
    mean = np.stack([honest.delta(2), honest.delta(5)]).mean(axis=0)
    base = honest.trainer.layout.vector(honest.base)
    assert np.array_equal(attacked.delta(5), (base - mean) - base)
