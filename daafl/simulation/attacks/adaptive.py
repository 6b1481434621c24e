"""An attacker that knows the rule in force and searches for what harms it most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daafl.errors import ConfigError
from daafl.learning.layout import Vector
from daafl.robust import RULES, Rule
from daafl.simulation.attacks.behaviour import Poison, Scene
from daafl.simulation.attacks.imitation import screened_mean

KNOWN_RULES: Final[Mapping[str, Rule]] = {**RULES, "screening": screened_mean}
"""Rules that an attacker can prepare for, by name: the common ones, and daafl's own screening."""

SCALES: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
MAX_COORDINATES: Final = 1024


@dataclass(frozen=True)
class Adaptive(Poison):
    """Sends what harms a given rule most, found by trying it out on the attackers' own updates.

    The framework is that of Shejwalkar and Houmansadr (2021), "Manipulating the Byzantine": the
    attackers' honest updates stand in for everybody's, and a direction is scaled until the rule
    known to be in force gives most. Here directions and scales form a grid (see `crafted`), and
    the harm is how far the result falls back along the honest mean (see `harm`). Honest nodes are
    played by normal draws with the attackers' mean and covariance, and at most 1,024 random
    coordinates are looked at, the same for all attackers.

    Parameters
    ----------
    rule
        The rule in force: a key of `KNOWN_RULES`, or a function.
    scales
        Scales that are tried in every direction.
    """

    rule: str | Rule = "mean"
    scales: Sequence[float] = SCALES

    def __post_init__(self) -> None:
        """Check the rule and the scales."""
        if isinstance(self.rule, str) and self.rule not in KNOWN_RULES:
            known = ", ".join(KNOWN_RULES)
            raise ConfigError(f"rule is {self.rule!r}, but must be one of {known}")
        if not self.scales or not all(0.0 < scale < math.inf for scale in self.scales):
            raise ConfigError("scales must be one or more positive numbers")
        object.__setattr__(self, "scales", tuple(self.scales))

    def delta(self, scene: Scene) -> Vector:
        """Return this node's part of the most harmful attack found."""
        direction, scale = scene.once(f"plan of {self!r}", lambda: self.plan(scene))
        own = scene.honest()[np.newaxis]
        hostile: Vector = crafted(direction, scale, scene.colluders(), own)[0]
        return hostile

    def plan(self, scene: Scene) -> tuple[str, float]:
        """Return the direction and the scale that harm the rule most."""
        rng = scene.shared_rng()
        colluders = scene.colluders()
        size = colluders.shape[1]
        if size > MAX_COORDINATES:
            colluders = colluders[:, np.sort(rng.choice(size, MAX_COORDINATES, replace=False))]
        honest = stand_ins(colluders, scene.num_nodes - len(colluders), rng)
        rule = KNOWN_RULES[self.rule] if isinstance(self.rule, str) else self.rule

        def harm_of(option: tuple[str, float]) -> float:
            return harm(rule, honest, crafted(*option, colluders=colluders, own=colluders))

        options = [(direction, scale) for direction in DIRECTIONS for scale in self.scales]
        return max(options, key=harm_of)


def stand_ins(colluders: Vector, count: int, rng: np.random.Generator) -> Vector:
    """Return normal draws with the mean and the covariance of the attackers' updates.

    Parameters
    ----------
    colluders
        Honest updates of the attackers, ``[attackers, parameters]``.
    count
        Updates wanted.
    rng
        Source of the draws.
    """
    mean = colluders.mean(axis=0)
    mixing = rng.standard_normal((count, len(colluders))) / math.sqrt(max(len(colluders) - 1, 1))
    drawn: Vector = (mean + mixing @ (colluders - mean)).astype(colluders.dtype)
    return drawn


def crafted(direction: str, scale: float, colluders: Vector, own: Vector) -> Vector:
    """Return the hostile update of each attacker, ``[attackers, parameters]``.

    Parameters
    ----------
    direction
        A key of `DIRECTIONS`.
    scale
        How far to go; what 1 stands for depends on the direction.
    colluders
        Honest updates of all attackers.
    own
        Honest updates of those whose hostile ones are wanted.
    """
    return DIRECTIONS[direction](scale, colluders, own)


def harm(rule: Rule, honest: Vector, hostile: Vector) -> float:
    """Return how far a rule's result falls short of the honest mean, along that mean.

    0 is the honest mean itself, 1 no progress at all, 2 a step of the same length backwards;
    infinite if the result is not finite.
    """
    clean = honest.mean(axis=0, dtype=np.float64)
    matrix = np.concatenate([honest, hostile])
    result = rule(matrix, np.ones(len(matrix)))
    if not np.isfinite(result).all():
        return math.inf
    return float((clean - result) @ clean / max(clean @ clean, np.finfo(np.float64).tiny))


def _reversed(scale: float, colluders: Vector, own: Vector) -> Vector:
    """Return ``-scale`` times the mean: inner product manipulation."""
    return np.repeat(-scale * colluders.mean(axis=0, keepdims=True), len(own), axis=0)


def _shifted(scale: float, colluders: Vector, own: Vector) -> Vector:
    """Return the mean, moved against its own signs by ``scale`` deviations: hides in the spread."""
    mean, deviation = colluders.mean(axis=0), colluders.std(axis=0)
    shifted = mean - scale * deviation * np.sign(mean)
    return np.repeat(shifted[np.newaxis], len(own), axis=0)


def _in_the_ball(scale: float, colluders: Vector, own: Vector) -> Vector:
    """Return the own honest updates, moved backwards by ``scale`` median distances to the mean.

    Every attacker keeps what sets it apart from the others, so that no two look alike.
    """
    mean = colluders.mean(axis=0)
    length = float(np.linalg.norm(mean))
    radius = float(np.median(np.linalg.norm(colluders - mean, axis=1))) or length
    moved: Vector = own - (scale * radius / max(length, np.finfo(np.float64).tiny)) * mean
    return moved


DIRECTIONS: Final[Mapping[str, Callable[[float, Vector, Vector], Vector]]] = {
    "reversed": _reversed,
    "shifted": _shifted,
    "in_the_ball": _in_the_ball,
}
"""Where hostile updates may go, by name."""
