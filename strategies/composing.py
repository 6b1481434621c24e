"""The working parts of a run, put together on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from daafl.autonomy.beliefs import Beliefs
from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed
from daafl.observability.events import Observer
from daafl.privacy.user_level import UserPrivacy
from daafl.secure.audit import Fact
from daafl.secure.roster import Roster as Keys
from daafl.secure.trail import Trail
from daafl.strategies.assignment import node_settings, same_for_all
from daafl.strategies.audited_exchange import AuditedExchange
from daafl.strategies.branch import Branch
from daafl.strategies.clock import Clock, WallClock
from daafl.strategies.collecting import Collector, Terms
from daafl.strategies.consensus import Committee
from daafl.strategies.coordinator import Coordinator
from daafl.strategies.design import Design
from daafl.strategies.exchange import Exchange, PlainExchange
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.private import PrivateOptimizer
from daafl.strategies.private_run import mechanism_of, private_parts
from daafl.strategies.protected import protected_exchange
from daafl.strategies.quality import QualityControl
from daafl.strategies.reflecting import Record, Reflector
from daafl.strategies.registered import RegisteredRoster
from daafl.strategies.registry import registry_of
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import EvaluateFn, Schedule, evaluator
from daafl.strategies.screening import Examiner
from daafl.strategies.selection import Selection
from daafl.strategies.summed_exchange import SummedExchange, cohort_address_of

MAIN_BRANCH: Final = "main"


@dataclass(frozen=True)
class Job:
    """What is to be trained and for how long: the arguments of `Autonomous.start`.

    Parameters
    ----------
    layout, packed
        Layout of the model, and the model to start from.
    num_rounds
        Steps at most.
    timeout_s
        Seconds a node has to answer at most.
    train_config, evaluate_fn
        As Flower has them.
    roster
        Keys of the nodes; ``None`` where they have none.
    ledgers
        Folder where spent privacy is written down.
    is_resumed
        Whether the run goes on from a checkpoint.
    """

    layout: Layout
    packed: Packed
    num_rounds: int
    timeout_s: float
    train_config: ConfigRecord | None
    evaluate_fn: EvaluateFn | None
    roster: Keys | None = None
    ledgers: Path | None = None
    is_resumed: bool = False


@dataclass(frozen=True)
class Parts:
    """The working parts of a run; between two steps, their states are the run's."""

    grid: Grid
    clock: Clock
    schedule: Schedule
    mailbox: Mailbox
    roster: Roster | RegisteredRoster
    exchange: Exchange
    collector: Collector
    reflector: Reflector
    branch: Branch
    coordinator: Coordinator
    private: PrivateOptimizer | None


def composed(
    design: Design,
    job: Job,
    grid: Grid,
    clock: Clock,
    *,
    beliefs: Beliefs,
    record: Record,
    observers: Sequence[Observer],
    trail: Trail | None = None,
) -> Parts:
    """Return the parts of a run, in the state before its first step; no message has been sent.

    Parameters
    ----------
    design, job
        What runs, and on what.
    grid, clock
        Where the nodes are, and the time there.
    beliefs
        What earlier runs learned about the loops' actions.
    record
        Where decisions are written down.
    observers
        Told about every step.
    trail
        Audit log of what nodes send; ``None`` for none.

    Raises
    ------
    ConfigError
        If ``train_config`` cannot travel with an assignment, or the grid does not train cohorts
        and the exchange needs one that does.
    """
    layout, settings = job.layout, design.settings
    optimizer, select = design.optimizer, design.select
    private = _private(design, job, clock)
    if private is not None:
        optimizer, select = private
    terms = Terms(
        federation=settings.federation,
        layout=layout.digest,
        seed=settings.seed,
        settings=node_settings(job.train_config),
        select=select,
        assign=same_for_all,
    )
    mailbox = Mailbox(grid, clock)
    roster = _roster(design, job, grid, mailbox)
    exchange = _exchange(design, layout, grid, mailbox, job.roster)
    if trail is not None:
        trail.note("run_began", **_run_facts(design, job.roster))
        exchange = AuditedExchange(exchange, trail)
    examiner = Examiner(layout, settings.seed)
    collector = Collector(
        terms, mailbox=mailbox, exchange=exchange, roster=roster, examiner=examiner
    )
    reflector = Reflector(
        design.federation_hub,
        design.branch_hub,
        plan=design.federation_plan(job.timeout_s),
        beliefs=beliefs,
        record=record,
    )
    schedule = Schedule(
        job.num_rounds,
        evaluator(job.evaluate_fn, layout),
        # What nodes say of a model tells about the examples that they try it on.
        0 if design.is_private_on_nodes and job.evaluate_fn is None else settings.evaluate_every,
        design.overrides,
    )
    optimizer.init(layout, job.packed)
    branch = Branch(
        name=MAIN_BRANCH,
        parent=None,
        version=0,
        packed=job.packed,
        optimizer=optimizer,
        plan=design.branch_plan(),
        loops=design.branch_hub.init(beliefs),
    )
    coordinator = Coordinator(
        schedule,
        layout,
        branch,
        mailbox=mailbox,
        roster=roster,
        collector=collector,
        reflector=reflector,
        quality=QualityControl(
            examiner, None if design.is_private_on_nodes else Committee(mailbox, collector)
        ),
        observers=observers,
    )
    return Parts(
        grid=grid,
        clock=clock,
        schedule=schedule,
        mailbox=mailbox,
        roster=roster,
        exchange=exchange,
        collector=collector,
        reflector=reflector,
        branch=branch,
        coordinator=coordinator,
        private=private[0] if private is not None else None,
    )


def _private(design: Design, job: Job, clock: Clock) -> tuple[PrivateOptimizer, Selection] | None:
    """Return the optimiser and the selection under user-level privacy; ``None`` without it."""
    privacy, settings = design.privacy, design.settings
    if not isinstance(privacy, UserPrivacy):
        return None
    if job.evaluate_fn is None and settings.evaluate_every:
        raise ConfigError(
            "privacy=user cannot be used where nodes evaluate the model: what they measure would "
            "be released without noise; give the coordinator data of its own to evaluate on, or "
            "set evaluate_every=0"
        )
    return private_parts(
        design.optimizer,
        mechanism_of(
            privacy, select=design.select, pacing=design.pacing, num_rounds=job.num_rounds
        ),
        select=design.select,
        seed=settings.seed,
        folder=job.ledgers,
        is_simulated=not isinstance(clock, WallClock),
        is_resumed=job.is_resumed,
        secure=design.secure,
    )


def _exchange(
    design: Design, layout: Layout, grid: Grid, mailbox: Mailbox, roster: Keys | None
) -> Exchange:
    federation = design.settings.federation
    if design.secure is not None:
        if roster is None:
            raise ConfigError(
                f"secure={design.secure.name} needs a roster of the nodes' keys; make one with "
                "`daafl keys`"
            )
        return protected_exchange(
            design.secure,
            roster,
            layout,
            federation=federation,
            seed=design.settings.seed,
            clock=mailbox.clock,
            next_id=mailbox.next_id,
            claim=design.claim,
        )
    if design.exchange == "summed":
        return SummedExchange(federation, layout, cohort_address_of(grid))
    return PlainExchange(federation, layout, claim=design.claim)


def _run_facts(design: Design, roster: Keys | None) -> dict[str, Fact]:
    settings = design.settings
    return {
        "federation": settings.federation,
        "design": design.digest,
        "secure": design.secure.name if design.secure is not None else None,
        "roster": roster.digest.hex() if roster is not None else None,
        "roster_epoch": roster.epoch if roster is not None else None,
    }


def _roster(design: Design, job: Job, grid: Grid, mailbox: Mailbox) -> Roster | RegisteredRoster:
    """Return who takes part: nodes that the grid knows, or else those that answer a greeting."""
    settings, registry = design.settings, registry_of(grid)
    if registry is not None:
        return RegisteredRoster(
            registry,
            mailbox,
            min_nodes=settings.min_nodes,
            node_timeout_s=settings.node_timeout_s,
        )
    return Roster(
        grid,
        mailbox,
        layout=job.layout.digest,
        min_nodes=settings.min_nodes,
        node_timeout_s=settings.node_timeout_s,
        reply_timeout_s=job.timeout_s,
    )
