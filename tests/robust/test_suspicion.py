"""Scores of cohorts, with numbers that can be worked out on paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.robust.suspicion import Suspicion, Usual, suspicion

EAST = [1.0, 0.0, 0.0]


def judged(updates: object, **settings: object) -> Suspicion:
    matrix = np.array(updates, np.float32)
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
    directions = (matrix / np.where(norms > 0, norms, 1.0)[:, None]).astype(np.float32)
    trusted = settings.pop("trusted", np.ones(len(matrix), dtype=bool))
    return suspicion(directions, norms, np.array(trusted), **settings)


def honest(count: int, seed: int = 0, size: int = 40, spread: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.normal(size=size)
    return common + spread * rng.normal(size=(count, size))


def test_usual_is_the_median_and_the_scaled_median_deviation() -> None:
    # median 3, absolute deviations 2 1 0 1 97, their median 1
    usual = Usual.of(np.array([1.0, 2.0, 3.0, 4.0, 100.0]), floor=0.1)
    assert (usual.middle, usual.deviation) == (3.0, 1.4826)
    assert Usual.of(np.array([3.0, 3.0, 3.0]), floor=0.5).deviation == 0.5
    assert usual.z(np.array([3.0 + 1.4826]))[0] == pytest.approx(1.0)


def test_updates_that_are_all_alike_are_not_suspected_of_anything() -> None:
    assert judged([EAST] * 6).totals.tolist() == [0.0] * 6


def test_an_update_that_is_longer_counts_by_the_logarithm_of_its_length() -> None:
    updates = [[1.0, 0.1 * i, 0.0] for i in range(-3, 4)]
    updates.append([8.0, 0.0, 0.0])
    found = judged(updates)
    # Norms of the others are between 1 and 1.05: the floor of 0.5 is the deviation.
    middle = found.length.middle
    assert found.scores[-1, 0] == pytest.approx((np.log(8.0) - middle) / 0.5)
    assert found.scores[-1, 1] == 0.0  # it points where the others point


def test_an_update_of_next_to_no_length_counts_too() -> None:
    updates = [*honest(8), np.zeros(40), 0.3 * honest(9)[8]]
    found = judged(updates)
    assert found.scores[8, 0] > 20
    assert found.scores[9, 0] == 0.0  # short, but it did train
    assert found.scores[8, 1] == found.scores[8, 2] == 0.0


def test_only_an_update_against_the_others_counts_for_its_direction() -> None:
    updates = [[1.0, 0.01 * i, 0.0] for i in range(-4, 5)]
    found = judged([*updates, [0.1, 1.0, 0.0], [-1.0, 0.1, 0.2]])
    cosines = found.measures.cosines
    assert 0 < cosines[9] < 0.2
    assert found.scores[9, 1] == 0.0
    assert cosines[10] < -0.9
    assert found.scores[10, 1] == pytest.approx((found.direction.middle - cosines[10]) / 0.1)
    assert found.totals[10] > 15


def test_length_and_direction_add_up() -> None:
    updates = honest(10)
    updates[0] *= -3.0
    found = judged(updates)
    assert found.totals[0] == pytest.approx(found.scores[0, 0] + found.scores[0, 1])
    assert found.totals.argmax() == 0


def test_near_copies_are_found_and_have_no_say() -> None:
    updates = honest(14, spread=2.0)
    rng = np.random.default_rng(9)
    poison = -updates.mean(axis=0)
    updates[9:] = poison + 0.001 * rng.normal(size=(5, 40))
    found = judged(updates)
    assert (found.scores[9:, 2] > 10).all()
    assert (found.scores[:9, 2] < 3.5).all()
    assert found.population.tolist() == [True] * 9 + [False] * 5
    assert (found.measures.cosines[9:] < -0.5).all()


def test_those_that_are_not_trusted_have_no_say() -> None:
    updates = honest(10, spread=0.5)
    updates[:6] *= -1.0  # most of them are hostile, but known
    trusted = [False] * 6 + [True] * 4
    found = judged([*updates, *honest(11, spread=0.5)[10:]], trusted=[*trusted, True])
    assert (found.totals[:6] > 5).all()
    assert (found.totals[6:] < 3).all()


def test_the_last_direction_tells_a_hostile_majority_from_the_others() -> None:
    updates = honest(10, spread=0.8)
    direction = honest(400, spread=0.8).mean(axis=0).astype(np.float32)
    updates[:6] *= -1.0
    without = judged(updates)
    past = np.tile([np.log(np.linalg.norm(updates[9])), 0.6], (20, 1))
    found = judged(updates[4:8], reference=1000 * direction, past=past)
    assert (without.totals[:6] < without.totals[6:].min()).all()  # judged the wrong way round
    assert (found.totals[:2] > 3.5).all()
    assert (found.totals[2:] < 3.5).all()


def test_a_single_update_is_compared_with_the_past_and_the_last_direction() -> None:
    past = np.array([[0.0, 0.5]] * 10)
    east = np.array(EAST, np.float32)
    # Usual are norm 1 and cosine 0.5; deviations are the floors 0.5 and 0.1.
    found = judged([[-np.e, 0.0, 0.0]], reference=east, past=past)
    assert found.measures.cosines.tolist() == [-1.0]
    # With itself among the eleven, the medians stay.
    assert found.scores[0].tolist() == pytest.approx([1 / 0.5, 1.5 / 0.1, 0.0], rel=1e-6)
    assert judged([EAST]).totals.tolist() == [0.0]


@given(st.integers(0, 20), st.floats(1e-6, 1e6))
def test_the_order_and_the_unit_do_not_matter(seed: int, unit: float) -> None:
    updates = honest(12, seed)
    updates[0] *= -3.0
    updates[1] = updates[2]
    order = np.random.default_rng(seed).permutation(12)
    scores = judged(updates).totals
    np.testing.assert_allclose(judged(updates[order]).totals, scores[order], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(judged(unit * updates).totals, scores, rtol=1e-2, atol=1e-2)


@given(st.integers(0, 20), st.floats(0.1, 10.0))
def test_directions_do_not_depend_on_a_single_updates_length(seed: int, factor: float) -> None:
    updates = honest(9, seed)
    longer = updates.copy()
    longer[3] *= factor
    one, other = judged(updates).measures, judged(longer).measures
    np.testing.assert_allclose(one.cosines, other.cosines, atol=1e-4)
    np.testing.assert_allclose(one.log_distances, other.log_distances, atol=1e-2)


def test_scores_are_bounded() -> None:
    updates = honest(7)
    updates[0] *= -1e30
    found = judged(updates)
    assert found.totals.max() <= 99.0
    assert np.isfinite(found.scores).all()


def test_more_updates_than_are_compared_at_a_time() -> None:
    updates = honest(600, size=20)
    updates[[17, 590]] = updates[400]
    found = judged(updates)
    assert set(np.flatnonzero(found.scores[:, 2] > 10)) == {17, 400, 590}
