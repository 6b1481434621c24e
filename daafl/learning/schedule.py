"""The batches of many trainings at once: those of `daafl.learning.batches`, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.keyed_random import Keys, mixed
from daafl.learning.batches import Indices

_HASHED_AT_ONCE: Final = 1 << 20  # examples; bounds the memory for shuffling
_LAST: Final = np.uint64(2**64 - 1)  # sorts what pads a row behind the examples


@dataclass(frozen=True, eq=False)
class Schedule:
    """Which examples go into which step of each of several trainings.

    Attributes
    ----------
    indices
        Examples of each batch, counted within each member. What pads a batch repeats its first
        example, so that it brings in no value that the batch does not have. Shape
        ``[steps, members, width]``.
    counts
        Examples in each batch; 0 where a member has fewer steps. Shape ``[steps, members]``.
    """

    indices: Indices
    counts: Indices

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Weight of each example in the mean over its batch: 1 / count, and 0 for padding."""
        inside = np.arange(self.indices.shape[2]) < self.counts[:, :, None]
        return inside / np.maximum(self.counts, 1)[:, :, None]


def schedule(
    keys: Keys, *, sizes: Indices, batch_sizes: Indices, steps: Indices, least: int = 1
) -> Schedule:
    """Return what `batches` yields for each of several members.

    Parameters
    ----------
    keys, sizes, batch_sizes, steps
        Key, number of examples, batch size and number of batches of each member.
    least
        Fewest examples that a batch may hold, if there are as many.

    Examples
    --------
    >>> one = np.ones(2, np.int64)
    >>> keys = one.astype(np.uint64)
    >>> plan = schedule(keys, sizes=5 * one, batch_sizes=2 * one, steps=np.array([4, 1]))
    >>> plan.counts.T.tolist()
    [[2, 2, 1, 2], [2, 0, 0, 0]]
    """
    per_epoch = np.maximum((sizes - batch_sizes - least) // batch_sizes + 2, 1)
    orders, row_starts, first_rows = _orders(keys, sizes, batch_sizes, steps, per_epoch)
    step = np.arange(steps.max())[:, None]
    epoch, number = np.divmod(step, per_epoch)
    is_live = step < steps
    start = number * batch_sizes
    count = np.where(number == per_epoch - 1, sizes - start, batch_sizes)
    count *= is_live
    first = row_starts[first_rows + epoch * is_live] + start * is_live
    position = np.arange(count.max())
    inside = position < count[:, :, None]
    return Schedule(orders[first[:, :, None] + position * inside], count)


def _orders(
    keys: Keys, sizes: Indices, batch_sizes: Indices, steps: Indices, per_epoch: Indices
) -> tuple[Indices, Indices, Indices]:
    """Return the orders of all epochs, where each begins, and each member's first epoch."""
    epochs = -(-steps // per_epoch)
    ends = np.cumsum(epochs)
    first_rows = ends - epochs
    member = np.repeat(np.arange(len(sizes)), epochs)
    epoch = np.arange(ends[-1]) - first_rows[member]
    row_sizes = sizes[member]
    # The last epoch may end early, and then no more of its order is kept than is used.
    last_batches = steps - (epochs - 1) * per_epoch
    used = np.where(last_batches == per_epoch, sizes, last_batches * batch_sizes)
    kept = np.where(epoch == epochs[member] - 1, used[member], row_sizes)
    starts = np.cumsum(kept) - kept
    orders = np.empty(int(kept.sum()), np.int64)
    for rows in _blocks(row_sizes):
        examples = np.arange(row_sizes[rows].max())
        hashes = mixed(keys[member[rows], None], epoch[rows, None], examples)
        hashes[examples >= row_sizes[rows, None]] = _LAST
        inside = examples < kept[rows, None]
        target = starts[rows, None] + examples
        orders[target[inside]] = np.argsort(hashes, axis=1)[inside]
    return orders, starts, first_rows


def _blocks(sizes: Indices) -> list[Indices]:
    """Return rows put together so that padding them to one length costs little."""
    rows = np.arange(len(sizes))
    if len(rows) * int(sizes.max()) <= _HASHED_AT_ONCE // 16:
        return [rows]
    rows = np.argsort(sizes, kind="stable")
    magnitudes = np.frexp(sizes[rows].astype(np.float64))[1]
    blocks = []
    for part in np.split(rows, np.flatnonzero(np.diff(magnitudes)) + 1):
        length = max(_HASHED_AT_ONCE // int(sizes[part].max()), 1)
        blocks += [part[begin : begin + length] for begin in range(0, len(part), length)]
    return blocks
