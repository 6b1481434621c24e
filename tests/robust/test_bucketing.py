"""Buckets of updates, against means that are made first."""

import numpy as np
import pytest

from daafl.errors import DataError
from daafl.robust import Stack, bucketed, coordinate_median, geometric_median, mean, multi_krum
from daafl.robust.bucketing import bucket
from daafl.robust.stack import blocks

UPDATES = np.random.default_rng(0).normal(size=(7, 5))


def rows_of(stack: Stack) -> np.ndarray:
    return np.concatenate(
        [block.copy() for _, _, block in blocks(stack, np.dtype(np.float64))], axis=1
    )


def test_every_update_is_in_one_bucket() -> None:
    buckets, order = bucket(Stack.of(UPDATES), 3, 5)
    assert sorted(order.tolist()) == list(range(7))
    assert buckets.sizes.tolist() == [3, 3, 1]
    shuffled = UPDATES[order]
    expected = np.stack([shuffled[:3].mean(0), shuffled[3:6].mean(0), shuffled[6]])
    np.testing.assert_allclose(rows_of(buckets), expected)


def test_buckets_of_buckets_and_of_damped_updates() -> None:
    damping = np.linspace(0.1, 1.0, 7)
    inner, order = bucket(Stack.of(UPDATES, damping), 2, 1)
    outer, again = bucket(inner, 2, 2)
    damped = (UPDATES * damping[:, None])[order]
    pairs = np.stack([damped[:2].mean(0), damped[2:4].mean(0), damped[4:6].mean(0), damped[6]])
    pairs = pairs[again]
    np.testing.assert_allclose(rows_of(outer), [pairs[:2].mean(0), pairs[2:].mean(0)])


@pytest.mark.parametrize("rule", [coordinate_median, geometric_median, multi_krum])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_a_bucketed_rule_is_the_rule_over_the_means(rule: object, size: int) -> None:
    buckets, order = bucket(Stack.of(UPDATES), size, 3)
    weights = np.arange(1.0, 8.0)
    sums = [part.sum() for part in np.split(weights[order], buckets.starts[1:])]
    expected = rule(rows_of(buckets), np.array(sums))  # type: ignore[operator]
    found = bucketed(rule, size, 3)(UPDATES, weights)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_buckets_of_one_change_nothing_and_one_bucket_is_the_mean() -> None:
    ones = np.ones(7)
    np.testing.assert_array_equal(
        bucketed(coordinate_median, 1)(UPDATES, ones), coordinate_median(UPDATES, ones)
    )
    np.testing.assert_allclose(
        bucketed(coordinate_median, 7)(UPDATES, ones), UPDATES.mean(0), atol=1e-12
    )


def test_weights_of_a_bucket_add_up() -> None:
    # Plain means inside, the weighted mean over buckets: of a single bucket the plain mean.
    found = bucketed(mean, 2)(np.array([[0.0], [4.0]]), np.array([1.0, 3.0]))
    assert found.tolist() == [2.0]


def test_the_seed_decides() -> None:
    ones = np.ones(7)
    results = {tuple(bucketed(coordinate_median, 2, seed)(UPDATES, ones)) for seed in range(8)}
    assert len(results) > 1
    np.testing.assert_array_equal(
        bucketed(coordinate_median, 2, 4)(UPDATES, ones),
        bucketed(coordinate_median, 2, 4)(UPDATES, ones),
    )


def test_a_bucket_holds_something() -> None:
    with pytest.raises(DataError, match="bucket"):
        bucketed(mean, 0)
