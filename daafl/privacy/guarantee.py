"""What a run promises about privacy: whom it protects from whom, and by how much.

The settings of the kinds of privacy that nodes see to themselves. They are plain data and need no
torch: nodes get them from their own configuration, never from the coordinator, which only holds
updates to the claim that they make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Final, Literal, Self, TypeAlias

from daafl.errors import ConfigError
from daafl.privacy.accountant import Accounting, noise_multiplier_for
from daafl.privacy.budget import MAX_EPSILON, MAX_SETTING, Budget
from daafl.privacy.release import Release
from daafl.privacy.user_level import UserPrivacy

Rng: TypeAlias = Literal["secret", "seeded"]
Unit: TypeAlias = Literal["example", "node"]

RATE_STEP: Final = 0.96
"""Factor between sampling rates that are counted with."""


@dataclass(frozen=True)
class SamplePrivacy:
    """Sample-level privacy: what a node sends is nearly the same without any one of its examples.

    Differentially private stochastic gradient descent on every node: see `daafl.privacy.dpsgd`.
    Every node has a budget of its own and takes no further part when it is spent.

    Parameters
    ----------
    epsilon, delta
        Budget of a node for the whole run.
    bound
        Norm that the gradient of each example is clipped to.
    noise_multiplier
        Standard deviation of the noise over the bound; ``None`` for the least with which a node's
        budget lasts for ``steps`` steps at its own sampling rate.
    steps
        Training steps of a node that are planned, to which the noise is fitted; ``None`` for what
        a simulated run plans. With a noise multiplier it is not used.
    accounting
        Accountant: ``prv`` is tight, ``rdp`` a little more careful.
    rng
        ``secret``: noise and samples from the operating system's random source, so no run can be
        repeated. ``seeded``: from the seed of a simulation, which protects nothing.

    Raises
    ------
    ConfigError
        If a value is out of its range.

    Examples
    --------
    >>> SamplePrivacy(epsilon=4.0).claim
    'dp-sgd epsilon=4 delta=1e-05 clip=1'
    >>> SamplePrivacy(noise_multiplier=1.1).claim
    'dp-sgd epsilon=8 delta=1e-05 clip=1 noise=1.1'
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    bound: float = 1.0
    noise_multiplier: float | None = None
    steps: int | None = None
    accounting: Accounting = "prv"
    rng: Rng = "secret"

    name: ClassVar[str] = "dp_sgd"
    unit: ClassVar[Unit] = "example"

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check(self, self.epsilon, self.delta, self.bound, self.noise_multiplier, self.rng)
        _check_planned("steps", self.steps)

    @property
    def budget(self) -> Budget:
        """What a node may spend."""
        return Budget(self.epsilon, self.delta, self.accounting)

    @property
    def claim(self) -> str:
        """Canonical text, which travels with every update."""
        return _claim("dp-sgd", self)

    def release(self, num_examples: int, *, batch_size: int, steps: int) -> Release:
        """Return what a training costs a node, to be debited before it starts.

        The sampling rate is counted up to 4 % too high, so that nodes with nearly as many
        examples share their noise and their costs.

        Raises
        ------
        ConfigError
            If there is neither a noise multiplier nor a number of planned steps.
        """
        rate = _counted_rate(min(1.0, batch_size / num_examples))
        noise = self.noise_multiplier
        if noise is None:
            noise = _fitted(self.budget, _planned_of(self.name, "steps", self.steps), rate)
        return Release(noise, steps, rate, "poisson")

    def planned(self, *, trainings: int, local_steps: int) -> Self:
        """Return the settings fitted to the trainings that are planned, unless they say more."""
        if self.steps is not None or self.noise_multiplier is not None:
            return self
        return replace(self, steps=trainings * local_steps)

    def describe(self) -> str:
        """Return the guarantee in words."""
        if self.rng == "seeded":
            return _unprotected(self.name)
        return (
            f"Each single training example of a node is protected from everybody but the node "
            f"itself, the coordinator included: over the whole run, what the node sends is "
            f"({self.epsilon:g}, {self.delta:g})-differentially private under adding or removing "
            f"one example (DP-SGD, gradients clipped to {self.bound:g}, Poisson sampling, "
            f"accountant {self.accounting}). This assumes that the node's machine is honest. Not "
            "protected: how many examples a node has, when it takes part and for how long, and "
            "what several examples of one person say together."
        )


@dataclass(frozen=True)
class LocalPrivacy:
    """Local privacy: what a node sends is nearly the same whatever data it has.

    Each update is clipped and randomised on the node: see `daafl.privacy.local`. All nodes count
    the same, since the number of examples would tell about the data.

    Parameters
    ----------
    epsilon, delta
        Budget of a node for the whole run.
    bound
        Norm that a node's whole update is clipped to.
    noise_multiplier
        Standard deviation of the noise over twice the bound; ``None`` for the least with which a
        node's budget lasts for ``trainings`` updates.
    trainings
        Updates of a node that are planned; ``None`` for what a simulated run plans.
    accounting, rng
        As for `SamplePrivacy`.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    bound: float = 1.0
    noise_multiplier: float | None = None
    trainings: int | None = None
    accounting: Accounting = "prv"
    rng: Rng = "secret"

    name: ClassVar[str] = "local"
    unit: ClassVar[Unit] = "node"

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check(self, self.epsilon, self.delta, self.bound, self.noise_multiplier, self.rng)
        _check_planned("trainings", self.trainings)

    @property
    def budget(self) -> Budget:
        """What a node may spend."""
        return Budget(self.epsilon, self.delta, self.accounting)

    @property
    def claim(self) -> str:
        """Canonical text, which travels with every update."""
        return _claim("local-dp", self)

    def release(self) -> Release:
        """Return what an update costs a node, to be debited before it is made.

        Raises
        ------
        ConfigError
            If there is neither a noise multiplier nor a number of planned updates.
        """
        noise = self.noise_multiplier
        if noise is None:
            planned = _planned_of(self.name, "trainings", self.trainings)
            noise = _fitted(self.budget, planned, 1.0)
        return Release(noise)

    def planned(self, *, trainings: int, local_steps: int) -> Self:
        """Return the settings fitted to the trainings that are planned, unless they say more."""
        if self.trainings is not None or self.noise_multiplier is not None:
            return self
        return replace(self, trainings=trainings)

    def describe(self) -> str:
        """Return the guarantee in words."""
        if self.rng == "seeded":
            return _unprotected(self.name)
        return (
            f"All data of a node together are protected from everybody but the node itself, the "
            f"coordinator included: over the whole run, what the node sends is ({self.epsilon:g}, "
            f"{self.delta:g})-locally differentially private (each update clipped to "
            f"{self.bound:g} and randomised on the node, accountant {self.accounting}). This "
            "assumes that the node's machine is honest. Not protected: when a node takes part and "
            "for how long."
        )


NodePrivacy: TypeAlias = SamplePrivacy | LocalPrivacy
"""The kinds that a node sees to itself, so that each of its updates carries the claim."""

Privacy: TypeAlias = NodePrivacy | UserPrivacy
"""All kinds."""


@lru_cache(maxsize=4096)
def _fitted(budget: Budget, steps: int, rate: float) -> float:
    return noise_multiplier_for(
        budget.epsilon,
        budget.delta,
        steps=steps,
        rate=rate,
        sampling="poisson",
        accounting=budget.accounting,
    )


def _counted_rate(rate: float) -> float:
    """Return a rate that is not smaller, of few: a power of ``RATE_STEP`` or one."""
    exponent = math.floor(math.log(rate) / math.log(RATE_STEP) + 1e-9)
    return min(1.0, RATE_STEP**exponent)


def _planned_of(kind: str, name: str, value: int | None) -> int:
    if value is None:
        raise ConfigError(
            f"privacy {kind} needs {name}, how many are planned for a node, to fit the noise to "
            "its budget; or give a noise_multiplier"
        )
    return value


def _claim(kind: str, settings: NodePrivacy) -> str:
    noise = settings.noise_multiplier
    text = f"{kind} epsilon={settings.epsilon:g} delta={settings.delta:g} clip={settings.bound:g}"
    text += "" if noise is None else f" noise={noise:g}"
    # Who knows the seed can take such noise off again, so the claim is another one.
    return text + (" seeded" if settings.rng == "seeded" else "")


def _unprotected(name: str) -> str:
    return (
        f"No privacy is claimed: privacy={name} draws its noise from the run's seed "
        "(rng=seeded), which anybody can repeat. Use rng=secret to protect data."
    )


def _check(
    settings: NodePrivacy,
    epsilon: float,
    delta: float,
    bound: float,
    noise: float | None,
    rng: str,
) -> None:
    where = f"privacy {settings.name}"
    if not 0.0 < epsilon <= MAX_EPSILON:
        raise ConfigError(f"{where}: epsilon={epsilon} must be above 0 and at most {MAX_EPSILON:g}")
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"{where}: delta={delta} must be in (0, 1)")
    if not 0.0 < bound <= MAX_SETTING:
        raise ConfigError(f"{where}: bound={bound} must be above 0 and at most {MAX_SETTING:g}")
    if noise is not None and not 0.0 < noise <= MAX_SETTING:
        raise ConfigError(
            f"{where}: noise_multiplier={noise} must be above 0 and at most {MAX_SETTING:g}, or "
            "null to fit it"
        )
    if rng not in ("secret", "seeded"):
        raise ConfigError(f"{where}: rng={rng!r} must be secret or seeded")


def _check_planned(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(f"privacy: {name}={value} must be at least 1")
