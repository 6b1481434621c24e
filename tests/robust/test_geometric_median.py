"""The geometric median against known points and a general optimiser."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from daafl.robust import geometric_median
from daafl.robust.geometric_median import median_coefficients


def test_of_three_corners_it_is_fermats_point() -> None:
    # All angles of an equilateral triangle with side 2 are below 120 degrees, so it is the centre.
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, np.sqrt(3.0)]])
    np.testing.assert_allclose(
        geometric_median(corners, np.ones(3)), [1.0, 1 / np.sqrt(3.0)], atol=1e-6
    )


def test_of_four_corners_it_is_where_the_diagonals_cross() -> None:
    # y = x and y = (9 - x) / 2 cross at x = 3.
    corners = np.array([[0.0, 0.0], [1.0, 4.0], [5.0, 5.0], [7.0, 1.0]])
    np.testing.assert_allclose(geometric_median(corners, np.ones(4)), [3.0, 3.0], atol=1e-6)


def test_a_wide_corner_is_the_median_itself() -> None:
    # The angle at the origin is above 120 degrees.
    corners = np.array([[0.0, 0.0], [5.0, 1.0], [-5.0, 1.0]])
    np.testing.assert_allclose(geometric_median(corners, np.ones(3)), [0.0, 0.0], atol=1e-4)


def test_one_is_itself_and_of_two_it_is_the_mean() -> None:
    assert geometric_median(np.array([[3.0, 1.0]]), np.ones(1)).tolist() == [3.0, 1.0]
    two = np.array([[0.0, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(geometric_median(two, np.ones(2)), [2.0, 1.0])


def test_whoever_holds_most_of_the_weight_decides() -> None:
    two = np.array([[0.0], [4.0]])
    np.testing.assert_allclose(geometric_median(two, np.array([3.0, 1.0])), [0.0], atol=1e-4)
    np.testing.assert_allclose(geometric_median(two, np.array([1.0, 3.0])), [4.0], atol=1e-4)


def test_weights_count_like_copies() -> None:
    points = np.random.default_rng(1).normal(size=(4, 3))
    copies = points[[0, 0, 0, 1, 1, 2, 3]]
    np.testing.assert_allclose(
        geometric_median(points, np.array([3.0, 2.0, 1.0, 1.0])),
        geometric_median(copies, np.ones(7)),
        atol=1e-6,
    )


def test_equal_updates_are_their_own_median() -> None:
    same = np.full((5, 3), 7.0, np.float32)
    np.testing.assert_allclose(geometric_median(same, np.ones(5)), 7.0, rtol=1e-6)
    most = np.array([[1.0, 1.0]] * 4 + [[9.0, 0.0]])
    np.testing.assert_allclose(geometric_median(most, np.ones(5)), 1.0, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [4, 5, 9])
def test_no_point_has_a_smaller_sum_of_distances(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(count, 3)), rng.uniform(0.5, 2.0, count)

    def total(point: np.ndarray) -> float:
        return float(weights @ np.linalg.norm(points - point, axis=1))

    best = minimize(total, points.mean(0), method="Nelder-Mead", options={"xatol": 1e-9})
    found = geometric_median(points, weights)
    assert total(found) <= best.fun * (1 + 1e-6)  # smoothed, so not exact where it is an update


def test_coefficients_are_shares_of_the_rows() -> None:
    points = np.random.default_rng(0).normal(size=(6, 4))
    coefficients = median_coefficients(points @ points.T, np.full(6, 1 / 6), 1e-6)
    assert coefficients.sum() == pytest.approx(1.0)
    assert (coefficients > 0).all()


def test_far_updates_lose_their_hold_however_far_they_are() -> None:
    # Float32 values this large have squares beyond float32.
    rng = np.random.default_rng(3)
    honest = rng.normal(size=(6, 20)).astype(np.float32)
    liars = np.full((5, 20), 1e30, np.float32)
    found = geometric_median(np.vstack([liars, honest]), np.ones(11))
    assert np.linalg.norm(found - honest.mean(0)) < 40
    few = geometric_median(np.vstack([liars[:1], honest]), np.ones(7))
    assert np.linalg.norm(few - honest.mean(0)) < 2


def test_updates_that_overflow_are_left_out() -> None:
    updates = np.array([[1.0], [1.0], [3.0], [1e200], [np.inf], [np.nan]])
    np.testing.assert_allclose(geometric_median(updates, np.ones(6)), [1.0], atol=1e-4)


def test_if_all_overflow_it_is_the_coordinate_median() -> None:
    updates = np.array([[1e200], [3e200], [4e200]])
    assert geometric_median(updates, np.ones(3)).tolist() == [3e200]


def test_distances_are_taken_over_some_columns_only() -> None:
    # Over the first column the median is 1, and the second follows with the same coefficients.
    updates = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [2.0, 1e6]])
    found = geometric_median(updates, np.ones(4), spans=[(0, 1)])
    np.testing.assert_allclose(found, [1.0, 5.0], atol=1.1)
    far = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, -1e6]])
    found = geometric_median(far, np.ones(3), spans=[(0, 1)])
    np.testing.assert_allclose(found, [1.0, (10 - 1e6) / 3])


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 12), st.integers(0, 2**32 - 1), st.floats(-10, 10))
def test_order_does_not_matter_and_shifts_carry_over(count: int, seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 5))
    found = geometric_median(points, np.ones(count))
    shuffled = geometric_median(points[rng.permutation(count)], np.ones(count))
    np.testing.assert_allclose(shuffled, found, atol=1e-4)
    np.testing.assert_allclose(
        geometric_median(points + shift, np.ones(count)), found + shift, atol=1e-4
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.floats(0, 30), st.sampled_from([-1, 1]), st.integers(0, 2**32 - 1))
def test_a_minority_moves_it_boundedly(
    num_honest: int, log_distance: float, sign: int, seed: int
) -> None:
    # Let D be its distance from 0, r the honest ones' largest, h > f their numbers. Its sum of
    # distances is at least h (D - r) + sum(|liar| - D), and that of 0 at most h r + sum(|liar|), so
    # D <= 2 h r / (h - f), where h - f = 1.
    honest = np.random.default_rng(seed).uniform(-1, 1, (num_honest, 3))
    liars = np.full((num_honest - 1, 3), sign * 10.0**log_distance)
    together = np.vstack([liars, honest])
    found = geometric_median(together, np.ones(len(together)))
    bound = 2 * num_honest * np.linalg.norm(honest, axis=1).max()
    assert np.linalg.norm(found) <= bound + 1e-6
