"""Rules that look at each coordinate by itself: its median, or its mean without the extremes.

Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018 (arXiv 1803.01498), Definitions 1 and 2. Both are unweighted, as
there: a weight is a claim, and with it one update could outvote the others.

A block of columns is turned so that the values of a coordinate lie side by side, and these short
runs are sorted: NumPy does that with vector instructions, faster than it selects from them, and
much faster than along the first axis, where it gathers every coordinate from far apart. NaN sorts
behind infinity and is outvoted like any other extreme.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.robust.stack import Matrix, Numbers, Spans, Updates, blocks, checked_weights, stacked


def coordinate_median(updates: Updates, weights: Numbers, *, spans: Spans | None = None) -> Vector:
    """Return the median of every coordinate; of an even number, the middle of the inner two.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        Not used, see the module's docstring.
    spans
        Columns to compute; the others are zero. ``None`` for all.

    Examples
    --------
    >>> coordinate_median(np.array([[1.0, 5.0], [2.0, 9.0], [900.0, 7.0]]), np.ones(3))
    array([2., 7.])
    """
    stack = stacked(updates)
    checked_weights(weights, stack.num_rows)
    low, high = (stack.num_rows - 1) // 2, stack.num_rows // 2
    median = np.zeros(stack.num_columns, stack.dtype)
    with np.errstate(invalid="ignore"):  # the middle of two infinities that differ is NaN
        for part, ordered in _ordered(updates, spans):
            # Halved first: the sum of two large numbers could overflow.
            median[part] = ordered[:, low] * 0.5 + ordered[:, high] * 0.5
    return median


def trimmed_mean(updates: Updates, weights: Numbers, *, share: float = 0.2) -> Vector:
    """Return the mean of every coordinate without its largest and smallest values.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        Not used, see the module's docstring.
    share
        Share of the updates left out at either end, rounded down to whole updates, in [0, 0.5).

    Raises
    ------
    DataError
        If the share is out of range.

    Examples
    --------
    >>> trimmed_mean(np.array([[1.0], [2.0], [3.0], [900.0]]), np.ones(4), share=0.25)
    array([2.5])
    """
    if not 0 <= share < 0.5:
        raise DataError(f"the trimmed share is {share}; it must be at least 0 and below 0.5")
    stack = stacked(updates)
    checked_weights(weights, stack.num_rows)
    cut = int(share * stack.num_rows)
    count = stack.num_rows - 2 * cut
    # A product with shares is one pass, where NumPy's mean starts anew for every short run.
    shares = np.full(count, 1 / count, stack.dtype)
    mean = np.zeros(stack.num_columns, stack.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for part, ordered in _ordered(updates, None):
            np.matmul(ordered[:, cut : cut + count], shares, out=mean[part])
    return mean


def _ordered(updates: Updates, spans: Spans | None) -> Iterator[tuple[slice, Matrix]]:
    """Yield runs of columns with the sorted values of each, ``[num_columns, num_updates]``.

    The next run overwrites the values of the last one.
    """
    stack = stacked(updates)
    memory = np.empty(0, stack.dtype)
    for start, stop, block in blocks(stack, stack.dtype, spans):
        if memory.size < block.size:
            memory = np.empty(block.size, stack.dtype)
        turned = memory[: block.size].reshape(block.shape[::-1])
        turned[...] = block.T
        turned.sort(axis=1)
        yield slice(start, stop), turned
