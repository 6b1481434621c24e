"""Where the arrays of a model lie in its flat vector."""

from __future__ import annotations

import itertools

from daafl.learning.layout import Layout


def slices(layout: Layout) -> list[tuple[str, int, int]]:
    """Return name, first position and the one after the last of each array, in order.

    Examples
    --------
    >>> import numpy as np
    >>> slices(Layout.of({"a": np.zeros((2, 3)), "b": np.zeros(4)}))
    [('a', 0, 6), ('b', 6, 10)]
    """
    ends = itertools.accumulate(entry.size for entry in layout.entries)
    return [
        (entry.name, end - entry.size, end) for entry, end in zip(layout.entries, ends, strict=True)
    ]
