"""Centred clipping against its formula, by hand and as a loop over vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import DataError
from daafl.robust import centred_clipping


def naive(updates: np.ndarray, centre: np.ndarray, radius: float | None, rounds: int) -> np.ndarray:
    for _ in range(rounds):
        offsets = updates - centre
        distances = np.linalg.norm(offsets, axis=1)
        limit = float(np.median(distances)) if radius is None else radius
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(distances > limit, limit / distances, 1.0)
        centre = centre + (factors[:, None] * offsets).mean(0)
    return centre


def test_by_hand_with_a_given_radius() -> None:
    # Around 0 with radius 5: (3, 4) has length 5 and stays, (6, 8) is halved: mean (3, 4).
    updates = np.array([[3.0, 4.0], [6.0, 8.0]])
    found = centred_clipping(updates, np.ones(2), radius=5.0, rounds=1)
    np.testing.assert_allclose(found, [3.0, 4.0])
    # From there the offsets are 0 and (3, 4): mean (1.5, 2).
    found = centred_clipping(updates, np.ones(2), radius=5.0, rounds=2)
    np.testing.assert_allclose(found, [4.5, 6.0])


def test_by_hand_with_the_median_distance() -> None:
    # Distances from 1 are 0, 1, 2, 3, 999; clipped to 2: (0 + 1 + 2 + 2 + 2) / 5 = 1.4.
    updates = np.array([[1.0], [2.0], [3.0], [4.0], [1000.0]])
    found = centred_clipping(updates, np.ones(5), around=np.array([1.0]), rounds=1)
    np.testing.assert_allclose(found, [2.4])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.sampled_from([None, 0.5, 3.0]),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_it_is_the_formula(count: int, radius: float | None, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    updates, centre = rng.normal(size=(count, 4)), rng.normal(size=4)
    found = centred_clipping(updates, np.ones(count), around=centre, radius=radius, rounds=rounds)
    np.testing.assert_allclose(found, naive(updates, centre, radius, rounds), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 2**32 - 1), st.floats(-10, 10))
def test_order_does_not_matter_and_shifts_carry_over(count: int, seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    updates, centre, ones = rng.normal(size=(count, 4)), rng.normal(size=4), np.ones(count)
    found = centred_clipping(updates, ones, around=centre)
    shuffled = centred_clipping(updates[rng.permutation(count)], ones, around=centre)
    np.testing.assert_allclose(shuffled, found, atol=1e-6)
    shifted = centred_clipping(updates + shift, ones, around=centre + shift)
    np.testing.assert_allclose(shifted, found + shift, atol=1e-6)


@given(st.integers(1, 5), st.floats(0, 30), st.integers(0, 2**32 - 1))
def test_an_update_moves_it_by_its_share_of_the_radius_at_most(
    num_liars: int, log_distance: float, seed: int
) -> None:
    honest = np.random.default_rng(seed).uniform(-1, 1, (6, 3))
    liars = np.full((num_liars, 3), 10.0**log_distance)
    together = np.vstack([liars, honest])
    found = centred_clipping(together, np.ones(len(together)), radius=2.0, rounds=3)
    # Without them each round would end nearer than the honest ones; they add 2 f / n per round.
    assert np.linalg.norm(found) <= np.sqrt(3) + 3 * 2.0 * num_liars / len(together) + 1e-6


@pytest.mark.parametrize("far", [1e6, 1e30])
def test_with_the_median_distance_a_minority_does_no_more(far: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.uniform(-1, 1, (6, 20)).astype(np.float32)
    together = np.vstack([np.full((5, 20), far, np.float32), honest])
    found = centred_clipping(together, np.ones(11))
    assert np.linalg.norm(found) < 30  # each round at most the honest ones' distance, doubling


def test_a_centre_that_coincides_with_most_stays() -> None:
    updates = np.array([[2.0], [2.0], [2.0], [9.0]])
    found = centred_clipping(updates, np.ones(4), around=np.array([2.0]))
    assert found.tolist() == [2.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_update_is_followed_in_its_number_type(dtype: type) -> None:
    found = centred_clipping(np.array([[3.0, 4.0]], dtype), np.ones(1))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [3.0, 4.0], rtol=1e-6)
    # With a radius it takes rounds of that size: 3 * 1 along (3, 4) / 5.
    found = centred_clipping(np.array([[3.0, 4.0]], dtype), np.ones(1), radius=1.0)
    np.testing.assert_allclose(found, [1.8, 2.4], rtol=1e-6)


def test_weights_do_not_enter() -> None:
    updates = np.array([[1.0], [5.0]])
    assert centred_clipping(updates, np.array([1e9, 1.0]), radius=99.0).tolist() == [3.0]


def test_updates_that_overflow_do_not_move_it() -> None:
    # Radius: the median of 2, 2 and infinity. Each round goes two thirds of the way.
    updates = np.array([[2.0], [1e200], [2.0]])
    np.testing.assert_allclose(centred_clipping(updates, np.ones(3), rounds=1), [4 / 3])
    np.testing.assert_allclose(centred_clipping(updates, np.ones(3), rounds=2), [16 / 9])


def test_if_all_overflow_it_is_the_coordinate_median() -> None:
    updates = np.array([[1e200], [3e200], [4e200]])
    assert centred_clipping(updates, np.ones(3)).tolist() == [3e200]


def test_distances_are_taken_over_some_columns_only() -> None:
    # Over the first column nothing is clipped, whatever the second says.
    updates = np.array([[1.0, 1000.0], [2.0, 2000.0]])
    found = centred_clipping(updates, np.ones(2), radius=3.0, rounds=1, spans=[(0, 1)])
    assert found.tolist() == [1.5, 1500.0]


@pytest.mark.parametrize("centre", [np.zeros(3), np.zeros(2, np.float32), np.zeros((1, 2))])
def test_a_centre_that_does_not_fit_is_refused(centre: np.ndarray) -> None:
    with pytest.raises(DataError, match="centre"):
        centred_clipping(np.ones((2, 2)), np.ones(2), around=centre)
