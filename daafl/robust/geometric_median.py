"""The geometric median: the point with the smallest sum of distances to the updates.

Source: Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE Transactions
on Signal Processing 70, 2022 (arXiv 1912.13445): the smoothed Weiszfeld algorithm (Algorithm 2).
Symbols: ``alpha_k`` is a weight, ``nu`` the smoothing, ``beta_k`` a coefficient.

Every iterate is a weighted mean of the updates, so it is enough to know its coefficients, and the
distances follow from the inner products of the updates. An iteration then costs as little as there
are updates, and it may go on until it has converged; the paper stops after a few, because there
each one is a round of communication.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daafl.learning.layout import Vector
from daafl.robust.coordinates import coordinate_median
from daafl.robust.stack import (
    Numbers,
    Spans,
    Updates,
    bounded,
    checked_weights,
    combination,
    distances_to,
    gram,
    squared_distances,
    stacked,
)

MAX_ITERATIONS: Final = 1000
_TOLERANCE: Final = 1e-10  # change of all coefficients together at which iterating ends


def geometric_median(
    updates: Updates, weights: Numbers, *, smoothing: float = 1e-6, spans: Spans | None = None
) -> Vector:
    """Return the weighted geometric median of updates.

    It stays near the others as long as less than half of the weight is elsewhere. An update whose
    length overflows counts as infinitely far away; if all do, it is their coordinate median.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        ``alpha``, one for each update, positive.
    smoothing
        ``nu``, as a multiple of the median distance, so that it fits updates of any length
        (absolute in the paper): nearer than this, an update pulls no harder.
    spans
        Columns that distances are taken over; ``None`` for all.

    Examples
    --------
    >>> corners = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 100.0]])
    >>> geometric_median(corners, np.ones(3)).round(4)  # Fermat's point: 2 / sqrt(3) high
    array([2.    , 1.1547])
    """
    stack = stacked(updates)
    shares = checked_weights(weights, stack.num_rows)
    products = gram(stack, spans)
    rows = bounded(products)
    if rows.size == 0:
        return coordinate_median(stack, weights)
    coefficients = np.zeros(stack.num_rows)
    coefficients[rows] = median_coefficients(products[np.ix_(rows, rows)], shares[rows], smoothing)
    return combination(stack, coefficients)


def median_coefficients(products: Numbers, shares: Numbers, smoothing: float) -> Numbers:
    """Return the coefficients, adding up to one, of the rows in their geometric median.

    Parameters
    ----------
    products
        Inner products of the rows.
    shares
        Positive weight of each row.
    smoothing
        As in `geometric_median`.
    """
    coefficients = _start(products, shares)
    floor = smoothing * float(np.median(distances_to(products, coefficients)))
    for _ in range(MAX_ITERATIONS):
        distances = np.maximum(distances_to(products, coefficients), floor)
        if not distances.all():  # without smoothing, or more than half of the rows coincide
            distances = np.maximum(distances, np.finfo(np.float64).tiny)
        # Relative to the nearest, pulls are at most one and cannot overflow.
        pulls = shares * (distances.min() / distances)
        before, coefficients = coefficients, pulls / pulls.sum()
        if np.abs(coefficients - before).sum() <= _TOLERANCE:
            break
    return coefficients


def _start(products: Numbers, shares: Numbers) -> Numbers:
    """Return the mean of the more central half.

    From the mean of all, far updates would take many iterations to lose their hold.
    """
    total_distances = np.sqrt(squared_distances(products)) @ shares
    order = np.argsort(total_distances, kind="stable")
    # More than half: of two equal updates both, since any point between them is a median.
    count = int(np.searchsorted(np.cumsum(shares[order]), shares.sum() / 2, side="right")) + 1
    coefficients = np.zeros(len(shares))
    coefficients[order[:count]] = shares[order[:count]]
    coefficients /= coefficients.sum()
    return coefficients
