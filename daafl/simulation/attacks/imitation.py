"""The federation's own screening as an attacker imagines it, for one step without a past."""

from __future__ import annotations

from typing import Final

import numpy as np

from daafl.learning.layout import Vector
from daafl.robust import Matrix, Stack, Updates
from daafl.robust.stack import Numbers, stacked
from daafl.robust.suspicion import suspicion

STEADY_LIMIT: Final = 1.5
"""Score that an attacker can show in every step without getting a bad record."""

LEAST_KEPT: Final = 0.55


def screened_mean(updates: Updates, weights: Numbers) -> Vector:
    """Return the weighted mean of the updates that do not stand out, clipped to a common length.

    An update stands out if one of its scores is above what can be shown step after step; at least
    55 % are kept. Norms are clipped to the median norm of those kept.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        One for each update, positive.
    """
    matrix = _matrix(updates)
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
    directions = (matrix / np.maximum(norms, np.finfo(np.float64).tiny)[:, None]).astype(np.float32)
    everyone = np.ones(len(matrix), dtype=bool)
    worst = suspicion(directions, norms, everyone).totals
    limit = max(STEADY_LIMIT, float(np.quantile(worst, LEAST_KEPT)))
    is_kept = worst <= limit
    factors = np.minimum(1.0, np.median(norms[is_kept]) / np.maximum(norms[is_kept], 1e-30))
    shares = weights[is_kept] / weights[is_kept].sum()
    mean: Vector = ((shares * factors) @ matrix[is_kept]).astype(matrix.dtype)
    return mean


def _matrix(updates: Updates) -> Matrix:
    if not isinstance(updates, Stack):
        return updates
    stack = stacked(updates)
    matrix = np.empty((stack.num_rows, stack.num_columns), stack.dtype)
    stack.fill(matrix, 0)
    return matrix
