"""Trains many members' models of any kind as one, with `torch.func`.

The model is called with the parameters of all members at once under `torch.func.vmap`, which turns
its operations into batched ones, and autograd gives the gradients of all of them. Each example's
loss is that of a batch of its own, so that what pads a batch can have no weight in the mean; a loss
that is no such mean is found out when this is compared with `TorchTrainer`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from daafl.learning.chunk import Chunk, Step
from daafl.learning.member import NotBatched
from daafl.learning.stacked_descent import StackedDescent
from daafl.learning.task import Task
from daafl.learning.trainer import BATCH_NORMS


class FunctionalStack:
    """Training of any model that `torch.func.vmap` can run.

    Parameters
    ----------
    task
        Whose loss it is.
    module
        The model.
    dtype
        Number type that `torch.autocast` computes in; float32 for no conversion.

    Raises
    ------
    NotBatched
        If what pads a batch would enter the statistics of the model.
    """

    def __init__(self, task: Task, module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        for part in module.modules():
            if isinstance(part, (*BATCH_NORMS, nn.SyncBatchNorm)):
                raise NotBatched(
                    f"it has a {type(part).__name__}, and what pads a batch would enter its "
                    "statistics"
                )
        self._task = task
        self._module = module
        self._dtype = dtype
        self._trained = {n: p for n, p in module.named_parameters() if p.requires_grad}

    def losses(self, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example under one model, without dropout.

        Parameters
        ----------
        weights
            Parameters and buffers by name, without a member axis.
        inputs, targets
            The examples.

        Raises
        ------
        NotBatched
            If the outputs are not one tensor with a row for each example.
        """
        self._module.eval()
        with torch.no_grad():
            return self._losses(weights, inputs, targets)

    def train(self, weights: Mapping[str, Tensor], chunk: Chunk) -> dict[str, Tensor]:
        """Return the trained parameters of all members, by name.

        Parameters
        ----------
        weights
            Parameters and buffers that were sent, by name; they stay as they are.
        chunk
            What the members do.

        Returns
        -------
        dict
            Shape of each: ``[members, ...]``.

        Raises
        ------
        NotBatched
            If the outputs are not one tensor with a row for each example.
        """
        self._module.train()
        # `repeat` makes a copy even for one member, where `expand` would be the sent model itself.
        stacks = {
            name: weights[name].detach().repeat(chunk.num_members, *[1] * weights[name].dim())
            for name in self._trained
        }
        fixed = {name: value for name, value in weights.items() if name not in stacks}
        descent = StackedDescent(list(stacks.values()), chunk.rates)

        def mean_loss(
            own: dict[str, Tensor], inputs: Tensor, targets: Tensor, shares: Tensor
        ) -> Tensor:
            return (self._losses({**fixed, **own}, inputs, targets) * shares).sum()

        batched = vmap(mean_loss, randomness="error")
        for step in chunk.steps:
            live = {
                name: stack[: step.live].detach().requires_grad_() for name, stack in stacks.items()
            }
            with warnings.catch_warnings():
                # Some operations run one member at a time; timing shows whether that is too slow.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                losses = batched(
                    live,
                    _batches(chunk.inputs, step),
                    _batches(chunk.targets, step),
                    step.shares,
                )
            gradients = torch.autograd.grad(losses.sum(), list(live.values()), allow_unused=True)
            for index, gradient in enumerate(gradients):
                if gradient is not None:
                    descent.step(index, gradient)
        return stacks

    def _losses(self, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(
            inputs.device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16
        ):
            outputs = functional_call(self._module, dict(weights), (inputs,))
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != inputs.shape[:1]:
            raise NotBatched("its output is not one tensor with a row for each example")
        if self._dtype == torch.bfloat16:
            outputs = outputs.float()
        return vmap(self._own_loss)(outputs, targets)

    def _own_loss(self, output: Tensor, target: Tensor) -> Tensor:
        loss = self._task.loss(output.unsqueeze(0), target.unsqueeze(0))
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise NotBatched("its loss is no scalar tensor")
        return loss


def _batches(examples: Tensor, step: Step) -> Tensor:
    """Return the examples of a step, ``[live, width, ...]``."""
    return examples.index_select(0, step.rows).view(*step.shares.shape, *examples.shape[1:])
