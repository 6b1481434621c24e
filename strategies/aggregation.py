"""The weighted mean of updates, in one pass and constant memory.

The mean is bound by memory traffic, so a few updates are taken at a time and added block by block:
a block of the sum stays in the processor's cache while those updates pass through it. BLAS ``axpy``
does the adding, because NumPy needs a second pass for the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from scipy.linalg.blas import daxpy, saxpy

from daafl.errors import DataError
from daafl.learning.layout import Vector
from daafl.learning.update import Update

MAX_HELD_UPDATES: Final = 16
MAX_HELD_BYTES: Final = 64 * 2**20
_BLOCK: Final = 1 << 17  # values of the sum that are worked on at a time

_AXPY: Final[dict[np.dtype[Any], Callable[..., Any]]] = {
    np.dtype(np.float32): saxpy,
    np.dtype(np.float64): daxpy,
}


def weighted_mean(updates: Iterable[Update]) -> tuple[Vector, float]:
    """Return the mean of damped deltas, weighted by examples, and the sum of the weights.

    Besides the sum, at most 16 updates and at most 64 MiB of them (one update, if it is larger)
    are held at a time, so an iterator is consumed as it goes. Updates are added in the order given,
    in their own number type. NaN and infinity come through, also under a weight that vanishes.

    Parameters
    ----------
    updates
        One or more, all of the same length and number type (float32 or float64).

    Returns
    -------
    mean
        ``sum(n_i * damping_i * delta_i) / sum(n_i)``, shape ``[num_parameters]``.
    total
        ``sum(n_i)``: damping is no weight, it shortens the step.

    Raises
    ------
    DataError
        If there is no update, a weight is not positive and finite, or lengths or types differ.

    Examples
    --------
    >>> one = Update(np.array([1.0, 0.0]), 30, (0,), 0, {})
    >>> two = Update(np.array([0.0, 1.0]), 10, (1,), 0, {}, damping=0.5)
    >>> weighted_mean([one, two])
    (array([0.75 , 0.125]), 40.0)
    """
    rest = iter(updates)
    update = next(rest, None)
    if update is None:
        raise DataError("a mean needs at least one update, and there is none")
    mean = _zeros_like(update)
    # Weights relative to the first keep the sum within the range of the updates themselves.
    unit = _weight(update)
    total = 0.0
    held: list[Update] = []
    num_bytes = 0
    while update is not None:
        _check_alike(update, mean)
        size = _nbytes(update)
        if len(held) == MAX_HELD_UPDATES or num_bytes + size > MAX_HELD_BYTES:
            _add(mean, held, unit)
            held.clear()
            num_bytes = 0
        held.append(update)
        num_bytes += size
        total += _weight(update)
        update = next(rest, None)
    _add(mean, held, unit)
    with np.errstate(all="ignore"):
        mean *= mean.dtype.type(unit / total)
    return mean, total


def _add(total: Vector, updates: list[Update], unit: float) -> None:
    """Add each damped delta times its weight, in units of ``unit``, to ``total`` in place."""
    axpy = _AXPY[total.dtype]
    terms = [
        (np.ascontiguousarray(update.delta), update.damping * (_weight(update) / unit))
        for update in updates
    ]
    for start in range(0, total.size, _BLOCK):
        count = min(_BLOCK, total.size - start)
        for vector, factor in terms:
            if total.dtype.type(factor) == 0:
                # BLAS skips a zero factor, and with it any NaN in the vector.
                with np.errstate(invalid="ignore"):
                    total[start : start + count] += 0 * vector[start : start + count]
            else:
                axpy(vector, total, n=count, a=factor, offx=start, offy=start)


def _zeros_like(update: Update) -> Vector:
    delta = update.delta
    if delta.ndim != 1 or delta.dtype not in _AXPY:
        raise DataError(
            f"an update has {delta.ndim} dimensions of type {delta.dtype}; it must be "
            "one-dimensional, of float32 or float64"
        )
    return np.zeros_like(delta)


def _nbytes(update: Update) -> int:
    return update.delta.nbytes + (0 if update.received is None else update.received.nbytes)


def _weight(update: Update) -> float:
    weight = float(update.num_examples)
    if not (weight > 0 and math.isfinite(weight)):
        raise DataError(
            f"the update of {update.senders} has weight {weight}; it must be positive and finite"
        )
    return weight


def _check_alike(update: Update, mean: Vector) -> None:
    found, expected = update.delta, mean
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise DataError(
            f"the update of {update.senders} has shape {found.shape} and type {found.dtype}; "
            f"expected {expected.shape} and {expected.dtype}"
        )
