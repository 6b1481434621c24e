"""Trains the members of a cohort by a given method, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daafl.learning.batches import Indices
from daafl.learning.choice import Method
from daafl.learning.chunk import Chunk, chunk
from daafl.learning.dense_stack import DenseStack
from daafl.learning.functional_stack import FunctionalStack
from daafl.learning.layout import Packed, Vector
from daafl.learning.member import Member, NotBatched
from daafl.learning.stack_export import packed_rows, weighted_sum
from daafl.learning.trainer import TorchTrainer
from daafl.learning.workspace import Workspace

Stack: TypeAlias = DenseStack | FunctionalStack
Losses: TypeAlias = npt.NDArray[np.float64]

FAILURES: Final = (
    NotBatched,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch and users' code raise on a computation that they cannot do."""

MOST_MEMBERS: Final = 256
"""Members of a chunk at most; more no longer pay."""

LEAST_MEMBERS: Final = 8

CHUNK_BYTES: Final = 8 << 20
"""Weights of a chunk on a CPU, so that they stay in its caches."""

BYTES_PER_WEIGHT_BYTE: Final = 8
"""Memory of a GPU for weights, gradients, velocities, and as much again for activations."""

JUDGED_AT_ONCE: Final = 4096
"""Examples in one forward pass that measures losses."""


@dataclass(frozen=True, eq=False)
class CohortTrained:
    """What the members' training gives; rows are in their order.

    Attributes
    ----------
    packed
        Trained models. Shape ``[members, layout.num_bytes]``.
    loss_before
        As `Trained.loss_before`. Shape ``[members]``.
    num_examples
        Examples that each member has.
    steps
        Steps that each member did.
    """

    packed: npt.NDArray[np.uint8]
    loss_before: Losses
    num_examples: Indices
    steps: Indices


@dataclass(frozen=True, eq=False)
class CohortSum:
    """What the members' training gives together.

    Attributes
    ----------
    delta
        Trained minus sent values, averaged over the members' examples.
    num_examples
        Examples that all members have.
    loss
        Mean of the losses before, over the members' examples.
    steps
        Steps that each member did.
    """

    delta: Vector
    num_examples: int
    loss: float
    steps: Indices


class Computation:
    """Training of cohorts by whatever method is asked for.

    Parameters
    ----------
    trainer
        Trains one member after the other, and knows the model.
    device
        Where stacks of members' models are trained.
    dtype
        Number type of the products in them.
    """

    def __init__(self, trainer: TorchTrainer, device: torch.device, dtype: torch.dtype) -> None:
        self.trainer = trainer
        self.dtype = dtype
        self._device = device
        self._workspace = Workspace()
        self._stacks: dict[Method, Stack] = {}

    @property
    def chunk_size(self) -> int:
        """Members that train in one computation, at most."""
        num_bytes = self.trainer.layout.num_bytes
        if self._device.type == "cuda":
            free_bytes, _ = torch.cuda.mem_get_info(self._device)
            return max(free_bytes // (BYTES_PER_WEIGHT_BYTE * num_bytes), 1)
        return min(max(CHUNK_BYTES // num_bytes, LEAST_MEMBERS), MOST_MEMBERS)

    def stack(self, method: Method) -> Stack:
        """Return what trains stacks by a method.

        Raises
        ------
        NotBatched
            If it cannot train this task.
        """
        if method not in self._stacks:
            make = DenseStack if method == "dense" else FunctionalStack
            module = self.trainer.loaded(self.trainer.untrained)
            self._stacks[method] = make(self.trainer.task, module, self.dtype)
        return self._stacks[method]

    def train(
        self, method: Method, packed: Packed, members: Sequence[Member], *, strictly: bool = False
    ) -> CohortTrained:
        """Return every member's model after its training; see `CohortTrainer.train`.

        Parameters
        ----------
        method
            How.
        packed
            The model that was sent; stays as it is.
        members
            Who trains.
        strictly
            Raise one of `FAILURES` where members cannot be trained in one computation, in place of
            training one after the other.
        """
        layout = self.trainer.layout
        rows = np.empty((len(members), layout.num_bytes), np.uint8)
        losses = np.empty(len(members))
        for positions in _chunks(members, self.chunk_size):
            own = [members[position] for position in positions]
            done = self._batched(method, packed, own, strictly)
            if done is not None:
                losses[positions], stacks = done
                packed_rows(rows, positions, packed, stacks, layout)
            else:
                for position, member in zip(positions, own, strict=True):
                    rows[position], losses[position] = self._single(packed, member)
        return CohortTrained(rows, losses, _sizes(members), _steps(members))

    def summed(self, method: Method, packed: Packed, members: Sequence[Member]) -> CohortSum:
        """Return the mean update of all members, without a model for each."""
        layout = self.trainer.layout
        sent = layout.vector(packed)
        sizes = _sizes(members)
        shares = sizes / sizes.sum()
        delta = np.zeros(layout.num_parameters)
        loss = 0.0
        for positions in _chunks(members, self.chunk_size):
            own = [members[position] for position in positions]
            done = self._batched(method, packed, own, strictly=False)
            if done is not None:
                losses, stacks = done
                weighted_sum(delta, shares[positions], sent, stacks, layout)
                loss += float(shares[positions] @ losses)
            else:
                for share, member in zip(shares[positions], own, strict=True):
                    trained, loss_before = self._single(packed, member)
                    delta += share * (layout.vector(trained) - sent)
                    loss += share * loss_before
        return CohortSum(delta.astype(layout.dtype), int(sizes.sum()), loss, _steps(members))

    def _batched(
        self, method: Method, packed: Packed, members: Sequence[Member], strictly: bool
    ) -> tuple[Losses, dict[str, Tensor]] | None:
        """Return losses and stacks of members sorted by their steps; ``None`` to train each."""
        if method == "eager":
            return None
        try:
            stack = self.stack(method)
            module = self.trainer.loaded(packed)
            weights = {
                name: value.detach().to(self._device)
                for name, value in (*module.named_parameters(), *module.named_buffers())
            }
            with torch.no_grad() if isinstance(stack, DenseStack) else nullcontext():
                work = chunk(members, self.trainer.judge, self._device, self._workspace)
                return _mean_losses(stack, weights, work), stack.train(weights, work)
        except FAILURES:
            if strictly:
                raise
            return None  # one after the other, which works or says clearly what does not fit

    def _single(self, packed: Packed, member: Member) -> tuple[Packed, float]:
        trained = self.trainer.train(packed, member.examples, member.work, member.key)
        return trained.packed, trained.loss_before


def _chunks(members: Sequence[Member], size: int) -> Iterator[Indices]:
    """Yield positions of members that train together, those with the most steps first.

    Batches of a chunk are padded to the largest, so small batches have chunks of their own.
    """
    sizes, steps = _sizes(members), _steps(members)
    widths = np.minimum([member.work.batch_size for member in members], sizes)
    magnitudes = (np.frexp(widths.astype(np.float64))[1] + 1) // 2  # powers of four
    order = np.lexsort((-steps, magnitudes))
    for part in np.split(order, np.flatnonzero(np.diff(magnitudes[order])) + 1):
        for start in range(0, len(part), size):
            yield part[start : start + size]


def _mean_losses(stack: Stack, weights: Mapping[str, Tensor], work: Chunk) -> Losses:
    inputs, targets, counts = work.judged()
    pairs = zip(
        torch.split(inputs, JUDGED_AT_ONCE), torch.split(targets, JUDGED_AT_ONCE), strict=True
    )
    parts = [stack.losses(weights, own, labels) for own, labels in pairs]
    losses = torch.cat(parts).to("cpu", torch.float64).numpy()
    sums: Losses = np.add.reduceat(losses, np.cumsum(counts) - counts)
    return sums / counts


def _sizes(members: Sequence[Member]) -> Indices:
    return np.array([len(member.examples) for member in members], np.int64)


def _steps(members: Sequence[Member]) -> Indices:
    return np.array([member.work.steps for member in members], np.int64)
