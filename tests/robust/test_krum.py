"""Krum against the paper's definition, written as a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import DataError
from daafl.robust import Stack, krum, multi_krum
from daafl.robust.krum import bearable, krum_scores


def naive_scores(updates: np.ndarray, num_malicious: int) -> list[float]:
    scores = []
    for i, update in enumerate(updates):
        others = [float(((update - x) ** 2).sum()) for j, x in enumerate(updates) if j != i]
        scores.append(sum(sorted(others)[: len(updates) - num_malicious - 2]))
    return scores


def test_scores_by_hand() -> None:
    # n = 5, f = 1: the two nearest count. From 0: 1 + 4; from 1: 1 + 1; from 2: 1 + 4;
    # from 10: 64 + 81; from -20: 400 + 441.
    updates = np.array([[0.0], [1.0], [2.0], [10.0], [-20.0]])
    assert krum_scores(updates @ updates.T, 1).tolist() == [5.0, 2.0, 5.0, 145.0, 841.0]
    assert krum(updates, np.ones(5), num_malicious=1).tolist() == [1.0]
    # Of equal scores the first counts.
    assert multi_krum(updates, np.ones(5), num_malicious=1, num_selected=2).tolist() == [0.5]
    assert multi_krum(updates, np.ones(5), num_malicious=1, num_selected=3).tolist() == [1.0]
    # All but the one that may be malicious: (0 + 1 + 2 + 10) / 4.
    assert multi_krum(updates, np.ones(5), num_malicious=1).tolist() == [3.25]
    assert multi_krum(updates, np.ones(5), num_malicious=1, num_selected=99).tolist() == [3.25]


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 15), st.integers(0, 6), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_it_is_the_definition(count: int, bad: int, selected: int, seed: int) -> None:
    updates = np.random.default_rng(seed).normal(size=(count, 4))
    bad = min(bad, (count - 3) // 2)
    scores = naive_scores(updates, bad)
    np.testing.assert_allclose(krum_scores(updates @ updates.T, bad), scores, rtol=1e-9)
    # Two that are each other's only neighbour have equal scores but for rounding.
    ranks = np.argsort(np.round(krum_scores(updates @ updates.T, bad), 9), kind="stable")
    best = ranks[: min(selected, count - bad)]
    gaps = np.diff(np.sort(scores))
    if (gaps < 1e-8).any():
        return
    found = multi_krum(updates, np.ones(count), num_malicious=bad, num_selected=selected)
    np.testing.assert_allclose(found, updates[best].mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(
        krum(updates, np.ones(count), num_malicious=bad), updates[np.argmin(scores)]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 12), st.integers(0, 2**32 - 1), st.floats(-10, 10))
def test_order_does_not_matter_and_shifts_carry_over(count: int, seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    updates = rng.normal(size=(count, 5))
    found = multi_krum(updates, np.ones(count))
    shuffled = multi_krum(updates[rng.permutation(count)], np.ones(count))
    np.testing.assert_allclose(shuffled, found, rtol=1e-9, atol=1e-9)
    shifted = multi_krum(updates + shift, np.ones(count))
    np.testing.assert_allclose(shifted, found + shift, rtol=1e-9, atol=1e-9)


@given(st.integers(1, 4), st.floats(2, 1e30), st.integers(0, 2**32 - 1))
def test_far_updates_are_never_selected(bad: int, far: float, seed: int) -> None:
    count = 2 * bad + 3
    rng = np.random.default_rng(seed)
    honest = rng.uniform(-1, 1, (count - bad, 3)).astype(np.float32)
    liars = (rng.choice([-1, 1], (bad, 3)) * np.float32(1e3 * far)).astype(np.float32)
    updates = np.vstack([liars, honest])
    for rule in (krum, multi_krum):
        assert (np.abs(rule(updates, np.ones(count), num_malicious=bad)) <= 1).all()


def test_weights_do_not_enter() -> None:
    updates = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert multi_krum(updates, np.array([1.0, 1.0, 1.0, 1e9]), num_malicious=0).tolist() == [3.25]


def test_a_share_is_rounded_up_and_cut_to_what_a_cohort_bears() -> None:
    assert [bearable(n, None, 0.3) for n in (1, 2, 3, 4, 5, 7, 9, 10, 30)] == [
        0, 0, 0, 0, 1, 2, 3, 3, 9,
    ]  # fmt: skip
    assert bearable(100, None, 0.07) == 7  # 0.07 * 100 is 7.000000000000001
    assert bearable(31, None, 0.1) == 4
    assert bearable(100, 60, 0.0) == 48
    assert bearable(100, None, 0.0) == 0


def test_one_and_two_updates_are_too_few_to_compare() -> None:
    for rule in (krum, multi_krum):
        assert rule(np.array([[4.0]]), np.ones(1), num_malicious=3).tolist() == [4.0]
        assert rule(np.array([[4.0], [8.0]]), np.ones(2), num_malicious=3).tolist() == [6.0]


def test_of_three_one_of_the_two_nearest_is_chosen() -> None:
    updates = np.array([[0.0], [1.0], [100.0]])
    assert krum(updates, np.ones(3), num_malicious=1)[0] in (0.0, 1.0)


def test_float32_stays_float32_and_damping_counts() -> None:
    rows = list(np.array([[8.0], [1.1], [1.2], [1.3], [9.0]], np.float32))
    stack = Stack.of(rows, [0.15, 1.0, 1.0, 1.0, 1.0])  # the first becomes 1.2
    found = multi_krum(stack, np.ones(5), num_malicious=1, num_selected=4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1.2], rtol=1e-6)


def test_updates_that_overflow_are_not_selected() -> None:
    updates = np.array([[1e200], [1.0], [1.5], [np.nan], [2.5], [1e200]])
    found = multi_krum(updates, np.ones(6), num_malicious=1)
    np.testing.assert_allclose(found, [5 / 3])
    mostly = np.array([[1e200], [np.inf], [3.0]])
    assert krum(mostly, np.ones(3)).tolist() == [3.0]


def test_if_all_overflow_it_is_the_coordinate_median() -> None:
    assert krum(np.array([[1e200], [3e200], [4e200]]), np.ones(3)).tolist() == [3e200]


def test_distances_are_taken_over_some_columns_only() -> None:
    updates = np.array([[1.0, 50.0], [1.1, 900.0], [1.2, -3.0], [7.0, 50.0], [-9.0, 50.0]])
    found = krum(updates, np.ones(5), num_malicious=1, spans=[(0, 1)])
    assert found.tolist() == [1.1, 900.0]


@pytest.mark.parametrize(
    "options",
    [
        {"num_malicious": -1},
        {"malicious_share": 0.5},
        {"malicious_share": -0.1},
        {"malicious_share": float("nan")},
        {"num_selected": 0},
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="Krum"):
        multi_krum(np.ones((5, 1)), np.ones(5), **options)
