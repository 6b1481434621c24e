"""Private training of many nodes' dense models as one computation.

It gives what `daafl.learning.private.trained_privately` gives for each node, up to rounding: every
node has a keystream of its own, from which come, step by step, its sample and its noise. Gradients
are clipped by the analytic norms of `daafl.privacy.ghost`, so none is made for a single example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daafl.errors import DataError
from daafl.learning.chunk import Rates
from daafl.learning.dense_layers import DenseChain
from daafl.learning.layout import Packed
from daafl.learning.member import Member, NotBatched
from daafl.learning.stack_export import packed_rows
from daafl.learning.stacked_descent import StackedDescent
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.privacy.dpsgd import SampleLevel, sampling_rate
from daafl.privacy.gaussian import noise_rows
from daafl.privacy.ghost import DenseStack, clipped_sums
from daafl.privacy.keystream import Keystream, poisson_sample

Rows: TypeAlias = npt.NDArray[np.uint8]
Flat: TypeAlias = npt.NDArray[np.float64]

STACK_BYTES: Final = 8 << 20
"""Gradients of a stack, in doubles, so that they stay in a core's caches."""

MOST_MEMBERS: Final = 64


@dataclass(frozen=True, eq=False)
class PrivateMember:
    """One node's part.

    Attributes
    ----------
    member
        Its examples and its work.
    privacy
        Clipping and noise; all members of a stack have the same bound, and all or none have noise.
    keystream
        Where its samples and noise come from.
    """

    member: Member
    privacy: SampleLevel
    keystream: Keystream


class PrivateStack:
    """Trains stacks of a dense model.

    Parameters
    ----------
    trainer
        Whose task and model they are.

    Raises
    ------
    NotBatched
        If the model is no chain of linear layers, or the loss is the task's own; the nodes are
        trained one after the other then.
    """

    def __init__(self, trainer: TorchTrainer) -> None:
        task = trainer.task
        if type(task).loss is not Task.loss or "loss" in vars(task):
            raise NotBatched("the task has a loss of its own")
        module = trainer.loaded(trainer.untrained)
        self._chain = DenseChain.of(module)
        self._trainer = trainer
        self._names = [name for name, p in module.named_parameters() if p.requires_grad]
        own = [name for layer in self._chain.layers for name in (layer.weight, layer.bias) if name]
        if set(own) != set(self._names):
            raise NotBatched("it has parameters beside those of its linear layers")

    def train(self, packed: Packed, members: Sequence[PrivateMember]) -> Rows:
        """Return every member's model after its training, shape ``[members, layout.num_bytes]``.

        Parameters
        ----------
        packed
            The model that was sent; stays as it is.
        members
            Who trains.

        Raises
        ------
        DataError
            If a member has no example, or examples, model and loss do not fit together.
        NotBatched
            If inputs are not one row of numbers for each example.
        """
        layout = self._trainer.layout
        rows = np.empty((len(members), layout.num_bytes), np.uint8)
        size = min(max(STACK_BYTES // (8 * layout.num_parameters), 1), MOST_MEMBERS)
        # Those with the most steps come first, so that those that still train are the first ones.
        order = sorted(range(len(members)), key=lambda index: -members[index].member.work.steps)
        for start in range(0, len(order), size):
            positions = np.array(order[start : start + size], np.int64)
            own = [members[position] for position in positions]
            packed_rows(rows, positions, packed, self._trained(packed, own), layout)
        return rows

    def _trained(self, packed: Packed, members: Sequence[PrivateMember]) -> dict[str, Tensor]:
        module = self._trainer.loaded(packed)
        sent = dict(module.named_parameters())
        stacks = {
            name: sent[name].detach().repeat(len(members), *[1] * sent[name].dim())
            for name in self._names
        }
        examples = _Examples.of(self._trainer, members, flattens=self._chain.flattens)
        descent = StackedDescent(list(stacks.values()), _rates(members))
        steps = np.array([own.member.work.steps for own in members])
        draws = [_Draws.of(own) for own in members]
        for step in range(int(steps.max())):
            live = draws[: int(np.count_nonzero(steps > step))]
            gradients = self._gradients(stacks, examples, live)
            for index, gradient in enumerate(gradients):
                descent.step(index, gradient)
        return stacks

    def _gradients(
        self, stacks: dict[str, Tensor], examples: _Examples, live: Sequence[_Draws]
    ) -> Iterator[Tensor]:
        """Yield the noised mean gradients of a step, in the order of the parameters."""
        shapes = [stacks[name].shape[1:] for name in self._names]
        sizes = [shape.numel() for shape in shapes]
        flat = self._sums(stacks, examples, live)
        if any(own.noise_multiplier > 0.0 for own in live):
            noise_rows(
                flat,
                [own.noise_multiplier for own in live],
                sensitivity=live[0].bound,
                keystreams=[own.keystream for own in live],
            )
        flat /= np.array([[own.rate * own.size] for own in live])
        start = 0
        for shape, size in zip(shapes, sizes, strict=True):
            part = torch.from_numpy(flat[:, start : start + size]).float()
            yield part.reshape(len(live), *shape)
            start += size

    def _sums(self, stacks: dict[str, Tensor], examples: _Examples, live: Sequence[_Draws]) -> Flat:
        """Return the sums of clipped gradients, shape ``[live, parameters]``."""
        chosen = [poisson_sample(own.size, own.rate, own.keystream) for own in live]
        width = max(map(len, chosen))
        if width == 0:
            return np.zeros((len(live), sum(stacks[name][0].numel() for name in self._names)))
        inputs, targets, present = examples.batch(chosen, width)
        layers = self._chain.layers
        biases = [layer.bias for layer in layers]
        stack = DenseStack(
            [stacks[layer.weight][: len(live)] for layer in layers],
            [None if bias is None else stacks[bias][: len(live)] for bias in biases],
            [None if a is None else a.forward for a in (layer.activation for layer in layers)],
        )
        try:
            sums = clipped_sums(
                stack,
                inputs,
                targets,
                loss=self._trainer.task.loss,
                bound=live[0].bound,
                present=present,
            )
        except (IndexError, RuntimeError, ValueError) as error:
            sentence = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise DataError(
                f"task {self._trainer.task.name!r}: examples, model and loss do not fit together: "
                f"{sentence}"
            ) from error
        found: dict[str, Tensor] = {}
        for layer, weight, bias in zip(layers, sums.weights, sums.biases, strict=True):
            found[layer.weight] = weight
            if layer.bias is not None and bias is not None:
                found[layer.bias] = bias
        return torch.cat([found[name].flatten(1) for name in self._names], 1).numpy()


@dataclass(frozen=True, eq=False, slots=True)
class _Draws:
    """What a member's samples and noise are made with, in each step."""

    size: int
    rate: float
    bound: float
    noise_multiplier: float
    keystream: Keystream

    @classmethod
    def of(cls, own: PrivateMember) -> _Draws:
        size, level = len(own.member.examples), own.privacy
        rate = sampling_rate(size, own.member.work.batch_size)
        return cls(size, rate, level.bound, level.noise_multiplier, own.keystream)


@dataclass(frozen=True, eq=False)
class _Examples:
    """The examples of all members, one member after the other."""

    inputs: Tensor
    targets: Tensor
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, trainer: TorchTrainer, members: Sequence[PrivateMember], *, flattens: bool
    ) -> _Examples:
        pairs = [trainer.judge.tensors(own.member.examples) for own in members]
        sizes = np.array([len(targets) for _, targets in pairs])
        try:
            inputs = torch.cat([inputs for inputs, _ in pairs])
            targets = torch.cat([targets for _, targets in pairs])
        except RuntimeError as error:
            raise NotBatched("members' examples have different shapes") from error
        if flattens:
            inputs = inputs.flatten(1)
        if inputs.dim() != 2 or inputs.dtype != torch.float32 or targets.dim() != 1:
            raise NotBatched("its inputs are not one row of numbers for each example")
        return cls(inputs, targets, np.cumsum(sizes) - sizes)

    def batch(
        self, chosen: Sequence[npt.NDArray[np.int64]], width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs and targets ``[live, width, ...]``, and which of them are there."""
        rows = np.zeros((len(chosen), width), np.int64)
        present = np.zeros((len(chosen), width), bool)
        for index, own in enumerate(chosen):
            rows[index, : len(own)] = self.starts[index] + own
            present[index, : len(own)] = True
        flat = torch.from_numpy(rows.reshape(-1))
        inputs = self.inputs.index_select(0, flat).reshape(*rows.shape, -1)
        targets = self.targets.index_select(0, flat).reshape(rows.shape)
        return inputs, targets, torch.from_numpy(present)


def _rates(members: Sequence[PrivateMember]) -> Rates:
    work = [own.member.work for own in members]
    return Rates(
        lr=np.array([each.lr for each in work]),
        momentum=np.array([each.momentum for each in work]),
        weight_decay=np.array([each.weight_decay for each in work]),
        proximal_mu=np.array([each.proximal_mu for each in work]),
    )
