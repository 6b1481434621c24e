"""Members that train in one computation: their examples in one place, their batches, their rates.

Members are sorted by their steps, longest first, so that those that still train are always the
first ones: a slice of every stack, and never a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daafl.learning.batches import Indices, spread
from daafl.learning.examples import Examples
from daafl.learning.judge import Judge
from daafl.learning.member import Member, NotBatched
from daafl.learning.schedule import schedule
from daafl.learning.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Rates:
    """Settings of the members' training, one value for each; see `LocalWork`.

    Shape of each: ``[members]``.
    """

    lr: npt.NDArray[np.float64]
    momentum: npt.NDArray[np.float64]
    weight_decay: npt.NDArray[np.float64]
    proximal_mu: npt.NDArray[np.float64]

    @property
    def is_plain(self) -> bool:
        """Whether a step is the gradient times the learning rate, for every member."""
        return not (self.momentum.any() or self.weight_decay.any() or self.proximal_mu.any())


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the members that still train.

    Attributes
    ----------
    live
        How many they are: the first ``live`` ones.
    rows
        Where the examples of their batches lie. Shape ``[live * width]``.
    shares
        Weight of each example in its batch. Shape ``[live, width]``.
    """

    live: int
    rows: Tensor
    shares: Tensor


@dataclass(frozen=True, eq=False)
class Chunk:
    """Members that train together.

    Attributes
    ----------
    inputs, targets
        Examples of all members, one member after the other; first axis of length ``rows``.
    sizes
        Number of examples of each member.
    limits
        Examples that the loss of each member is measured on at most.
    steps
        What is computed together, in order.
    rates
        Settings, for each member.
    """

    inputs: Tensor
    targets: Tensor
    sizes: Indices
    limits: Indices
    steps: tuple[Step, ...]
    rates: Rates

    @property
    def num_members(self) -> int:
        """Number of members."""
        return len(self.sizes)

    def judged(self) -> tuple[Tensor, Tensor, Indices]:
        """Return the examples that losses are measured on, at most ``limits`` for each member.

        Returns
        -------
        tuple
            Inputs, targets, and how many of them each member has.
        """
        counts = np.minimum(self.sizes, self.limits)
        if np.array_equal(counts, self.sizes):
            return self.inputs, self.targets, counts
        starts = np.cumsum(self.sizes) - self.sizes
        columns = zip(starts, self.sizes, counts, strict=True)
        chosen = [start + spread(size, count) for start, size, count in columns]
        rows = torch.from_numpy(np.concatenate(chosen)).to(self.inputs.device)
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows), counts


def chunk(
    members: Sequence[Member], judge: Judge, device: torch.device, workspace: Workspace
) -> Chunk:
    """Return members that are sorted by their steps, longest first, as one computation.

    Parameters
    ----------
    members
        Who trains.
    judge
        Knows what tensors the model takes.
    device
        Where it trains.
    workspace
        Where the examples are put together; it must stay until the training is over.

    Raises
    ------
    NotBatched
        If their examples do not fit together.
    DataError
        If there is no example, or something that is not a number.
    """
    inputs, targets = _pooled([member.examples for member in members], judge, workspace)
    works = [member.work for member in members]
    sizes = np.array([len(member.examples) for member in members])
    steps = np.array([work.steps for work in works])
    plan = schedule(
        np.array([member.key for member in members], np.uint64),
        sizes=sizes,
        batch_sizes=np.array([work.batch_size for work in works]),
        steps=steps,
    )
    starts = np.cumsum(sizes) - sizes
    rows = torch.from_numpy(plan.indices + starts[:, None]).to(device)
    shares = torch.from_numpy(plan.shares).to(device, judge.dtype)
    live = (plan.counts > 0).sum(1).tolist()
    return Chunk(
        inputs.to(device),
        targets.to(device),
        sizes,
        np.array([work.judged_examples for work in works]),
        tuple(
            Step(count, row[:count].reshape(-1), share[:count])
            for count, row, share in zip(live, rows.unbind(), shares.unbind(), strict=True)
        ),
        Rates(
            *(
                np.array([getattr(work, name) for work in works], np.float64)
                for name in ("lr", "momentum", "weight_decay", "proximal_mu")
            )
        ),
    )


def _pooled(parts: Sequence[Examples], judge: Judge, workspace: Workspace) -> tuple[Tensor, Tensor]:
    if all(map(len, parts)):
        inputs = _concatenated("inputs", [part.inputs for part in parts], workspace)
        targets = _concatenated("targets", [part.targets for part in parts], workspace)
        if inputs is not None and targets is not None:
            return judge.tensors(Examples(inputs, targets))
    tensors = [judge.tensors(part) for part in parts]
    kinds = {(x.shape[1:], x.dtype, y.shape[1:], y.dtype) for x, y in tensors}
    if len(kinds) > 1:
        raise NotBatched("examples of different nodes have different shapes or number types")
    return torch.cat([own for own, _ in tensors]), torch.cat([own for _, own in tensors])


def _concatenated(
    name: str, parts: Sequence[object], workspace: Workspace
) -> npt.NDArray[Any] | None:
    """Return numpy arrays of one kind put together in the workspace; ``None`` for other parts."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    kinds = {(array.shape[1:], array.dtype) for array in arrays}
    if len(arrays) < len(parts) or len(kinds) > 1:
        return None
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    out = workspace.array(name, shape, arrays[0].dtype)
    return np.concatenate(arrays, out=out)
