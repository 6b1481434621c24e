"""The bound that members of a sum keep to: nobody else can hold a hidden update to a length."""

from __future__ import annotations

import math

import numpy as np

from daafl.secure.quantisation import Reals


def shortened(delta: Reals, *, norm: float, bound: float | None) -> tuple[Reals, bool]:
    """Return a change of the model of at most the bound's length, and whether it was within it.

    All values shrink alike, those that are not counted as well, so that the change keeps its
    direction. Values are rounded towards zero by a few units in the last place, so that rounding
    does not take it over the bound.

    Parameters
    ----------
    delta
        Change of the model, one-dimensional.
    norm
        Euclidean length of the part of it that counts, not negative or not finite.
    bound
        Positive; ``None`` for none.

    Examples
    --------
    >>> shortened(np.array([3.0, 4.0]), norm=5.0, bound=10.0)
    (array([3., 4.]), True)
    >>> short, is_within = shortened(np.array([3.0, 4.0]), norm=5.0, bound=2.5)
    >>> short.round(9), is_within
    (array([1.5, 2. ]), False)
    """
    if bound is None or norm <= bound:
        return delta, True
    if not math.isfinite(norm):
        return delta, False
    shrink = bound / norm * (1.0 - 4.0 * float(np.finfo(delta.dtype).eps))
    return delta * delta.dtype.type(shrink), False
