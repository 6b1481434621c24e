"""The weighted mean against sums by hand and against float64."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.learning.update import Update
from daafl.strategies import aggregation
from daafl.strategies.aggregation import MAX_HELD_BYTES, MAX_HELD_UPDATES, weighted_mean

weights = st.floats(min_value=1e-3, max_value=1e6)
dampings = st.floats(min_value=0.0, max_value=1.0)


def update(values: list[float] | Vector, weight: float = 1.0, damping: float = 1.0) -> Update:
    return Update(np.asarray(values, np.float32), weight, (0,), 0, {}, damping)


def drawn(seed: int, size: int, terms: list[tuple[float, float]]) -> list[Update]:
    rng = np.random.default_rng(seed)
    return [update(rng.normal(size=size), weight, damping) for weight, damping in terms]


def in_float64(updates: list[Update]) -> Vector:
    total = sum(u.num_examples for u in updates)
    parts = [u.delta.astype(np.float64) * u.damping * (u.num_examples / total) for u in updates]
    return np.sum(parts, axis=0)


def test_examples_weigh_and_damping_shortens() -> None:
    # (30 * [1, 2] + 10 * 0.5 * [3, 4]) / 40 = [(30 + 15) / 40, (60 + 20) / 40]
    mean, total = weighted_mean([update([1, 2], 30), update([3, 4], 10, 0.5)])
    assert mean.tolist() == [1.125, 2.0]
    assert total == 40.0


def test_a_single_update_is_its_own_mean() -> None:
    mean, total = weighted_mean([update([0.1, -3.0], 7)])
    assert mean.tolist() == np.array([0.1, -3.0], np.float32).tolist()
    assert total == 7.0


@settings(deadline=None)
@given(terms=st.lists(weights, min_size=1, max_size=40))
def test_weights_sum_to_one(terms: list[float]) -> None:
    mean, total = weighted_mean(update([1.0, -2.0], weight) for weight in terms)
    np.testing.assert_allclose(mean, [1.0, -2.0], rtol=1e-5)
    assert total == pytest.approx(sum(terms))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**16),
    terms=st.lists(st.tuples(weights, dampings), min_size=1, max_size=40),
)
def test_it_agrees_with_float64_in_any_order(seed: int, terms: list[tuple[float, float]]) -> None:
    updates = drawn(seed, 9, terms)
    order = np.random.default_rng(seed).permutation(len(updates))
    exact = in_float64(updates)
    np.testing.assert_allclose(weighted_mean(updates)[0], exact, rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        weighted_mean(updates[i] for i in order)[0], exact, rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("size", [0, 1, 7, (1 << 17) - 1, (1 << 17) + 1, 300_000])
def test_blocks_cover_the_vector_whatever_its_length(size: int) -> None:
    updates = drawn(5, size, [(weight, 1.0) for weight in range(1, 2 * MAX_HELD_UPDATES + 4)])
    mean, _ = weighted_mean(updates)
    np.testing.assert_allclose(mean, in_float64(updates), rtol=0, atol=1e-6)


def test_how_updates_are_grouped_does_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = drawn(6, 1000, [(weight, 1.0) for weight in range(1, 40)])
    expected, _ = weighted_mean(updates)
    monkeypatch.setattr(aggregation, "MAX_HELD_BYTES", 4000)  # one at a time
    assert np.array_equal(weighted_mean(iter(updates))[0], expected)


def test_float64_stays_float64() -> None:
    one = Update(np.array([1e-12 + 1.0]), 1, (0,), 0, {})
    mean, _ = weighted_mean([one, one])
    assert mean.dtype == np.float64
    assert mean[0] == 1e-12 + 1.0


def test_huge_weights_do_not_overflow_float32() -> None:
    mean, total = weighted_mean([update([1e30], 1e15), update([2e30], 1e15)])
    np.testing.assert_allclose(mean, [1.5e30], rtol=1e-6)
    assert total == 2e15


@pytest.mark.parametrize("damping", [1.0, 0.0, 1e-60])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_come_through_even_without_weight(value: float, damping: float) -> None:
    mean, _ = weighted_mean([update([1.0, 1.0]), update([value, 0.0], 1.0, damping)])
    assert not np.isfinite(mean[0])
    assert np.isfinite(mean[1])


def test_inputs_may_be_read_only_views_at_odd_addresses() -> None:
    raw = np.zeros(4 * 5 + 1, np.uint8)
    view = raw[1:].view(np.float32)
    view[:] = 3.0
    view.flags.writeable = False
    mean, _ = weighted_mean([Update(view, 1, (0,), 0, {}), update([1.0] * 5)])
    assert mean.tolist() == [2.0] * 5
    assert view.tolist() == [3.0] * 5


def test_an_iterator_is_consumed_in_constant_memory() -> None:
    size, count = 1_000_000, 60

    def arriving() -> Iterator[Update]:
        for index in range(count):
            yield update(np.full(size, index, np.float32))

    tracemalloc.start()
    mean, total = weighted_mean(arriving())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mean[0] == pytest.approx((count - 1) / 2)
    assert total == count
    # The sum, what is held, and one update on its way in (made through a second copy).
    assert peak < MAX_HELD_BYTES + 4 * 4 * size < count * 4 * size


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_weight_is_refused(weight: float) -> None:
    with pytest.raises(DataError, match="positive and finite"):
        weighted_mean([update([1.0]), update([1.0], weight)])


@pytest.mark.parametrize("other", [np.zeros(3, np.float32), np.zeros(2)])
def test_updates_of_another_form_are_refused(other: Vector) -> None:
    with pytest.raises(DataError, match="expected"):
        weighted_mean([update([1.0, 2.0]), Update(other, 1, (1,), 0, {})])


@pytest.mark.parametrize("first", [np.zeros((2, 2), np.float32), np.zeros(2, np.int64)])
def test_what_is_no_vector_is_refused(first: Vector) -> None:
    with pytest.raises(DataError, match="one-dimensional"):
        weighted_mean([Update(first, 1, (1,), 0, {})])


def test_no_update_has_no_mean() -> None:
    with pytest.raises(DataError, match="at least one update"):
        weighted_mean([])
