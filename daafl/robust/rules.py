"""The weighted mean, which is not robust, and every rule by name.

The names stand for rules as they are commonly set: against at most three in ten malicious updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from daafl.learning.layout import Vector
from daafl.robust.bucketing import bucketed
from daafl.robust.centred_clipping import centred_clipping
from daafl.robust.coordinates import coordinate_median, trimmed_mean
from daafl.robust.geometric_median import geometric_median
from daafl.robust.krum import krum, multi_krum
from daafl.robust.stack import Numbers, Rule, Updates, checked_weights, combination, stacked


def mean(updates: Updates, weights: Numbers) -> Vector:
    """Return the weighted mean of updates.

    Parameters
    ----------
    updates
        ``[num_updates, num_parameters]``.
    weights
        One for each update, positive.

    Examples
    --------
    >>> import numpy as np
    >>> mean(np.array([[1.0], [5.0]]), np.array([3.0, 1.0]))
    array([2.])
    """
    stack = stacked(updates)
    return combination(stack, checked_weights(weights, stack.num_rows))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "mean": mean,
        "median": coordinate_median,
        "trimmed_mean": partial(trimmed_mean, share=0.3),
        "krum": krum,
        "multi_krum": multi_krum,
        "geometric_median": geometric_median,
        "centred_clipping": centred_clipping,
        "bucketing": bucketed(geometric_median),
    }
)
"""Rules by name.

Centred clipping starts from zero here, as a rule keeps nothing from one call to the next. Bucketing
takes the geometric median of the means of random pairs, of which more are malicious than of the
updates: at worst six in ten, if three in ten updates are.
"""
