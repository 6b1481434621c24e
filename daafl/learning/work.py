"""How much a node trains on one message, and how; needs no torch."""

import math
from dataclasses import dataclass

from daafl.errors import ConfigError


@dataclass(frozen=True)
class LocalWork:
    """Settings of one local training.

    Attributes
    ----------
    lr
        Learning rate of stochastic gradient descent; 0 leaves the parameters alone.
    steps
        Number of mini-batch steps.
    batch_size
        Examples per step; a node with fewer uses all it has.
    proximal_mu
        Weight of FedProx's term ``mu / 2 * ||w - w_sent||^2`` (Li et al. 2020, equation 2).
    momentum
        Factor of the heavy-ball velocity, in [0, 1); the velocity starts at 0 in each training.
    weight_decay
        Weight of the term ``weight_decay / 2 * ||w||^2``.

    Raises
    ------
    ConfigError
        If a setting is out of its range.
    """

    lr: float
    steps: int
    batch_size: int
    proximal_mu: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def judged_examples(self) -> int:
        """Examples, at most, on which the loss of a model that came in is measured.

        Half as many as the training goes over, so that measuring costs a sixth of it at most:
        a forward pass takes about a third of a step. Never fewer than 32, nor more than 512.
        """
        return min(max(self.steps * self.batch_size // 2, 32), 512)

    def __post_init__(self) -> None:
        """Check the ranges, since the settings travel over the network."""
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"local work has {name}={value}; it must be at least 1")
        for name in ("lr", "proximal_mu", "weight_decay"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"local work has {name}={value}; it must be finite and >= 0")
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"local work has momentum={self.momentum}; it must be in [0, 1)")
