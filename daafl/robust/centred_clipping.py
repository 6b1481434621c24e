"""Centred clipping: the mean of updates that are clipped around where they were last.

Source: Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021
(arXiv 2012.10333), Section 4, equation (CC): ``v <- v + mean((x_i - v) min(1, tau / |x_i - v|))``.
Symbols: ``v`` is the centre, ``tau`` the radius. It is unweighted, as there.

All iterates are combinations of the updates and the first centre, so their coefficients are enough,
with distances from inner products.
"""

from __future__ import annotations

import numpy as np

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.robust.coordinates import coordinate_median
from daafl.robust.stack import (
    Numbers,
    Spans,
    Stack,
    Updates,
    bounded,
    checked_weights,
    combination,
    distances_to,
    gram,
    stacked,
)


def centred_clipping(
    updates: Updates,
    weights: Numbers,
    *,
    around: Vector | None = None,
    radius: float | None = None,
    rounds: int = 3,
    spans: Spans | None = None,
) -> Vector:
    """Return the centre after some rounds of clipping around it.

    Whatever an update says, it moves the centre by at most ``radius / num_updates`` in a round. An
    update whose length overflows does not move it at all; if all do, the result is their coordinate
    median.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        Not used.
    around
        The first centre, ``[num_parameters]``, best the last result; ``None`` for zero.
    radius
        ``tau``; ``None`` for the median distance to the centre, anew in every round, which needs no
        tuning and holds while less than half of the updates lie.
    rounds
        How often the centre moves.
    spans
        Columns that distances are taken over; ``None`` for all.

    Raises
    ------
    DataError
        If the centre is not of the updates' length and number type.

    Examples
    --------
    >>> updates = np.array([[1.0], [1.0], [100.0]])
    >>> centred_clipping(updates, np.ones(3), radius=3.0, rounds=1).round(4)  # (1 + 1 + 3) / 3
    array([1.6667])
    """
    stack = stacked(updates)
    checked_weights(weights, stack.num_rows)
    centre = np.zeros(stack.num_columns, stack.dtype) if around is None else around
    if centre.shape != (stack.num_columns,) or centre.dtype != stack.dtype:
        raise DataError(
            f"the centre has shape {centre.shape} and type {centre.dtype}; expected "
            f"({stack.num_columns},) and {stack.dtype}"
        )
    whole = Stack(
        [centre, *stack.vectors],
        np.concatenate([[1.0], stack.factors]),
        np.concatenate([[0], stack.starts + 1]),
    )
    products = gram(whole, spans)
    rows = bounded(products)
    if 0 not in rows or rows.size == 1:
        return coordinate_median(stack, weights)
    coefficients = np.zeros(whole.num_rows)
    coefficients[rows] = clipped_coefficients(
        products[np.ix_(rows, rows)], stack.num_rows, radius=radius, rounds=rounds
    )
    return combination(whole, coefficients)


def clipped_coefficients(
    products: Numbers, num_updates: int, *, radius: float | None, rounds: int
) -> Numbers:
    """Return the coefficients, adding up to one, of the last centre.

    Parameters
    ----------
    products
        Inner products of the first centre and, after it, the updates that are not too long.
    num_updates
        Number of updates, those that are too long included.
    radius, rounds
        As in `centred_clipping`.
    """
    coefficients = np.zeros(len(products))
    coefficients[0] = 1.0
    for _ in range(rounds):
        distances = distances_to(products, coefficients)[1:]
        limit = _median_distance(distances, num_updates) if radius is None else radius
        kept = np.ones(len(distances))
        is_far = distances > limit
        kept[is_far] = limit / distances[is_far]
        coefficients *= 1 - kept.sum() / num_updates
        coefficients[1:] += kept / num_updates
    return coefficients


def _median_distance(distances: Numbers, num_updates: int) -> float:
    """Return the median distance, where updates that are too long are infinitely far."""
    padded = np.full(num_updates, np.inf)
    padded[: len(distances)] = np.sort(distances)
    low, high = padded[(num_updates - 1) // 2], padded[num_updates // 2]
    return float(low if np.isinf(high) else (low + high) / 2)
