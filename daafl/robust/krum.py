"""Krum and multi-Krum: the update, or the updates, closest to their neighbours.

Source: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NeurIPS 2017, Section 4. Symbols: ``n`` is the number of updates, ``f``
that of malicious ones. An update's score is the sum of its squared distances to the ``n - f - 2``
nearest others; smaller is better, and of equal scores the first counts. Unweighted, as there.

The rule needs ``n >= 2 f + 3``. A smaller cohort is taken to hold as many malicious updates as it
can bear, ``(n - 3) // 2``, and one or two updates are too few to compare: the result is then their
coordinate median.
"""

from __future__ import annotations

import math

import numpy as np

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.robust.coordinates import coordinate_median
from daafl.robust.stack import (
    Numbers,
    Spans,
    Updates,
    bounded,
    checked_weights,
    combination,
    gram,
    squared_distances,
    stacked,
)


def krum(
    updates: Updates,
    weights: Numbers,
    *,
    num_malicious: int | None = None,
    malicious_share: float = 0.3,
    spans: Spans | None = None,
) -> Vector:
    """Return the one update that lies closest to its neighbours.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        Not used.
    num_malicious, malicious_share
        ``f``, or as a share of the updates where ``num_malicious`` is ``None``; see `bearable`.
    spans
        Columns that distances are taken over; ``None`` for all.

    Raises
    ------
    DataError
        If the number or the share is out of range.

    Examples
    --------
    >>> updates = np.array([[1.0], [1.2], [1.3], [-7.0], [9.0]])
    >>> krum(updates, np.ones(5), num_malicious=1)  # scores .13, .05, .10, ...
    array([1.2])
    """
    return multi_krum(
        updates,
        weights,
        num_malicious=num_malicious,
        malicious_share=malicious_share,
        num_selected=1,
        spans=spans,
    )


def multi_krum(
    updates: Updates,
    weights: Numbers,
    *,
    num_malicious: int | None = None,
    malicious_share: float = 0.3,
    num_selected: int | None = None,
    spans: Spans | None = None,
) -> Vector:
    """Return the mean of the updates that lie closest to their neighbours.

    Parameters
    ----------
    updates, weights, num_malicious, malicious_share, spans
        As for `krum`.
    num_selected
        How many updates to average; at most, and with ``None`` exactly, ``n - f``.

    Raises
    ------
    DataError
        If a number or the share is out of range.

    Examples
    --------
    >>> updates = np.array([[1.0], [1.2], [1.3], [-7.0], [9.0]])
    >>> multi_krum(updates, np.ones(5), num_malicious=1, num_selected=2)
    array([1.25])
    """
    stack = stacked(updates)
    checked_weights(weights, stack.num_rows)
    num_bad = bearable(stack.num_rows, num_malicious, malicious_share)
    if num_selected is not None and num_selected < 1:
        raise DataError(f"multi-Krum is to select {num_selected} updates; it must be at least one")
    if stack.num_rows < 3:
        return coordinate_median(stack, weights)
    products = gram(stack, spans)
    rows = bounded(products)
    if rows.size == 0:
        return coordinate_median(stack, weights)
    most = stack.num_rows - num_bad
    count = most if num_selected is None else min(num_selected, most)
    scores = krum_scores(products, num_bad)
    chosen = rows[np.argsort(scores[rows], kind="stable")[:count]]
    coefficients = np.zeros(stack.num_rows)
    coefficients[chosen] = 1 / len(chosen)
    return combination(stack, coefficients)


def krum_scores(products: Numbers, num_malicious: int) -> Numbers:
    """Return the sum of squared distances of each row to its ``n - f - 2`` nearest others.

    A row that is too long for its inner products, and with it any distance, is infinitely far.
    """
    distances = squared_distances(products)
    distances[~np.isfinite(distances)] = np.inf
    np.fill_diagonal(distances, -1.0)  # sorts before all others, and is then left out
    nearest = np.sort(distances, axis=1)[:, 1 : len(products) - num_malicious - 1]
    scores: Numbers = nearest.sum(axis=1)
    return scores


def bearable(num_updates: int, num_malicious: int | None, malicious_share: float) -> int:
    """Return how many malicious updates to reckon with: as many as asked, if there is room.

    A share is rounded up, and the result is at most ``(n - 3) // 2``.

    Raises
    ------
    DataError
        If the number is negative, or the share is not in [0, 0.5).

    Examples
    --------
    >>> bearable(30, None, 0.2), bearable(30, 4, 0.2), bearable(10, 4, 0.2), bearable(2, 1, 0.2)
    (6, 4, 3, 0)
    """
    if num_malicious is not None and num_malicious < 0:
        raise DataError(f"Krum reckons with {num_malicious} malicious updates; at least 0 are due")
    if not 0 <= malicious_share < 0.5:
        raise DataError(
            f"Krum reckons with a malicious share of {malicious_share}; it must be at least 0 and "
            "below 0.5"
        )
    # 0.07 * 100 is slightly above 7, and seven are meant.
    asked = (
        math.ceil(malicious_share * num_updates - 1e-9) if num_malicious is None else num_malicious
    )
    return max(0, min(asked, (num_updates - 3) // 2))
