"""The models in PyTorch, for all systems that train with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from _work import Floats, Work
from torch import nn


def model(work: Work, weights: Sequence[Floats]) -> nn.Sequential:
    """Return a new model of a work, with given weights."""
    made = _mlp(work.shape[0]) if len(work.shape) == 1 else _lenet()
    with torch.no_grad():
        for parameter, values in zip(made.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(values))
    return made


def arrays(module: nn.Module) -> list[Floats]:
    """Return the weights of a model."""
    return [parameter.detach().numpy() for parameter in module.parameters()]


def _mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 10))


def _lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
