"""A crowd of any size: every node's examples are drawn when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from torch import nn

from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.task import Task

NUM_CLASSES: Final = 10
NUM_FEATURES: Final = 40
CLASSES_PER_NODE: Final = 3
NUM_EVALUATED: Final = 2000

_CENTRES, _NODES, _EVALUATION = 1, 2, 3  # streams of the seed


@dataclass(frozen=True)
class Crowd(Task):
    """Ten overlapping clouds of points in 40 dimensions, of which each node sees three.

    Nothing is stored: a node's 10 to 30 examples are a function of the seed and the node, so a
    federation of a million nodes takes no more memory than the nodes that train.

    Attributes
    ----------
    hidden
        Width of the hidden layer.
    separation
        How far apart the clouds are, in deviations of a cloud.
    seed
        Seed of the clouds and of the points.

    Examples
    --------
    >>> crowd = Crowd()
    >>> examples = crowd.node_data(999_999, num_nodes=1_000_000)
    >>> 10 <= len(examples) <= 30, len(set(examples.targets.tolist())) <= 3
    (True, True)
    """

    name: ClassVar[str] = "crowd"

    hidden: int = 32
    separation: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for key, low in (("hidden", 1), ("separation", 0), ("seed", 0)):
            value = getattr(self, key)
            if not value >= low:
                raise ConfigError(f"task crowd has {key}={value}; it must be at least {low}")

    def model(self) -> nn.Module:
        """Return a new perceptron 40-hidden-10."""
        return nn.Sequential(
            nn.Linear(NUM_FEATURES, self.hidden), nn.ReLU(), nn.Linear(self.hidden, NUM_CLASSES)
        )

    def partition(self, node: int, num_nodes: int) -> Examples:
        """Return the node's own points, of three classes."""
        rng = np.random.default_rng([self.seed, _NODES, node])
        own = rng.choice(NUM_CLASSES, CLASSES_PER_NODE, replace=False)
        return self._points(rng, own[rng.integers(0, CLASSES_PER_NODE, rng.integers(10, 31))])

    def evaluation(self) -> Examples:
        """Return points of all classes that no node has."""
        rng = np.random.default_rng([self.seed, _EVALUATION])
        return self._points(rng, rng.integers(0, NUM_CLASSES, NUM_EVALUATED))

    def _points(self, rng: np.random.Generator, classes: npt.NDArray[np.int64]) -> Examples:
        points = self._centres[classes] + rng.normal(0.0, 1.0, (len(classes), NUM_FEATURES))
        return Examples(points.astype(np.float32), classes)

    @cached_property
    def _centres(self) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng([self.seed, _CENTRES])
        return rng.normal(0.0, self.separation, (NUM_CLASSES, NUM_FEATURES))
