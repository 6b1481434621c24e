"""What a run is made of, checked: before there are nodes, data or files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from flwr.serverapp.strategy import FedAvg, Strategy

from daafl.autonomy.codec import encode
from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Knob, Plan, Scope
from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError
from daafl.privacy.guarantee import LocalPrivacy, Privacy, SamplePrivacy
from daafl.privacy.user_level import UserPrivacy
from daafl.secure.guarantees import guarantees
from daafl.secure.settings import Security
from daafl.strategies.assignment import LOCAL_KNOBS, LocalTraining
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.flower_optimizer import FlowerOptimizer
from daafl.strategies.monitor import check_observable
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import PACING_KNOBS, Pacing
from daafl.strategies.private_run import check_private, hides, private_offer
from daafl.strategies.protected import check_secure, offer_of
from daafl.strategies.regime import (
    Offer,
    Regime,
    check_screening,
    fitting,
    optimizer_requirement,
    standing_down,
)
from daafl.strategies.schedule import Override, check_overrides
from daafl.strategies.selection import Selection
from daafl.strategies.settings import Settings
from daafl.strategies.summed_exchange import ExchangeName, SummedExchange, check_summed

NO_VOTES: Final = (
    "committee stands down: a vote tells about the private examples that it is based on, and is "
    "not in the nodes' budgets"
)

OFFERS: Final[Mapping[ExchangeName, Offer]] = MappingProxyType(
    {"plain": PlainExchange.offers, "summed": SummedExchange.offers}
)
"""The exchanges there are, with what they let the coordinator see."""


@dataclass(frozen=True)
class Design:
    """The parts of a run that the user chose, and the hubs of their loops.

    Parameters
    ----------
    name, optimizer
        The strategy's name, and the server optimiser that it is or that adapts it.
    pacing, training, settings, overrides, select, exchange, secure, privacy
        As given to `Autonomous`.
    loops, absent
        Loops that run, and per loop that cannot the reason in words.
    regime
        What holds in the run.
    federation_hub, branch_hub
        Loops over the whole federation, and over each branch.
    digest
        Digest of what decides this run's decisions, apart from the data.
    """

    name: str
    optimizer: ServerOptimizer
    pacing: Pacing
    training: LocalTraining
    settings: Settings
    overrides: tuple[Override, ...]
    select: Selection
    exchange: ExchangeName
    secure: Security | None
    privacy: Privacy | None
    loops: tuple[Loop, ...]
    absent: Mapping[str, str]
    regime: Regime
    federation_hub: Hub
    branch_hub: Hub
    digest: str

    @property
    def claim(self) -> str | None:
        """Guarantee that every update must come with; ``None`` where nodes see to none."""
        privacy = self.privacy
        return privacy.claim if isinstance(privacy, SamplePrivacy | LocalPrivacy) else None

    @property
    def is_private_on_nodes(self) -> bool:
        """Whether nodes let nothing out that is not noised, so that they report no losses."""
        return isinstance(self.privacy, SamplePrivacy | LocalPrivacy)

    def guarantees(self, num_nodes: int, num_values: int) -> tuple[str, ...]:
        """Return what the run protects, from whom, and what it does not, in sentences.

        Parameters
        ----------
        num_nodes
            Nodes of the federation.
        num_values
            Values of an update.
        """
        private = () if self.privacy is None else (self.privacy.describe(),)
        if isinstance(self.privacy, UserPrivacy):
            private = (self.privacy.describe(members_clip=hides(self.secure)),)
        cohort = min(self.pacing.concurrency, num_nodes)
        hidden = guarantees(self.secure, cohort=cohort, num_values=num_values)
        regime = replace(self.regime, cohort=min(self.regime.cohort, num_nodes))
        return (*private, *hidden, *regime.guarantees)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """All knobs of the run."""
        return (*self.federation_hub.knobs.values(), *self.branch_hub.knobs.values())

    def federation_plan(self, timeout_s: float) -> Plan:
        """Return the federation's first plan; no reply is awaited for longer than that."""
        limit_s = min(self.pacing.reply_timeout_s, timeout_s)
        pacing = replace(self.pacing, reply_timeout_s=limit_s)
        return Plan.of(tuple(self.federation_hub.knobs.values()), pacing.values())

    def branch_plan(self) -> Plan:
        """Return the first plan of a branch."""
        return Plan.of(tuple(self.branch_hub.knobs.values()), self.training.values())


def designed(
    strategy: Strategy | ServerOptimizer | None,
    *,
    pacing: Pacing,
    training: LocalTraining,
    settings: Settings,
    loops: Sequence[Loop],
    overrides: Sequence[Override],
    select: Selection,
    exchange: ExchangeName = "plain",
    secure: Security | None = None,
    privacy: Privacy | None = None,
) -> Design:
    """Return the design of a run; parts that cannot run in its regime are left out.

    Raises
    ------
    ConfigError
        If the parts do not fit together.
    """
    strategy = FedAvg() if strategy is None else strategy
    name = type(strategy).__name__
    optimizer = FlowerOptimizer(strategy) if isinstance(strategy, Strategy) else strategy
    inner = optimizer.strategy if isinstance(optimizer, FlowerOptimizer) else optimizer
    if exchange not in OFFERS:
        raise ConfigError(f"exchange is {exchange!r}, but must be one of {', '.join(OFFERS)}")
    offer = OFFERS[exchange]
    if secure is not None:
        check_secure(secure, exchange=exchange, pacing=pacing, overrides=overrides)
        offer = offer_of(secure)
    if isinstance(privacy, SamplePrivacy | LocalPrivacy):
        check_node_privacy(privacy, exchange=exchange)
        offer = replace(offer, losses="none")
    if isinstance(privacy, UserPrivacy):
        check_private(offer, privacy, exchange=exchange, pacing=pacing, overrides=overrides)
        offer = private_offer(offer, privacy)
    regime = Regime.of(offer, pacing)
    lacking = optimizer_requirement(optimizer).lacking(regime)
    if lacking:
        raise ConfigError(f"{name} cannot run in this federation: {lacking}")
    if exchange == "summed":
        check_summed(loops=loops, pacing=pacing, overrides=overrides)
    if secure is not None:
        check_screening(loops, regime, secure=secure.name)
    absent = standing_down(loops, regime)
    if isinstance(privacy, SamplePrivacy | LocalPrivacy):
        absent["committee"] = NO_VOTES
    running = tuple(fitting(loop, regime) for loop in loops if loop.policy.name not in absent)
    check_observable(running)
    federation_hub = _hub(running, "federation", PACING_KNOBS)
    branch_hub = _hub(running, "branch", LOCAL_KNOBS)
    check_overrides(overrides, {**federation_hub.knobs, **branch_hub.knobs})
    return Design(
        name=name,
        optimizer=optimizer,
        pacing=pacing,
        training=training,
        settings=settings,
        overrides=tuple(overrides),
        select=select,
        exchange=exchange,
        secure=secure,
        privacy=privacy,
        loops=running,
        absent=absent,
        regime=regime,
        federation_hub=federation_hub,
        branch_hub=branch_hub,
        digest=_digest(
            [
                name,
                _numbers(inner),
                pacing,
                training,
                replace(settings, checkpoint_every=0, attackers=None),  # they decide nothing
                overrides,
                _name_of(select),
                exchange,
                None if secure is None else [secure.name, secure],
                None if privacy is None else [privacy.name, privacy],
            ],
            running,
        ),
    )


def check_node_privacy(privacy: SamplePrivacy | LocalPrivacy, *, exchange: str) -> None:
    """Refuse an exchange in which nodes do not answer for themselves.

    Raises
    ------
    ConfigError
        Naming the exchange and what to use.
    """
    if exchange != "plain":
        raise ConfigError(
            f"privacy={privacy.name} cannot be used with exchange {exchange!r}: each node spends "
            "from a budget of its own and claims it with its own update; use exchange 'plain'"
        )


def _hub(loops: Sequence[Loop], scope: Scope, knobs: Sequence[Knob]) -> Hub:
    own = tuple(loop for loop in loops if loop.scope == scope)
    owned = [knob for loop in own for knob in loop.policy.knobs]
    elsewhere = {knob.name for knob in (PACING_KNOBS if scope == "branch" else LOCAL_KNOBS)}
    elsewhere |= {knob.name for loop in loops if loop.scope != scope for knob in loop.policy.knobs}
    return Hub(own, {knob.name: knob for knob in (*knobs, *owned)}, elsewhere=frozenset(elsewhere))


def _digest(parts: Sequence[object], loops: Sequence[Loop]) -> str:
    texts = [repr(loop.policy) for loop in loops]
    text = json.dumps([encode(part) for part in parts] + texts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _numbers(strategy: object) -> dict[str, Any]:
    """Return the settings of a strategy as far as they are numbers and texts.

    Those that are not finite are written as text, since JSON has no form for them.
    """
    settings = getattr(strategy, "__dict__", {})
    found = {
        name: value
        for name, value in settings.items()
        if not name.startswith("_") and isinstance(value, bool | int | float | str)
    }
    return {name: repr(value) for name, value in found.items()}


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
