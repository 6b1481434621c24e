"""Per-example clipping for stacks of dense layers, many nodes at once, without their gradients.

The gradient of one example in a dense layer is the outer product of the gradient ``g`` of its
pre-activation and its input ``a``, so its squared norm is ``|g|^2 * |a|^2``, plus ``|g|^2`` for the
bias: Goodfellow (2015), *Efficient Per-Example Gradient Computations*, equation 4. One backward
pass gives all ``g``; the clipped sum then is one matrix product per layer with each row of ``g``
scaled (Lee and Kifer 2021, *Scaling up Differentially Private Deep Learning with Fast Per-Example
Gradient Clipping*). What is never made is a gradient per example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from daafl.privacy.per_example import clip_factors

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of a batch of outputs ``[examples, classes]`` and targets ``[examples]``."""


@dataclass(frozen=True, eq=False)
class DenseStack:
    """The same dense network with the weights of several nodes.

    Attributes
    ----------
    weights
        Of each layer: ``[nodes, outputs, inputs]``.
    biases
        Of each layer: ``[nodes, outputs]``, or `None`.
    activations
        After each layer, treating each number on its own; `None` for nothing.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]
    activations: Sequence[Callable[[Tensor], Tensor] | None]


@dataclass(frozen=True, eq=False)
class ClippedSums:
    """Sums over each node's examples of their clipped gradients.

    Attributes
    ----------
    weights, biases
        In the shapes of `DenseStack`.
    norms
        Norm of each example's gradient before clipping: ``[nodes, examples]``.

    All are doubles, since the sum of many examples must not round away what one may change.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    norms: Tensor


def clipped_sums(
    stack: DenseStack,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    bound: float,
    present: Tensor | None = None,
) -> ClippedSums:
    """Return the clipped sums of a batch per node.

    Parameters
    ----------
    stack
        The nodes' networks.
    inputs
        ``[nodes, examples, inputs]``.
    targets
        ``[nodes, examples, ...]``.
    loss
        Mean loss, a mean of terms of one example each.
    bound
        Largest norm of an example's gradient over all layers together.
    present
        ``[nodes, examples]``: whether an example is in its node's sample; else it fills up the
        array and counts for nothing. `None` stands for all.
    """
    with torch.enable_grad():
        taken, before, outputs = _forward(stack, inputs)
        mean = loss(outputs.flatten(0, 1), targets.flatten(0, 1))
        slopes = torch.autograd.grad(mean * inputs[..., 0].numel(), before)
    taken, gradients = [given.double() for given in taken], [slope.double() for slope in slopes]
    squares = torch.zeros_like(inputs[..., 0], dtype=torch.float64)
    for bias, given, gradient in zip(stack.biases, taken, gradients, strict=True):
        length = given.square().sum(-1)
        squares = squares + gradient.square().sum(-1) * (length if bias is None else length + 1.0)
    norms = squares.sqrt()
    factors = clip_factors(norms, bound)
    is_finite = bool(norms.isfinite().all())
    if present is not None:
        factors = factors * present
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for bias, given, gradient in zip(stack.biases, taken, gradients, strict=True):
        scaled, kept = gradient * factors[..., None], given
        if not is_finite:
            # Zero times NaN is NaN: an example without a finite gradient is taken out as a whole.
            scaled = torch.where(factors[..., None] > 0.0, scaled, 0.0)
            kept = torch.where(factors[..., None] > 0.0, given, 0.0)
        weights.append(torch.bmm(scaled.transpose(1, 2), kept))
        biases.append(None if bias is None else scaled.sum(1))
    return ClippedSums(tuple(weights), tuple(biases), norms)


def _forward(stack: DenseStack, inputs: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return what each layer gets, what it gives before activation, and the outputs."""
    taken: list[Tensor] = []
    before: list[Tensor] = []
    given = inputs
    layers = zip(stack.weights, stack.biases, stack.activations, strict=True)
    for index, (weight, bias, activation) in enumerate(layers):
        taken.append(given.detach())
        across = weight.detach().transpose(1, 2)
        if bias is None:
            output = torch.bmm(given, across)
        else:
            output = torch.baddbmm(bias.detach()[:, None], given, across)
        if index == 0:
            output.requires_grad_()
        before.append(output)
        given = output if activation is None else activation(output)
    return taken, before, given
