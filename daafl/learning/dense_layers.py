"""Reads a model as a chain of linear layers and activations, if it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from daafl.learning.member import NotBatched

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """An elementwise function between two layers.

    Attributes
    ----------
    forward
        Its values.
    backward
        The gradient of its inputs, from that of its outputs and from inputs or outputs.
    needs_inputs
        Whether ``backward`` is given the inputs; otherwise it is given the outputs.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    needs_inputs: bool = False


def _gelu(approximate: str) -> Activation:
    return Activation(
        lambda inputs: functional.gelu(inputs, approximate=approximate),
        lambda slope, inputs: aten.gelu_backward(slope, inputs, approximate=approximate),
        needs_inputs=True,
    )


RELU: Final = Activation(torch.relu, lambda slope, out: aten.threshold_backward(slope, out, 0))
TANH: Final = Activation(torch.tanh, lambda slope, out: aten.tanh_backward(slope, out))
SIGMOID: Final = Activation(torch.sigmoid, lambda slope, out: aten.sigmoid_backward(slope, out))
GELU: Final = _gelu("none")
GELU_TANH: Final = _gelu("tanh")

_FUNCTIONS: Final[dict[Any, Activation]] = {
    torch.relu: RELU,
    functional.relu: RELU,
    torch.tanh: TANH,
    functional.tanh: TANH,
    torch.sigmoid: SIGMOID,
    functional.sigmoid: SIGMOID,
    "relu": RELU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
}
_MODULES: Final[dict[type[nn.Module], Activation]] = {
    nn.ReLU: RELU,
    nn.Tanh: TANH,
    nn.Sigmoid: SIGMOID,
}


@dataclass(frozen=True)
class Layer:
    """A linear layer and the activation after it.

    Attributes
    ----------
    weight, bias
        Names of its parameters; a layer may have no bias.
    activation
        What its outputs go through; ``None`` for nothing.
    """

    weight: str
    bias: str | None
    activation: Activation | None = None


@dataclass(frozen=True)
class DenseChain:
    """A model that is one linear layer after the other.

    Attributes
    ----------
    layers
        In the order of computation.
    flattens
        Whether each example's inputs are first made one row.
    """

    layers: tuple[Layer, ...]
    flattens: bool

    @classmethod
    def of(cls, module: nn.Module) -> DenseChain:
        """Return what a model computes, whether written as ``nn.Sequential`` or as a class.

        Raises
        ------
        NotBatched
            If it is anything else; the reason names the first thing that is not of that kind.
        """
        try:
            graph = fx.Tracer().trace(module)
        except Exception as error:  # tracing runs users' code on stand-ins for tensors
            first_line = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise NotBatched(f"its forward() cannot be traced: {first_line}") from error
        layers: list[Layer] = []
        flattens = False
        for node in _chain(graph):
            target = _target(node, module)
            if _is_flatten(node, target):
                flattens = flattens or not layers
            elif type(target) is nn.Linear:
                layers.append(_linear(str(node.target), target))
            elif not isinstance(target, nn.Identity):
                activation = _activation(node, target)
                if not layers or layers[-1].activation is not None:
                    raise NotBatched(f"{_name(target)} does not follow a linear layer")
                layers[-1] = Layer(layers[-1].weight, layers[-1].bias, activation)
        _check_parameters(layers, module)
        return cls(tuple(layers), flattens)


def _chain(graph: fx.Graph) -> list[fx.Node]:
    """Return the computations, each of which takes the outputs of the one before and no other."""
    nodes = list(graph.nodes)
    if any(node.all_input_nodes != [before] for before, node in pairwise(nodes)):
        raise NotBatched("its layers are not one chain")
    if nodes[-1].args != (nodes[-2],):
        raise NotBatched("its output is not one tensor")
    return nodes[1:-1]


def _target(node: fx.Node, module: nn.Module) -> Any:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def _is_flatten(node: fx.Node, target: Any) -> bool:
    if isinstance(target, nn.Flatten):
        return (target.start_dim, target.end_dim) == (1, -1)
    is_flatten = target is torch.flatten or (node.op == "call_method" and target == "flatten")
    return is_flatten and node.args[1:] in ((1,), (1, -1)) and not node.kwargs


def _linear(name: str, linear: nn.Linear) -> Layer:
    return Layer(f"{name}.weight", None if linear.bias is None else f"{name}.bias")


def _activation(node: fx.Node, target: Any) -> Activation:
    if type(target) is nn.GELU:
        return GELU_TANH if target.approximate == "tanh" else GELU
    if target is functional.gelu and len(node.args) == 1:
        return GELU_TANH if node.kwargs.get("approximate") == "tanh" else GELU
    known = _MODULES.get(type(target)) if isinstance(target, nn.Module) else _FUNCTIONS.get(target)
    if known is None:
        raise NotBatched(f"it has a {_name(target)}, which the dense computation does not know")
    return known


def _check_parameters(layers: list[Layer], module: nn.Module) -> None:
    if not layers:
        raise NotBatched("it has no linear layer")
    names = [name for layer in layers for name in (layer.weight, layer.bias) if name is not None]
    own = dict(module.named_parameters())  # a tied parameter is listed under its first name only
    if len(set(names)) < len(names) or not set(names) <= set(own):
        raise NotBatched("two of its layers share a parameter")
    if any(not own[name].requires_grad or own[name].dtype != torch.float32 for name in names):
        raise NotBatched("a linear layer is frozen or not in float32")


def _name(target: Any) -> str:
    if isinstance(target, nn.Module):
        return type(target).__name__
    return str(getattr(target, "__name__", target))
