"""What holds in a run, and therefore which parts can take part in it.

A `Regime` is derived when a run is composed: from the exchange (what the coordinator sees of an
update) and the pacing (whether a step is one synchronous cohort). Every optimiser and loop
declares what it requires. What cannot run is refused or stands down, with a sentence saying why;
nobody finds out from a wrong result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal

from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError
from daafl.loops.group_quality import grouped, has_group_form, is_individual
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import Pacing

MIN_GROUPS: Final = 3
"""Sums of which one can stand apart from the others."""

Losses = Literal["none", "noised", "per_group", "per_node"]
"""How the coordinator learns nodes' losses, from least to most."""


@dataclass(frozen=True)
class Offer:
    """What an exchange lets the coordinator see.

    Parameters
    ----------
    individuals
        Whether each node's own update is visible, or only sums over cohorts.
    losses
        How nodes' losses arrive.
    hidden_by
        Why individual updates are not visible, where they are not.
    group_size
        Fewest nodes that are summed together; ``None`` if not even sums of groups are visible.
    """

    individuals: bool
    losses: Losses
    hidden_by: str = "this exchange shows only sums"
    group_size: int | None = None


@dataclass(frozen=True)
class Regime:
    """What holds in a run.

    Parameters
    ----------
    individuals
        Each node's own update is visible.
    losses
        How nodes' losses arrive.
    synchronous
        Every update of a step was trained on the branch's present model.
    hidden_by
        Why individual updates are not visible, where they are not.
    group_size
        Fewest nodes that are summed together; ``None`` if not even sums of groups are visible.
    cohort
        Nodes that take part in a step at most.
    """

    individuals: bool
    losses: Losses
    synchronous: bool
    hidden_by: str = "this exchange shows only sums"
    group_size: int | None = None
    cohort: int = 0

    @classmethod
    def of(cls, offer: Offer, pacing: Pacing) -> Regime:
        """Return the regime of an exchange's offer under a pacing."""
        return cls(
            individuals=offer.individuals,
            losses=offer.losses,
            synchronous=not pacing.is_buffered and pacing.max_staleness == 0,
            hidden_by=offer.hidden_by,
            group_size=offer.group_size,
            cohort=min(pacing.concurrency, pacing.quorum),
        )

    @property
    def num_groups(self) -> int:
        """Sums that a step sees, if all of its nodes answer."""
        if self.group_size is None or self.individuals:
            return 0
        return max(1, self.cohort // self.group_size)

    @property
    def has_groups(self) -> bool:
        """Whether there are enough sums that one of them can stand apart from the others."""
        return self.num_groups >= MIN_GROUPS

    @property
    def guarantees(self) -> tuple[str, ...]:
        """Both consequences of the size of groups, in words; empty where nothing is summed."""
        size = self.group_size
        if size is None or self.individuals:
            return ()
        hidden = (
            f"Groups of {size} or more: the coordinator sees the sum of a group only, so that each "
            f"update is hidden among {size - 1} others or more."
        )
        if not self.has_groups:
            return (
                f"{hidden} A step of {self.cohort} nodes has {self.num_groups} of them, too few to "
                f"tell which is spoiled: nothing stands between a hostile node and the model. With "
                f"{MIN_GROUPS * size} nodes to a step there are {MIN_GROUPS}.",
            )
        most = (self.num_groups - 1) // 2
        return (
            f"{hidden} A step of {self.cohort} nodes has {self.num_groups} of them. Robust rules "
            "over sums hold while fewer than half of the groups have a hostile member: up to about "
            f"K / (2 g) hostile nodes in a step are tolerated, here {most} wherever they stand. "
            "Larger groups hide more, smaller ones tolerate more. No node is named for what its "
            "group sent. Hostile nodes keep to no clip bound unless norms are proved "
            "(secure.norm_bound).",
        )


@dataclass(frozen=True)
class Requirement:
    """What a part needs in order to run; the default needs nothing.

    Examples
    --------
    >>> hidden = Regime(individuals=False, losses="none", synchronous=True)
    >>> Requirement(individuals=True).lacking(hidden)
    "it needs each node's own update, and this exchange shows only sums"
    >>> Requirement().lacking(hidden) is None
    True
    """

    individuals: bool = False
    losses: bool = False
    synchronous: bool = False
    takes_groups: bool = False
    """Whether the sums of three groups will do in place of individuals."""

    def lacking(self, regime: Regime) -> str | None:
        """Return why a part with this requirement cannot run in ``regime``, or ``None``."""
        if self.individuals and not regime.individuals:
            if not self.takes_groups or regime.group_size is None:
                return f"it needs each node's own update, and {regime.hidden_by}"
            if not regime.has_groups:
                return _too_few_groups(regime.cohort, regime.group_size, regime.num_groups)
        if self.losses and regime.losses == "none":
            return "it needs nodes' losses, and none are reported here"
        if self.synchronous and not regime.synchronous:
            return "it needs synchronous cohorts, and this pacing combines stale updates"
        return None


_LOSS_FIELDS: Final = frozenset({"loss", "loss_mad", "trimmed_loss"})
_INDIVIDUAL_FIELDS: Final = frozenset({"mean_client_norm", "trusted_scores"})


def optimizer_requirement(optimizer: ServerOptimizer | type[ServerOptimizer]) -> Requirement:
    """Return what an optimiser needs: ``takes_groups`` is an attribute that it may have."""
    return Requirement(
        individuals=optimizer.needs == "individuals",
        takes_groups=getattr(optimizer, "takes_groups", False) is True,
    )


def loop_requirement(loop: Loop) -> Requirement:
    """Return what a loop needs, read off the fields of its observation.

    A field that may be ``None`` is one the loop can do without, except that a loop which reads
    losses stands down when nobody reports any.
    """
    names = {field.name for field in fields(loop.policy.observation)}
    return Requirement(
        losses=bool(names & _LOSS_FIELDS),
        individuals=bool(names & _INDIVIDUAL_FIELDS),
        takes_groups=has_group_form(loop),
    )


def fitting(loop: Loop, regime: Regime) -> Loop:
    """Return the form that a loop takes in ``regime``: over sums where those are all there is."""
    return grouped(loop) if regime.has_groups else loop


def check_screening(loops: Sequence[Loop], regime: Regime, *, secure: str) -> None:
    """Refuse loops that are to screen single updates where those are hidden.

    Raises
    ------
    ConfigError
        Naming the loop and what to do.
    """
    for loop in loops:
        if is_individual(loop) and not regime.individuals:
            raise ConfigError(
                f"{loop.policy.name}.screening is individual, but {regime.hidden_by}: what hides "
                "an update from the coordinator also hides it from screening. Make it auto, which "
                f"screens the sums of groups, or give up the secrecy of secure={secure}"
            )


def standing_down(loops: Sequence[Loop], regime: Regime) -> dict[str, str]:
    """Return the loops that cannot run in ``regime``, each with the reason in words."""
    reasons = {}
    for loop in loops:
        reason = loop_requirement(loop).lacking(regime)
        if reason is not None:
            reasons[loop.policy.name] = f"{loop.policy.name} stands down: {reason}"
    return reasons


def _too_few_groups(cohort: int, group_size: int, num_groups: int) -> str:
    least = MIN_GROUPS * group_size
    sums = "one sum" if num_groups == 1 else f"{num_groups} sums"
    return (
        f"it needs each node's own update or the sums of {MIN_GROUPS} groups, and a step of "
        f"{cohort} nodes in groups of {group_size} or more has {sums}; a step must have "
        f"{least} nodes (pacing.concurrency={least} pacing.quorum={least})"
    )
