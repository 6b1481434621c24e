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
from daafl.strategies.pacing import Pacing

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
    """

    individuals: bool
    losses: Losses
    hidden_by: str = "this exchange shows only sums"


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
    """

    individuals: bool
    losses: Losses
    synchronous: bool
    hidden_by: str = "this exchange shows only sums"

    @classmethod
    def of(cls, offer: Offer, pacing: Pacing) -> Regime:
        """Return the regime of an exchange's offer under a pacing."""
        return cls(
            individuals=offer.individuals,
            losses=offer.losses,
            synchronous=not pacing.is_buffered and pacing.max_staleness == 0,
            hidden_by=offer.hidden_by,
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

    def lacking(self, regime: Regime) -> str | None:
        """Return why a part with this requirement cannot run in ``regime``, or ``None``."""
        if self.individuals and not regime.individuals:
            return f"it needs each node's own update, and {regime.hidden_by}"
        if self.losses and regime.losses == "none":
            return "it needs nodes' losses, and none are reported here"
        if self.synchronous and not regime.synchronous:
            return "it needs synchronous cohorts, and this pacing combines stale updates"
        return None


_LOSS_FIELDS: Final = frozenset({"loss", "loss_mad", "trimmed_loss"})
_INDIVIDUAL_FIELDS: Final = frozenset({"mean_client_norm", "trusted_scores"})


def loop_requirement(loop: Loop) -> Requirement:
    """Return what a loop needs, read off the fields of its observation.

    A field that may be ``None`` is one the loop can do without, except that a loop which reads
    losses stands down when nobody reports any.
    """
    names = {field.name for field in fields(loop.policy.observation)}
    return Requirement(
        losses=bool(names & _LOSS_FIELDS), individuals=bool(names & _INDIVIDUAL_FIELDS)
    )


def standing_down(loops: Sequence[Loop], regime: Regime) -> dict[str, str]:
    """Return the loops that cannot run in ``regime``, each with the reason in words."""
    reasons = {}
    for loop in loops:
        reason = loop_requirement(loop).lacking(regime)
        if reason is not None:
            reasons[loop.policy.name] = f"{loop.policy.name} stands down: {reason}"
    return reasons
