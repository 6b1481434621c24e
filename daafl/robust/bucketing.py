"""Bucketing: a rule over the means of small random groups of updates.

Source: Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing",
ICLR 2022 (arXiv 2006.09365), Algorithm 1. Symbols: ``s`` is the size of a bucket, ``delta`` the
share of malicious updates. Means of ``s`` honest updates differ less between nodes with different
data than the updates do; in return a rule meets up to ``s delta`` malicious buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.robust.stack import Numbers, Rule, Stack, Updates, checked_weights, stacked


def bucketed(rule: Rule, size: int = 2, seed: int | Sequence[int] = 0) -> Rule:
    """Return a rule that applies ``rule`` to the plain means of random buckets.

    The means are not stored: they are made block by block as the rule looks at them.

    Parameters
    ----------
    rule
        A rule that takes a `Stack`; all in this package do.
    size
        ``s``, updates in a bucket; the last one may hold fewer.
    seed
        Decides who shares a bucket, together with the number of updates.

    Returns
    -------
    rule
        The weight of a bucket is the sum of its updates' weights.

    Raises
    ------
    DataError
        If the size is not positive.

    Examples
    --------
    >>> from daafl.robust.coordinates import coordinate_median
    >>> updates = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> bucketed(coordinate_median, size=4)(updates, np.ones(4))
    array([2.5])
    """
    if size < 1:
        raise DataError(f"a bucket is to hold {size} updates; it must be at least one")

    def over_buckets(updates: Updates, weights: Numbers) -> Vector:
        stack = stacked(updates)
        checked_weights(weights, stack.num_rows)
        buckets, order = bucket(stack, size, seed)
        sums = np.add.reduceat(np.asarray(weights, np.float64)[order], buckets.starts)
        return rule(buckets, sums)

    return over_buckets


def bucket(
    stack: Stack, size: int, seed: int | Sequence[int]
) -> tuple[Stack, npt.NDArray[np.intp]]:
    """Return the means of random buckets of updates, and the updates' order in them."""
    order = np.random.default_rng(seed).permutation(stack.num_rows)
    firsts = np.arange(0, stack.num_rows, size)  # among the updates in their new order
    counts = np.diff(firsts, append=stack.num_rows)
    factors = np.repeat(1 / counts, counts)
    sizes = stack.sizes[order]
    runs = [np.arange(stack.starts[row], stack.starts[row] + stack.sizes[row]) for row in order]
    places = np.concatenate(runs)
    buckets = Stack(
        [stack.vectors[place] for place in places],
        stack.factors[places] * np.repeat(factors, sizes),
        np.concatenate([[0], np.cumsum(sizes)])[firsts],
    )
    return buckets, order
