"""Takes the models of many members out of stacks of their parameters."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daafl.learning.batches import Indices
from daafl.learning.layout import Layout, Packed, Vector


def packed_rows(
    rows: npt.NDArray[np.uint8],
    positions: Indices,
    packed: Packed,
    stacks: Mapping[str, Tensor],
    layout: Layout,
) -> None:
    """Write members' trained models into their rows, in place.

    Parameters
    ----------
    rows
        Packed models of a whole cohort. Shape ``[cohort, layout.num_bytes]``.
    positions
        Row of each member of the stacks.
    packed
        The model that was sent, which gives what no stack holds.
    stacks
        Trained parameters by name, member axis first.
    layout
        Layout of the model.
    """
    if len(stacks) < len(layout.entries):
        rows[positions] = packed
    for entry, start in zip(layout.entries, layout.offsets, strict=True):
        if entry.name in stacks:
            end = start + entry.size * entry.numpy_dtype.itemsize
            values = stacks[entry.name].detach().reshape(len(positions), -1).cpu().numpy()
            rows[:, start:end].view(entry.numpy_dtype)[positions] = values


def weighted_sum(
    total: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    sent: Vector,
    stacks: Mapping[str, Tensor],
    layout: Layout,
) -> None:
    """Add members' updates, times their weights, to a total, in place.

    Parameters
    ----------
    total
        Sum of updates. Shape ``[layout.num_parameters]``.
    weights
        Weight of each member of the stacks.
    sent
        The model that was sent, as a vector.
    stacks
        Trained parameters by name, member axis first.
    layout
        Layout of the model.
    """
    start = 0
    for entry in layout.entries:
        end = start + entry.size
        if entry.name in stacks:
            values = stacks[entry.name].detach().flatten(1) if entry.shape else stacks[entry.name]
            own = torch.from_numpy(weights).to(values)
            added = (own @ values.reshape(len(own), -1)).to("cpu", torch.float64).numpy()
            total[start:end] += added - weights.sum() * sent[start:end]
        start = end
