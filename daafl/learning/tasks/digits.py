"""Handwritten digits: 1,797 images of 8 x 8 pixels, shipped with scikit-learn."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from torch import nn

from daafl.data.partition import Dirichlet, Partitioner
from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.splitting import train_test
from daafl.learning.task import Task
from daafl.learning.tasks.bundled import bundled_table

Scale = Literal["standard", "raw"]


@dataclass(frozen=True)
class Digits(Task):
    """Handwritten digits with a perceptron of one hidden layer.

    Attributes
    ----------
    partitioner
        How the training set is divided among nodes.
    hidden
        Width of the hidden layer.
    scale
        ``standard``: pixels with mean 0 and deviation 1; ``raw``: pixels from 0 to 16, which need a
        learning rate two orders of magnitude smaller.
    seed
        Seed of the split in training (80 %) and evaluation (20 %).
    """

    name: ClassVar[str] = "digits"

    partitioner: Partitioner = field(default=Dirichlet(0.3))
    hidden: int = 32
    scale: Scale = "standard"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.hidden < 1:
            raise ConfigError(f"task digits has hidden={self.hidden}; it must be at least 1")
        if self.scale not in get_args(Scale):
            raise ConfigError(f"task digits has scale={self.scale!r}; it must be standard or raw")

    def model(self) -> nn.Module:
        """Return a new perceptron 64-hidden-10."""
        return nn.Sequential(nn.Linear(64, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10))

    def training(self) -> Examples:
        """Return four fifths of the images, as rows of 64 pixels."""
        return train_test(digit_rows(self.scale), self.seed)[0]

    def evaluation(self) -> Examples:
        """Return one fifth of the images."""
        return train_test(digit_rows(self.scale), self.seed)[1]


def digit_rows(scale: Scale) -> Examples:
    """Return all images as rows of 64 float32 pixels."""
    table = bundled_table("digits.csv.gz")
    pixels = table[:, :-1].astype(np.float32)
    if scale == "standard":
        pixels = ((pixels / 16 - np.float32(0.3)) / np.float32(0.37)).astype(np.float32)
    return Examples(pixels, table[:, -1].astype(np.int64))
