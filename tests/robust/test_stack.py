"""Stacks of updates: rows, inner products and combinations, against plain NumPy."""

import numpy as np
import pytest

from daafl.errors import DataError
from daafl.robust import stack as stack_module
from daafl.robust.stack import (
    Stack,
    blocks,
    bounded,
    checked_weights,
    combination,
    distances_to,
    gram,
    pieces,
    squared_distances,
)

RNG = np.random.default_rng(0)


def grouped() -> tuple[Stack, np.ndarray]:
    """Return a stack of three rows of one, three and two scaled vectors, and the rows."""
    vectors = RNG.normal(size=(6, 11))
    factors = np.array([1.0, 0.5, 0.25, 2.0, 1.0, 3.0])
    scaled = vectors * factors[:, None]
    rows = np.stack([scaled[0], scaled[1:4].sum(0), scaled[4:].sum(0)])
    return Stack(list(vectors), factors, np.array([0, 1, 4])), rows


def test_a_row_is_the_sum_of_its_scaled_vectors() -> None:
    stack, rows = grouped()
    (part,) = [block.copy() for _, _, block in blocks(stack, np.dtype(np.float64))]
    np.testing.assert_allclose(part, rows)
    assert (stack.num_rows, stack.num_columns, stack.sizes.tolist()) == (3, 11, [1, 3, 2])


@pytest.mark.parametrize("width", [1, 2, 5, 10, 11, 12])
def test_products_and_combinations_are_those_of_the_rows(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "_MIN_WIDTH", width)
    monkeypatch.setattr(stack_module, "_MAX_WIDTH", width)
    monkeypatch.setattr(stack_module, "_SUM_WIDTH", width)
    stack, rows = grouped()
    np.testing.assert_allclose(gram(stack), rows @ rows.T)
    coefficients = np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(combination(stack, coefficients), coefficients @ rows)


def test_products_over_some_columns() -> None:
    stack, rows = grouped()
    some = rows[:, [1, 2, 7]]
    np.testing.assert_allclose(gram(stack, [(1, 3), (7, 8)]), some @ some.T)
    np.testing.assert_array_equal(gram(stack, []), np.zeros((3, 3)))


def test_pieces_cover_every_column_once() -> None:
    assert list(pieces(5, 2)) == [(0, 2), (2, 4), (4, 5)]
    assert list(pieces(5, 9)) == [(0, 5)]
    assert list(pieces(0, 4)) == []


def test_distances_follow_from_products() -> None:
    stack, rows = grouped()
    products = gram(stack)
    expected = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(products), expected, rtol=1e-12, atol=1e-12)
    coefficients = np.array([0.2, 0.3, 0.5])
    expected = np.linalg.norm(rows - coefficients @ rows, axis=1)
    np.testing.assert_allclose(distances_to(products, coefficients), expected, rtol=1e-12)


def test_rows_with_coefficient_zero_do_no_harm() -> None:
    stack = Stack.of([np.array([1.0, 2.0]), np.array([np.nan, np.inf])])
    assert combination(stack, np.array([3.0, 0.0])).tolist() == [3.0, 6.0]


def test_products_of_float32_do_not_overflow() -> None:
    stack = Stack.of(np.full((2, 4), 3e38, np.float32))
    np.testing.assert_allclose(gram(stack), 4 * 9e76, rtol=1e-6)
    assert bounded(gram(stack)).tolist() == [0, 1]


def test_rows_whose_products_overflow_are_told_apart() -> None:
    stack = Stack.of([np.array([1.0]), np.array([1e200]), np.array([np.nan]), np.array([2.0])])
    assert bounded(gram(stack)).tolist() == [0, 3]


def test_rows_may_lie_anywhere_in_memory() -> None:
    matrix = np.asfortranarray(RNG.normal(size=(4, 9)).astype(np.float32))
    matrix.flags.writeable = False
    weights = np.arange(4.0)
    np.testing.assert_allclose(combination(Stack.of(matrix), weights), weights @ matrix, rtol=1e-5)
    np.testing.assert_allclose(gram(Stack.of(matrix)), matrix @ matrix.T, rtol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([], "at least one update"),
        ([np.ones(3, np.float16)], "float16"),
        ([np.ones((2, 2))], "2 dimensions"),
        ([np.ones(3), np.ones(4)], "expected"),
        ([np.ones(3), np.ones(3, np.float32)], "expected"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors: list[np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Stack.of(vectors)


def test_weights_are_shares() -> None:
    assert checked_weights(np.array([1.0, 3.0]), 2).tolist() == [0.25, 0.75]
    assert checked_weights(np.full(2, 1e308), 2).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="weight"):
        checked_weights(np.array(weights), 2)
