"""Handwritten digits with a small convolutional network."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import nn

from daafl.data.partition import Dirichlet, Partitioner
from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.splitting import train_test
from daafl.learning.task import Task
from daafl.learning.tasks.digits import digit_rows


@dataclass(frozen=True)
class DigitsCnn(Task):
    """Handwritten digits as images of 8 x 8 pixels, with two convolutions.

    Attributes
    ----------
    partitioner
        How the training set is divided among nodes.
    channels
        Channels of the first convolution; the second has twice as many. At 8 the model has 9,802
        parameters.
    seed
        Seed of the split in training (80 %) and evaluation (20 %).
    """

    name: ClassVar[str] = "digits-cnn"

    partitioner: Partitioner = field(default=Dirichlet(0.3))
    channels: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of channels."""
        if self.channels < 1:
            raise ConfigError(
                f"task digits-cnn has channels={self.channels}; it must be at least 1"
            )

    def model(self) -> nn.Module:
        """Return a new network: two 3 x 3 convolutions, one pooling, two linear layers."""
        return nn.Sequential(
            nn.Conv2d(1, self.channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.channels, 2 * self.channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * self.channels * 16, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )

    def training(self) -> Examples:
        """Return four fifths of the images."""
        return train_test(_images(), self.seed)[0]

    def evaluation(self) -> Examples:
        """Return one fifth of the images."""
        return train_test(_images(), self.seed)[1]


def _images() -> Examples:
    rows = digit_rows("standard")
    return Examples(np.asarray(rows.inputs).reshape(-1, 1, 8, 8), rows.targets)
