"""Trains many members' dense models as one, with the gradients written out.

The weights of all members are stacks ``[members, outputs, inputs]``, the batches ``[members, width,
inputs]``, and every product is one batched product. For plain gradient descent the step goes
straight into the weights: the learning rate is part of the slope at the outputs, and

    W = W - (lr * slope)^T @ inputs

is one in-place product, without a gradient in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from daafl.learning.chunk import Chunk, Rates, Step
from daafl.learning.dense_layers import DenseChain, Layer
from daafl.learning.member import NotBatched
from daafl.learning.stacked_descent import StackedDescent
from daafl.learning.task import Task
from daafl.learning.workspace import Workspace


class DenseStack:
    """Training of a chain of linear layers under cross entropy.

    Parameters
    ----------
    task
        Whose loss it is.
    module
        The model.
    dtype
        Number type of products; weights, and what is added up, stay in float32.

    Raises
    ------
    NotBatched
        If the model is no such chain, or the loss is the task's own.
    """

    def __init__(self, task: Task, module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        if type(task).loss is not Task.loss or "loss" in vars(task):
            raise NotBatched("the task has a loss of its own")
        self._chain = DenseChain.of(module)
        self._dtype = dtype
        self._workspace = Workspace()

    def losses(self, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example under one model.

        Parameters
        ----------
        weights
            Parameters by name, without a member axis.
        inputs, targets
            The examples.

        Raises
        ------
        NotBatched
            If examples and model do not fit together in the way this computation needs.
        """
        outputs = self._rows(inputs)
        for layer in self._chain.layers:
            bias = None if layer.bias is None else weights[layer.bias]
            outputs = nn.functional.linear(outputs, weights[layer.weight], bias)
            if layer.activation is not None:
                outputs = layer.activation.forward(outputs)
        _check_targets(targets, len(outputs[0]))
        highest = outputs.amax(1, keepdim=True)
        log_sums = outputs.sub(highest).exp_().sum(1).log_().add_(highest.squeeze(1))
        return log_sums.sub_(outputs.gather(1, targets[:, None]).squeeze(1))

    def train(self, weights: Mapping[str, Tensor], chunk: Chunk) -> dict[str, Tensor]:
        """Return the trained parameters of all members, by name.

        Parameters
        ----------
        weights
            Parameters that were sent, by name; they stay as they are.
        chunk
            What the members do.

        Returns
        -------
        dict
            Shape of each: ``[members, ...]``. The next training writes over them.

        Raises
        ------
        NotBatched
            If examples and model do not fit together in the way this computation needs.
        """
        _check_targets(chunk.targets, len(weights[self._chain.layers[-1].weight]))
        names = [
            name
            for layer in self._chain.layers
            for name in (layer.weight, layer.bias)
            if name is not None
        ]
        stacks = {name: self._stack(name, weights[name], chunk.num_members) for name in names}
        descent = _DenseDescent(self._chain.layers, stacks, chunk.rates, self._dtype)
        inputs = self._rows(chunk.inputs)
        for step in chunk.steps:
            descent.step(inputs, chunk.targets, step)
        return stacks

    def _stack(self, name: str, sent: Tensor, num_members: int) -> Tensor:
        """Return a copy of a parameter for each member, in memory of the last training's."""
        shape = (num_members, *sent.shape)
        if sent.device.type == "cpu":
            stack = torch.from_numpy(self._workspace.array(name, shape, np.float32))
        else:
            stack = sent.new_empty(shape)
        return stack.copy_(sent)

    def _rows(self, inputs: Tensor) -> Tensor:
        if self._chain.flattens:
            inputs = inputs.flatten(1)
        if inputs.dim() != 2 or inputs.dtype != torch.float32:
            raise NotBatched("its inputs are not one row of numbers for each example")
        return inputs


class _DenseDescent:
    """The steps of one chunk."""

    def __init__(
        self,
        layers: Sequence[Layer],
        stacks: Mapping[str, Tensor],
        rates: Rates,
        dtype: torch.dtype,
    ) -> None:
        self._layers = layers
        self._dtype = dtype
        self._weights = [stacks[layer.weight] for layer in layers]
        self._biases = [None if layer.bias is None else stacks[layer.bias] for layer in layers]
        self._live_weights, self._live_biases = self._weights, self._biases
        self._is_fused = rates.is_plain and dtype == torch.float32
        self._lr = torch.from_numpy(rates.lr).to(self._weights[0])[:, None]
        self._descent = None if self._is_fused else StackedDescent(list(stacks.values()), rates)
        self._positions = {name: position for position, name in enumerate(stacks)}

    def step(self, inputs: Tensor, targets: Tensor, step: Step) -> None:
        """Take one step with the members that are live in it."""
        if step.live < len(self._live_weights[0]):
            self._live_weights = [weight[: step.live] for weight in self._weights]
            self._live_biases = [b if b is None else b[: step.live] for b in self._biases]
        batch = inputs.index_select(0, step.rows).view(*step.shares.shape, -1)
        before, after = self._forward(batch)
        scale = step.shares * self._lr[: step.live] if self._is_fused else step.shares
        labels = targets.index_select(0, step.rows).view(step.shares.shape)
        slope = _cross_entropy_slope(after[-1], labels, scale)
        for index in reversed(range(len(self._layers))):
            activation = self._layers[index].activation
            if activation is not None:
                kept = before[index] if activation.needs_inputs else after[index + 1]
                slope = activation.backward(slope, kept)
            below = self._product(slope, self._live_weights[index]) if index else slope
            self._move(index, slope, after[index])
            slope = below

    def _forward(self, batch: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs of each activation, and the inputs of each layer with the outputs."""
        before, after = [], [batch]
        for layer, weight, bias in zip(
            self._layers, self._live_weights, self._live_biases, strict=True
        ):
            outputs = self._product(after[-1], weight.transpose(1, 2), bias)
            before.append(outputs)
            after.append(outputs if layer.activation is None else layer.activation.forward(outputs))
        return before, after

    def _move(self, index: int, slope: Tensor, inputs: Tensor) -> None:
        """Take the step of one layer, from the slope at its outputs."""
        layer, bias = self._layers[index], self._live_biases[index]
        if self._descent is None:
            self._live_weights[index].baddbmm_(slope.transpose(1, 2), inputs, alpha=-1)
            if bias is not None:
                bias.sub_(slope.sum(1))
            return
        gradient = self._product(slope.transpose(1, 2), inputs)
        self._descent.step(self._positions[layer.weight], gradient)
        if layer.bias is not None:
            self._descent.step(self._positions[layer.bias], slope.sum(1))

    def _product(self, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
        if self._dtype == torch.float32:
            if bias is None:
                return torch.bmm(left, right)
            return torch.baddbmm(bias[:, None], left, right)
        product = torch.bmm(left.to(self._dtype), right.to(self._dtype)).float()
        return product if bias is None else product.add_(bias[:, None])


def _cross_entropy_slope(outputs: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Return the slope of ``scale * cross_entropy`` at the outputs, ``[members, width, classes]``.

    It is the softmax less one at the label. Written out, since `torch.softmax` takes five times as
    long on a few classes.
    """
    powers = outputs.sub(outputs.amax(2, keepdim=True)).exp_()
    slope = powers.div_(powers.sum(2, keepdim=True))
    minus_one = slope.new_full((1, 1, 1), -1.0).expand(*labels.shape, 1)
    return slope.scatter_add_(2, labels[:, :, None], minus_one).mul_(scale[:, :, None])


def _check_targets(targets: Tensor, num_classes: int) -> None:
    if targets.dim() != 1 or targets.dtype != torch.int64:
        raise NotBatched("its targets are not one class number for each example")
    if int(targets.min()) < 0 or int(targets.max()) >= num_classes:
        raise NotBatched("a target is no class number")
