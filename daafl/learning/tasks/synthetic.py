"""Classes made of overlapping clouds of points, drawn from a seed."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import nn

from daafl.data.partition import Dirichlet, Partitioner
from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.splitting import train_test
from daafl.learning.task import Task

NUM_CLASSES = 10
CLOUDS_PER_CLASS = 3
NUM_FEATURES = 40


@dataclass(frozen=True)
class Synthetic(Task):
    """Ten classes of three Gaussian clouds each, in 40 dimensions.

    Cloud centres are normal with deviation ``separation``; points lie around them with deviation 1.
    At 0.62 the clouds overlap: the perceptron gets 0.82 to 0.85 of the points right.

    Attributes
    ----------
    partitioner
        How the training points are divided among nodes.
    hidden
        Width of the hidden layer.
    num_examples
        Points, of which a fifth is for evaluation.
    separation
        How far apart the clouds are, in deviations of a cloud.
    seed
        Seed of the clouds, the points and the split.
    """

    name: ClassVar[str] = "synthetic"

    partitioner: Partitioner = field(default=Dirichlet(0.3))
    hidden: int = 32
    num_examples: int = 7000
    separation: float = 0.62
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for key, low in (("hidden", 1), ("num_examples", 10), ("separation", 0)):
            value = getattr(self, key)
            if not value >= low:
                raise ConfigError(f"task synthetic has {key}={value}; it must be at least {low}")

    def model(self) -> nn.Module:
        """Return a new perceptron 40-hidden-10."""
        return nn.Sequential(
            nn.Linear(NUM_FEATURES, self.hidden), nn.ReLU(), nn.Linear(self.hidden, NUM_CLASSES)
        )

    def training(self) -> Examples:
        """Return four fifths of the points."""
        return train_test(self._points(), self.seed)[0]

    def evaluation(self) -> Examples:
        """Return one fifth of the points."""
        return train_test(self._points(), self.seed)[1]

    def _points(self) -> Examples:
        rng = np.random.default_rng(self.seed)
        shape = (NUM_CLASSES, CLOUDS_PER_CLASS, NUM_FEATURES)
        centres = rng.normal(0.0, self.separation, shape)
        classes = rng.integers(0, NUM_CLASSES, self.num_examples)
        clouds = rng.integers(0, CLOUDS_PER_CLASS, self.num_examples)
        points = centres[classes, clouds] + rng.normal(0.0, 1.0, (self.num_examples, NUM_FEATURES))
        return Examples(points.astype(np.float32), classes)
