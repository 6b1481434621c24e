"""The working parts of a run, put together on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from daafl.autonomy.beliefs import Beliefs
from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed
from daafl.observability.events import Observer
from daafl.secure.roster import Roster as Keys
from daafl.strategies.assignment import node_settings, same_for_all
from daafl.strategies.branch import Branch
from daafl.strategies.clock import Clock
from daafl.strategies.collecting import Collector, Terms
from daafl.strategies.consensus import Committee
from daafl.strategies.coordinator import Coordinator
from daafl.strategies.design import Design
from daafl.strategies.exchange import Exchange, PlainExchange
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.protected import protected_exchange
from daafl.strategies.quality import QualityControl
from daafl.strategies.reflecting import Record, Reflector
from daafl.strategies.registered import RegisteredRoster
from daafl.strategies.registry import registry_of
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import EvaluateFn, Schedule, evaluator
from daafl.strategies.screening import Examiner
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
    """

    layout: Layout
    packed: Packed
    num_rounds: int
    timeout_s: float
    train_config: ConfigRecord | None
    evaluate_fn: EvaluateFn | None
    roster: Keys | None = None


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


def composed(
    design: Design,
    job: Job,
    grid: Grid,
    clock: Clock,
    *,
    beliefs: Beliefs,
    record: Record,
    observers: Sequence[Observer],
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

    Raises
    ------
    ConfigError
        If ``train_config`` cannot travel with an assignment, or the grid does not train cohorts
        and the exchange needs one that does.
    """
    layout, settings = job.layout, design.settings
    terms = Terms(
        federation=settings.federation,
        layout=layout.digest,
        seed=settings.seed,
        settings=node_settings(job.train_config),
        select=design.select,
        assign=same_for_all,
    )
    mailbox = Mailbox(grid, clock)
    roster = _roster(design, job, grid, mailbox)
    exchange = _exchange(design, layout, grid, mailbox, job.roster)
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
        settings.evaluate_every,
        design.overrides,
    )
    design.optimizer.init(layout, job.packed)
    branch = Branch(
        name=MAIN_BRANCH,
        parent=None,
        version=0,
        packed=job.packed,
        optimizer=design.optimizer,
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
        quality=QualityControl(examiner, Committee(mailbox, collector)),
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
        )
    if design.exchange == "summed":
        return SummedExchange(federation, layout, cohort_address_of(grid))
    return PlainExchange(federation, layout)


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
