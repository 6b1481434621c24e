"""Which models are read as chains of linear layers, and why others are not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from daafl.learning.dense_layers import GELU, GELU_TANH, RELU, SIGMOID, TANH, DenseChain
from daafl.learning.member import NotBatched


class Written(nn.Module):
    def __init__(self, forward: Callable[["Written", Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3, bias=False)
        self.way = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def test_nested_sequences_are_chains() -> None:
    module = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Identity(), nn.Linear(8, 3)
    )
    chain = DenseChain.of(module)
    assert chain.flattens
    assert [(layer.weight, layer.bias) for layer in chain.layers] == [
        ("1.0.weight", "1.0.bias"),
        ("3.weight", "3.bias"),
    ]
    assert [layer.activation for layer in chain.layers] == [RELU, None]


def test_classes_are_chains() -> None:
    ways = {
        RELU: lambda m, x: m.two(functional.relu(m.one(torch.flatten(x, 1)))),
        TANH: lambda m, x: m.two(m.one(x.flatten(1)).tanh()),
        SIGMOID: lambda m, x: m.two(torch.sigmoid(m.one(x))),
        GELU: lambda m, x: m.two(functional.gelu(m.one(x))),
        GELU_TANH: lambda m, x: m.two(functional.gelu(m.one(x), approximate="tanh")),
    }
    for activation, way in ways.items():
        layers = DenseChain.of(Written(way)).layers
        assert [layer.activation for layer in layers] == [activation, None]
        assert [layer.bias for layer in layers] == ["one.bias", None]


@pytest.mark.parametrize("activation", [RELU, TANH, SIGMOID, GELU, GELU_TANH])
def test_slopes_are_those_of_autograd(activation: object) -> None:
    inputs = torch.linspace(-3, 3, 31, dtype=torch.float64).requires_grad_()
    outputs = activation.forward(inputs)  # type: ignore[attr-defined]
    above = torch.linspace(1, 2, 31, dtype=torch.float64)
    (expected,) = torch.autograd.grad(outputs, inputs, above)
    kept = inputs if activation.needs_inputs else outputs  # type: ignore[attr-defined]
    slope = activation.backward(above, kept.detach())  # type: ignore[attr-defined]
    torch.testing.assert_close(slope, expected)


def frozen() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    module[0].weight.requires_grad_(False)
    return module


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    return module


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1)), "it has a Dropout"),
        (lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten()), "it has a Conv1d"),
        (lambda: nn.Sequential(nn.Flatten()), "it has no linear layer"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 3)), "ReLU does not follow a linear layer"),
        (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(4, 3)), "it has a Flatten"),
        (lambda: Written(lambda m, x: m.two(m.one(x)) + 1), "it has a add"),
        (lambda: Written(lambda m, x: m.two(m.one(x) + m.one(x))), "not one chain"),
        (lambda: Written(lambda m, x: (m.one(x), m.two(m.one(x)))), "not one chain"),
        (lambda: Written(lambda m, x: {"y": m.one(x)}), "its output is not one tensor"),
        (lambda: Written(lambda m, x: m.one(x) if x.sum() > 0 else x), "cannot be traced"),
        (frozen, "frozen"),
        (tied, "share a parameter"),
        (lambda: nn.Sequential(nn.Linear(4, 3).double()), "not in float32"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))),
            "it has a ParametrizedLinear|not one chain|cannot be traced",
        ),
    ],
)
def test_what_is_no_chain_says_why(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(NotBatched, match=reason):
        DenseChain.of(make())
