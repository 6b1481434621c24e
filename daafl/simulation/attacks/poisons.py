"""Attacks that one node can do alone: its own update, turned, replaced or trained on lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.layout import Vector
from daafl.simulation.attacks.behaviour import Behaviour, Poison, Scene


@dataclass(frozen=True)
class SignFlip(Poison):
    """Sends ``-scale`` times the honest update.

    Parameters
    ----------
    scale
        Length of what is sent, in honest updates; more than 0.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the scale."""
        check_positive("scale", self.scale)

    def delta(self, scene: Scene) -> Vector:
        """Return the honest update, turned around and scaled."""
        return -self.scale * scene.honest()


@dataclass(frozen=True)
class LabelFlip(Poison):
    """Trains as asked, on examples of class ``c`` labelled ``num_classes - 1 - c``.

    Parameters
    ----------
    num_classes
        Classes there are; targets are integers from 0.
    """

    num_classes: int = 10

    def __post_init__(self) -> None:
        """Check the number of classes."""
        if self.num_classes < 2:
            raise ConfigError(f"num_classes is {self.num_classes}, but must be 2 or more")

    def delta(self, scene: Scene) -> Vector:
        """Return the update of training on the flipped labels."""
        return scene.trained_on(self.flipped)

    def flipped(self, examples: Examples) -> Examples:
        """Return the examples with every label replaced by its opposite.

        Raises
        ------
        ConfigError
            If a label is not one of ``num_classes``.
        """
        labels = np.asarray(examples.targets)
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ConfigError(
                f"label_flip has num_classes={self.num_classes}, but labels go from "
                f"{labels.min()} to {labels.max()}"
            )
        return Examples(examples.inputs, self.num_classes - 1 - labels, examples.groups)


@dataclass(frozen=True)
class Gaussian(Poison):
    """Sends noise in place of an update.

    Parameters
    ----------
    scale
        Standard deviation of each value, in root mean squares of the honest update.
    """

    scale: float = 10.0

    def __post_init__(self) -> None:
        """Check the scale."""
        check_positive("scale", self.scale)

    def delta(self, scene: Scene) -> Vector:
        """Return normal noise without any direction."""
        honest = scene.honest()
        deviation = self.scale * math.sqrt(float(np.mean(np.square(honest, dtype=np.float64))))
        return scene.own_rng().normal(0.0, deviation, honest.shape)


@dataclass(frozen=True)
class FreeRider(Poison):
    """Sends the model back without training, with a little noise to look busy (Lin et al. 2019).

    Parameters
    ----------
    noise
        Standard deviation of the noise on each value; 0 sends the model back as it came.
    """

    noise: float = 1e-3

    def __post_init__(self) -> None:
        """Check the noise."""
        if not 0.0 <= self.noise < math.inf:
            raise ConfigError(f"noise is {self.noise}, but must be 0 or more")

    def delta(self, scene: Scene) -> Vector:
        """Return the noise alone."""
        return scene.own_rng().normal(0.0, self.noise, scene.base_vector.shape)


@dataclass(frozen=True)
class Sleeper(Behaviour):
    """Builds a reputation with honest work, strikes, and starts over.

    Parameters
    ----------
    does
        What it does when it strikes.
    honest_rounds, hostile_rounds
        Rounds of honest work before each strike, and rounds a strike lasts; 1 or more.
    """

    does: Behaviour
    honest_rounds: int = 15
    hostile_rounds: int = 5

    def __post_init__(self) -> None:
        """Check the lengths."""
        for name in ("honest_rounds", "hostile_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be 1 or more")

    def strikes(self, elapsed: int) -> bool:
        """Return whether the honest rounds of the present period are over."""
        return elapsed % (self.honest_rounds + self.hostile_rounds) >= self.honest_rounds

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return what the inner behaviour sends."""
        return self.does.content(scene, honest)


def check_positive(name: str, value: float) -> None:
    """Refuse a value that is not a positive finite number."""
    if not 0.0 < value < math.inf:
        raise ConfigError(f"{name} is {value}, but must be a positive number")
