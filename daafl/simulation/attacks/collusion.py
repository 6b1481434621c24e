"""Attacks of nodes that work together, knowing each other's data and nobody else's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from daafl.errors import ConfigError
from daafl.learning.layout import Vector
from daafl.simulation.attacks.behaviour import Poison, Scene
from daafl.simulation.attacks.poisons import LabelFlip, check_positive
from daafl.simulation.attacks.rehearsal import stacked


@dataclass(frozen=True)
class Alie(Poison):
    """Sends the attackers' mean, shifted so little that it hides in their spread.

    "A little is enough": Baruch, Baruch and Goldberg 2019, algorithm 3. Every value is moved by
    ``deviations`` standard deviations of what the attackers would honestly send.

    Parameters
    ----------
    deviations
        The paper's ``z``; ``None`` takes the largest one that, for normal updates, still leaves
        the attackers closer to the mean than enough honest nodes to make a majority with them.
    """

    deviations: float | None = 1.5

    def __post_init__(self) -> None:
        """Check the shift."""
        if self.deviations is not None:
            check_positive("deviations", self.deviations)

    def delta(self, scene: Scene) -> Vector:
        """Return the same shifted mean for all attackers."""
        shift = self.deviations
        if shift is None:
            shift = hidden_deviations(scene.num_nodes, len(scene.attackers))
        colluders = scene.colluders()
        shifted: Vector = colluders.mean(axis=0) - shift * colluders.std(axis=0)
        return shifted


def hidden_deviations(num_nodes: int, num_attackers: int) -> float:
    """Return the largest shift that hides ``num_attackers``, in standard deviations.

    With ``s = floor(n / 2 + 1) - m`` honest nodes needed for a majority, it is the normal quantile
    of ``(n - m - s) / (n - m)`` (Baruch et al. 2019, equation in section 3.2); 0 if there is none.

    Examples
    --------
    >>> round(hidden_deviations(50, 24), 2)  # two honest nodes are needed, of 26
    1.43
    """
    honest = num_nodes - num_attackers
    needed = num_nodes // 2 + 1 - num_attackers
    if needed <= 0:
        return 3.0  # a majority by themselves; beyond three deviations nothing hides
    return max(0.0, float(ndtri((honest - needed) / honest)))


@dataclass(frozen=True)
class InnerProduct(Poison):
    """Sends the attackers' mean turned around, to make the step point away from the truth.

    "Fall of empires": inner product manipulation, Xie, Koyejo and Gupta 2020, section 4.

    Parameters
    ----------
    scale
        The paper's epsilon. Small values defeat rules that look at distances, large ones the mean.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the scale."""
        check_positive("scale", self.scale)

    def delta(self, scene: Scene) -> Vector:
        """Return the same turned mean for all attackers."""
        turned: Vector = -self.scale * scene.colluders().mean(axis=0)
        return turned


@dataclass(frozen=True)
class Sybils(Poison):
    """Many nodes of one mind: all send nearly the same poisoned update (Fung et al. 2020).

    Parameters
    ----------
    does
        How each would poison its update; their mean is sent.
    noise
        Length of the noise that each adds, as a share of the length of that mean.
    """

    does: Poison = field(default_factory=LabelFlip)
    noise: float = 0.01

    def __post_init__(self) -> None:
        """Check the noise."""
        if not 0.0 <= self.noise < math.inf:
            raise ConfigError(f"noise is {self.noise}, but must be 0 or more")

    def delta(self, scene: Scene) -> Vector:
        """Return the mean of the poisoned updates, hardly different for each attacker."""
        poisoned = scene.once(
            f"poisoned by {self.does!r}",
            lambda: stacked([self.does.delta(scene.seen_by(node)) for node in scene.attackers]),
        )
        mean: Vector = poisoned.mean(axis=0)
        spread = self.noise * float(np.linalg.norm(mean)) / math.sqrt(mean.size)
        return mean + scene.own_rng().normal(0.0, spread, mean.shape)
