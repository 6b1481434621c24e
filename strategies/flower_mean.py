"""The mean of models as Flower computes it, bit for bit, on packed models.

Flower adds ``weights * (n_i / n)`` array by array, in the arrays' own number type. The operations
are elementwise, so they are the same on all arrays laid out one behind the other, without a message
and four records for each update.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update


def flower_mean(layout: Layout, updates: Sequence[Update]) -> Packed | None:
    """Return the mean of the models in ``updates``, weighted by examples.

    Parameters
    ----------
    layout
        Of the model.
    updates
        One or more; each as it was received.

    Returns
    -------
    Packed or None
        ``None`` if an update has no model of its own, or the arrays have several number types.

    Examples
    --------
    >>> layout = Layout.of({"w": np.zeros(2, np.float32)})
    >>> models = [layout.pack({"w": np.full(2, value, np.float32)}) for value in (1.0, 5.0)]
    >>> updates = [
    ...     Update(np.zeros(2, np.float32), count, (0,), 0, {}, received=model)
    ...     for count, model in zip((30, 10), models)
    ... ]
    >>> layout.vector(flower_mean(layout, updates))
    array([2., 2.], dtype=float32)
    """
    if layout.dtype.kind != "f" or any(e.dtype != layout.dtype.name for e in layout.entries):
        return None
    models: list[Vector] = []
    for update in updates:
        if update.received is None:
            return None
        models.append(layout.vector(update.received))
    total = sum(update.num_examples for update in updates)
    factors = [layout.dtype.type(update.num_examples / total) for update in updates]
    with np.errstate(over="ignore", invalid="ignore"):  # the result is looked at by who asked
        mean = models[0] * factors[0]
        product = np.empty_like(mean)
        for model, factor in zip(models[1:], factors[1:], strict=True):
            np.multiply(model, factor, out=product)
            mean += product
    return layout.packed(mean)
