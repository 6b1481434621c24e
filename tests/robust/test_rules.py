"""What holds for every rule by its name."""

import numpy as np
import pytest

from daafl.errors import DataError
from daafl.robust import RULES, Rule, Stack, mean

EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
ROBUST = {name: rule for name, rule in RULES.items() if name != "mean"}


def test_the_names() -> None:
    assert set(RULES) == {
        "bucketing",
        "centred_clipping",
        "geometric_median",
        "krum",
        "mean",
        "median",
        "multi_krum",
        "trimmed_mean",
    }


def test_the_mean_is_weighted() -> None:
    assert mean(np.array([[1.0], [5.0]]), np.array([3.0, 1.0])).tolist() == [2.0]


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
def test_updates_that_agree_give_that_update(rule: Rule, dtype: type, count: int) -> None:
    row = np.array([1.5, -2.0, 0.25], dtype)
    found = rule(np.tile(row, (count, 1)), np.arange(1.0, count + 1))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, row, rtol=1e-6)


@EVERY
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10])
def test_results_lie_within_the_range_of_the_updates(rule: Rule, count: int) -> None:
    updates = np.random.default_rng(count).uniform(1.0, 2.0, (count, 6))
    found = rule(updates, np.ones(count))
    assert ((found >= 1 - 1e-9) & (found <= 2 + 1e-9)).all()


@EVERY
def test_updates_and_weights_are_not_written_to(rule: Rule) -> None:
    updates, weights = np.random.default_rng(0).normal(size=(5, 3)), np.arange(1.0, 6.0)
    for array in (updates, weights):
        array.flags.writeable = False
    found = rule(updates, weights)
    expected = found.copy()
    found += 1  # what comes out is nobody else's
    np.testing.assert_array_equal(rule(updates, weights), expected)


@EVERY
def test_scale_carries_over(rule: Rule) -> None:
    updates = np.random.default_rng(1).normal(size=(9, 4))
    found = rule(updates, np.ones(9))
    np.testing.assert_allclose(rule(updates * 1e-8, np.ones(9)), found * 1e-8, rtol=1e-4)
    np.testing.assert_allclose(rule(updates * 1e8, np.ones(9)), found * 1e8, rtol=1e-4)


@pytest.mark.parametrize("rule", ROBUST.values(), ids=ROBUST)
@pytest.mark.parametrize("far", [1e3, 1e12, 1e30])
def test_liars_far_away_do_little(rule: Rule, far: float) -> None:
    # Three in ten; in pairs at most four in ten may be, so one in five updates.
    num_liars = 6 if rule is RULES["bucketing"] else 9
    honest = np.random.default_rng(7).normal(1.0, 0.1, (30, 30)).astype(np.float32)
    updates = honest.copy()
    updates[:num_liars] = -far
    found = rule(updates, np.ones(30))
    assert np.abs(found - 1.0).max() < 1.0


def test_three_in_ten_far_away_take_the_mean_along() -> None:
    honest = np.full((21, 30), 1.0)
    liars = np.full((9, 30), -1e12)
    assert mean(np.vstack([liars, honest]), np.ones(30)).max() < -1e11


@EVERY
def test_a_stack_gives_what_its_matrix_gives(rule: Rule) -> None:
    updates = np.random.default_rng(2).normal(size=(6, 4))
    factors = [1.0, 0.5, 1.0, 0.25, 1.0, 2.0]
    found = rule(Stack.of(list(updates), factors), np.ones(6))
    expected = rule(updates * np.array(factors)[:, None], np.ones(6))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@EVERY
def test_no_update_and_missing_weights_are_refused(rule: Rule) -> None:
    with pytest.raises(DataError, match="at least one update"):
        rule(np.empty((0, 3)), np.ones(0))
    with pytest.raises(DataError, match="weights"):
        rule(np.ones((2, 3)), np.ones(3))
