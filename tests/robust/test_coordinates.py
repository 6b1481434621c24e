"""Median and trimmed mean of coordinates against NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import trim_mean

from daafl.errors import DataError
from daafl.robust import Stack, coordinate_median, trimmed_mean
from daafl.robust import stack as stack_module

VALUES = st.floats(-1e6, 1e6, width=32)
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 7)), elements=VALUES)


@given(MATRICES)
def test_the_median_is_numpys(updates: np.ndarray) -> None:
    found = coordinate_median(updates, np.ones(len(updates)))
    np.testing.assert_allclose(found, np.median(updates, axis=0), rtol=1e-12, atol=1e-12)


@given(MATRICES, st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.49]))
def test_the_trimmed_mean_is_scipys(updates: np.ndarray, share: float) -> None:
    found = trimmed_mean(updates, np.ones(len(updates)), share=share)
    np.testing.assert_allclose(found, trim_mean(updates, share, axis=0), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 129, 300])
def test_both_keep_the_number_type_for_any_count(dtype: type, count: int) -> None:
    updates = np.random.default_rng(count).normal(size=(count, 50)).astype(dtype)
    median = coordinate_median(updates, np.ones(count))
    mean = trimmed_mean(updates, np.ones(count), share=0.2)
    assert median.dtype == mean.dtype == dtype
    np.testing.assert_allclose(median, np.median(updates, axis=0), rtol=1e-6)
    expected = trim_mean(updates.astype(np.float64), 0.2, axis=0)
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.parametrize("num_columns", [1, 4, 5, 6, 10, 23])
def test_the_edges_of_blocks_do_not_show(num_columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = np.random.default_rng(0).normal(size=(7, num_columns))
    monkeypatch.setattr(stack_module, "_MIN_WIDTH", 5)
    monkeypatch.setattr(stack_module, "_MAX_WIDTH", 5)
    np.testing.assert_array_equal(
        coordinate_median(updates, np.ones(7)), np.median(updates, axis=0)
    )


def test_many_columns_and_whole_blocks() -> None:
    # Three updates: blocks of 2**16 columns; one more column makes a block of its own.
    updates = np.random.default_rng(0).normal(size=(3, 2**16 + 1)).astype(np.float32)
    found = coordinate_median(updates, np.ones(3))
    np.testing.assert_array_equal(found, np.sort(updates, axis=0)[1])


def test_weights_do_not_enter() -> None:
    updates = np.array([[1.0], [2.0], [9.0]])
    weights = np.array([1.0, 1.0, 1e9])
    assert coordinate_median(updates, weights).tolist() == [2.0]
    assert trimmed_mean(updates, weights, share=0.4).tolist() == [2.0]


def test_damped_rows_are_compared_as_damped() -> None:
    # 1, 8 / 4 and 3: the median is 2.
    rows = [np.array([1.0]), np.array([8.0]), np.array([3.0])]
    stack = Stack.of(rows, [1.0, 0.25, 1.0])
    assert coordinate_median(stack, np.ones(3)).tolist() == [2.0]


def test_columns_that_are_not_asked_for_are_zero() -> None:
    updates = np.arange(10.0).reshape(2, 5)  # medians 2.5, 3.5 ... 6.5
    found = coordinate_median(updates, np.ones(2), spans=[(1, 2), (3, 5)])
    assert found.tolist() == [0.0, 3.5, 0.0, 5.5, 6.5]


def test_nan_and_infinity_are_outvoted() -> None:
    updates = np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0], [np.nan, -np.inf], [np.inf, np.nan]])
    assert coordinate_median(updates, np.ones(5)).tolist() == [3.0, 5.0]
    # Two at either end go: 3 is left, and of -inf, 4, 5, 6, NaN it is 5.
    assert trimmed_mean(updates, np.ones(5), share=0.4).tolist() == [3.0, 5.0]


def test_the_middle_of_large_numbers_does_not_overflow() -> None:
    large = np.float32(3e38)
    updates = np.array([[large], [large]], np.float32)
    assert coordinate_median(updates, np.ones(2)).tolist() == [large]


@settings(max_examples=50)
@given(MATRICES, st.randoms(use_true_random=False), st.floats(-100, 100))
def test_order_does_not_matter_and_shifts_carry_over(
    updates: np.ndarray, random: object, shift: float
) -> None:
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(updates))  # type: ignore[attr-defined]
    ones = np.ones(len(updates))
    for rule in (coordinate_median, trimmed_mean):
        found = rule(updates, ones)
        np.testing.assert_array_equal(rule(updates[order], ones), found)
        np.testing.assert_allclose(rule(updates + shift, ones), found + shift, atol=1e-6)


@given(st.integers(3, 11), st.floats(-1e30, 1e30), st.integers(0, 2**32 - 1))
def test_a_minority_cannot_leave_the_range_of_the_others(count: int, far: float, seed: int) -> None:
    honest = np.random.default_rng(seed).uniform(-1, 1, (count, 4))
    liars = np.full(((count - 1), 4), far)
    median = coordinate_median(np.vstack([liars, honest]), np.ones(2 * count - 1))
    assert (np.abs(median) <= 1).all()
    liars = liars[: count // 3]
    together = np.vstack([honest, liars])
    mean = trimmed_mean(together, np.ones(len(together)), share=0.3)
    assert (np.abs(mean) <= 1 + 1e-12).all()


@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0, float("nan")])
def test_shares_that_trim_everything_are_refused(share: float) -> None:
    with pytest.raises(DataError, match="trimmed share"):
        trimmed_mean(np.ones((3, 1)), np.ones(3), share=share)
