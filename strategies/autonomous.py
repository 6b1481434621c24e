"""A Flower strategy whose federation runs itself.

`Autonomous` wraps a server optimiser or any Flower strategy and replaces Flower's round by the step
of `daafl.strategies.coordinator`: its own selection, pacing, exchange and loops. The wrapped
strategy is used for one thing, combining updates into a new model.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn
from uuid import uuid4

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from daafl import __version__
from daafl.autonomy.beliefs import Beliefs
from daafl.autonomy.codec import JSON, encode
from daafl.autonomy.hub import Hub
from daafl.autonomy.journal import Journal
from daafl.autonomy.knowledge import Knowledge
from daafl.autonomy.plan import Knob, Plan, Scope
from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed
from daafl.loops import default_loops
from daafl.messages import TRAIN_LOSS
from daafl.observability.events import Observer, RunInfo, RunSummary, Status
from daafl.strategies.assignment import (
    LOCAL_KNOBS,
    LocalTraining,
    node_settings,
    same_for_all,
)
from daafl.strategies.branch import Branch
from daafl.strategies.clock import WallClock, clock_of
from daafl.strategies.collecting import Collector, Terms
from daafl.strategies.coordinator import Coordinator
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.flower_optimizer import FlowerOptimizer
from daafl.strategies.flower_records import array_record
from daafl.strategies.learner import Learner
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.monitor import check_observable
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import PACING_KNOBS, Pacing
from daafl.strategies.reflecting import FEDERATION, Record, Reflector
from daafl.strategies.regime import Regime, Requirement, standing_down
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import (
    EvaluateFn,
    Override,
    Schedule,
    check_overrides,
    evaluator,
)
from daafl.strategies.selection import Selection, uniform
from daafl.strategies.settings import Settings
from daafl.strategies.stopping import EarlyStopping, Progress
from daafl.strategies.totals import Totals

MAIN_BRANCH: Final = "main"


class Autonomous(Strategy):
    """Runs a federation by itself around any server optimiser.

    It must be the outermost strategy: Flower's wrappers (such as those for differential privacy)
    would run Flower's own loop and skip every step of this one, and are refused.

    Parameters
    ----------
    strategy
        A `ServerOptimizer`, or a Flower strategy; FedAvg by default.
    pacing, training
        How the federation keeps time, and what local training starts from.
    loops
        What runs itself; `daafl.loops.default_loops` by default, ``()`` for nothing.
    settings
        Seed, names, limits.
    stopping
        When to end early; never by default.
    overrides
        Operator's edits of the plan at given steps.
    select
        Rule that draws nodes.
    observers
        Told about every step.
    journal
        File for every decision and what came of it; none by default.
    knowledge
        SQLite file that carries what was learned from run to run; fresh by default.

    Examples
    --------
    In a ServerApp, in place of any Flower strategy::

        result = Autonomous(FedAdam(eta=0.03)).start(grid, initial_arrays, num_rounds=60)
    """

    def __init__(
        self,
        strategy: Strategy | ServerOptimizer | None = None,
        *,
        pacing: Pacing | None = None,
        training: LocalTraining | None = None,
        loops: Sequence[Loop] | None = None,
        settings: Settings | None = None,
        stopping: EarlyStopping | None = None,
        overrides: Sequence[Override] = (),
        select: Selection = uniform,
        observers: Sequence[Observer] = (),
        journal: Path | None = None,
        knowledge: Path | None = None,
    ) -> None:
        if isinstance(strategy, Autonomous):
            raise ConfigError("Autonomous cannot wrap Autonomous; give it the inner strategy")
        if strategy is None:
            strategy = FedAvg()
        self.name = type(strategy).__name__
        self._optimizer: ServerOptimizer = (
            FlowerOptimizer(strategy) if isinstance(strategy, Strategy) else strategy
        )
        self._pacing = pacing or Pacing()
        self._training = training or LocalTraining()
        self._settings = settings or Settings()
        self._stopping = stopping or EarlyStopping()
        self._overrides = tuple(overrides)
        self._select = select
        self._observers = tuple(observers)
        self._journal = journal
        self._knowledge = knowledge
        loops = default_loops() if loops is None else tuple(loops)
        self.regime = Regime.of(PlainExchange.offers, self._pacing)
        lacking = Requirement(individuals=self._optimizer.needs == "individuals").lacking(
            self.regime
        )
        if lacking:
            raise ConfigError(f"{self.name} cannot run in this federation: {lacking}")
        self.absent = standing_down(loops, self.regime)
        self._loops = tuple(loop for loop in loops if loop.policy.name not in self.absent)
        check_observable(self._loops)
        self._federation_hub = self._hub("federation", PACING_KNOBS)
        self._branch_hub = self._hub("branch", LOCAL_KNOBS)
        check_overrides(self._overrides, {**self._federation_hub.knobs, **self._branch_hub.knobs})
        self._beliefs: Beliefs = {}
        self.summary_of_run: RunSummary | None = None

    @property
    def hubs(self) -> Mapping[str, Hub]:
        """The hub of every target in this federation's journal, as `journal.replay` takes them."""
        return {FEDERATION: self._federation_hub, MAIN_BRANCH: self._branch_hub}

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run the federation; the signature is Flower's.

        Parameters
        ----------
        grid
            Where the nodes are. A grid that keeps time gives the run its clock.
        initial_arrays
            The model to start from.
        num_rounds
            Steps to run at most.
        timeout
            Seconds a node has to answer at most, if the pacing allows longer.
        train_config
            Further settings that nodes get with every assignment.
        evaluate_config
            Not used: nodes get ``train_config`` with every question.
        evaluate_fn
            Evaluates the model on the server; without it, the nodes evaluate.

        Returns
        -------
        Result
            The final arrays, and per step the metrics of nodes and server.

        Raises
        ------
        ConfigError
            If the settings do not fit together.
        FederationError
            If the run cannot go on; observers have been told before.
        """
        if evaluate_config:
            raise ConfigError("evaluate_config is not used; put its settings into train_config")
        if num_rounds < 0:
            raise ConfigError(f"num_rounds is {num_rounds}, but must be 0 or more")
        arrays = {key: array.numpy() for key, array in initial_arrays.items()}
        layout = Layout.of(arrays)
        clock = clock_of(grid)
        totals = Totals(version=__version__, is_virtual=not isinstance(clock, WallClock))
        result, started_s = Result(), time.monotonic()
        with ExitStack() as stack:
            listeners = [totals, *self._observers]

            def finish(status: Status, reason: str) -> None:
                summary = totals.summary(status, reason, time.monotonic() - started_s)
                self.summary_of_run = summary
                for observer in listeners:
                    observer.finished(summary)

            try:
                record = self._recorder(stack, listeners)
                mailbox = Mailbox(grid, clock)
                settings = self._settings
                roster = Roster(
                    grid,
                    mailbox,
                    layout=layout.digest,
                    min_nodes=settings.min_nodes,
                    node_timeout_s=settings.node_timeout_s,
                    reply_timeout_s=timeout,
                )
                roster.gather()
                self._announce(listeners, roster, layout, num_rounds)
                schedule = Schedule(
                    num_rounds,
                    evaluator(evaluate_fn, layout),
                    settings.evaluate_every,
                    self._overrides,
                )
                coordinator = Coordinator(
                    schedule,
                    layout,
                    self._branch(layout, layout.pack(arrays)),
                    mailbox=mailbox,
                    roster=roster,
                    collector=Collector(
                        self._terms(layout, train_config),
                        mailbox=mailbox,
                        exchange=PlainExchange(settings.federation, layout),
                        roster=roster,
                    ),
                    reflector=Reflector(
                        self._federation_hub,
                        self._branch_hub,
                        plan=self._federation_plan(timeout),
                        beliefs=self._beliefs,
                        record=record,
                    ),
                    observers=listeners,
                )
                reason = self._play(coordinator, schedule, result)
            except KeyboardInterrupt:
                finish("stopped", "interrupted")
                raise
            except BaseException as error:
                finish("failed", str(error) or type(error).__name__)
                raise
            finish("completed", reason)
        result.arrays = array_record(layout.unpack(coordinator.branch.packed))
        return result

    def _play(
        self,
        coordinator: Coordinator,
        schedule: Schedule,
        result: Result,
    ) -> str:
        """Run the steps; fill in Flower's result; return why the run ended."""
        is_federated = schedule.evaluate is None
        evaluated = (
            result.evaluate_metrics_clientapp if is_federated else result.evaluate_metrics_serverapp
        )
        coordinator.open()
        progress = Progress()
        for step in range(1, schedule.num_rounds + 1):
            record = coordinator.run_step()
            if record.train_loss is not None:
                result.train_metrics_clientapp[step] = MetricRecord({TRAIN_LOSS: record.train_loss})
            if record.metrics:
                evaluated[step] = MetricRecord(dict(record.metrics))
            progress, reason = self._stopping.check(progress, record.metrics)
            if reason is not None:
                return reason
        coordinator.check_learned()
        return f"all {schedule.num_rounds} rounds done"

    def _branch(self, layout: Layout, packed: Packed) -> Branch:
        self._optimizer.init(layout, packed)
        knobs = tuple(self._branch_hub.knobs.values())
        return Branch(
            name=MAIN_BRANCH,
            parent=None,
            version=0,
            packed=packed,
            optimizer=self._optimizer,
            plan=Plan.of(knobs, self._training.values()),
            loops=self._branch_hub.init(self._beliefs),
        )

    def _federation_plan(self, timeout_s: float) -> Plan:
        limit_s = min(self._pacing.reply_timeout_s, timeout_s)
        pacing = replace(self._pacing, reply_timeout_s=limit_s)
        return Plan.of(tuple(self._federation_hub.knobs.values()), pacing.values())

    def _terms(self, layout: Layout, train_config: ConfigRecord | None) -> Terms:
        return Terms(
            federation=self._settings.federation,
            layout=layout.digest,
            seed=self._settings.seed,
            settings=node_settings(train_config),
            select=self._select,
            assign=same_for_all,
        )

    def _hub(self, scope: Scope, knobs: Sequence[Knob]) -> Hub:
        loops = tuple(loop for loop in self._loops if loop.scope == scope)
        owned = [knob for loop in loops for knob in loop.policy.knobs]
        others = [loop for loop in self._loops if loop.scope != scope]
        elsewhere = {knob.name for knob in (PACING_KNOBS if scope == "branch" else LOCAL_KNOBS)}
        elsewhere |= {knob.name for loop in others for knob in loop.policy.knobs}
        return Hub(
            loops,
            {knob.name: knob for knob in (*knobs, *owned)},
            elsewhere=frozenset(elsewhere),
        )

    def _recorder(self, stack: ExitStack, listeners: list[Observer]) -> Record:
        """Open the journal and the knowledge; return where decisions are written down."""
        if self._knowledge is not None:
            knowledge = stack.enter_context(Knowledge.open(self._knowledge))
            self._beliefs = knowledge.snapshot()
            listeners.append(Learner(knowledge, run=uuid4().hex))
        if self._journal is None:
            return lambda *records: None
        header = {
            "seed": self._settings.seed,
            "config_hash": self._config_hash(),
            "version": __version__,
            "beliefs": encode(self._beliefs),
        }
        journal = stack.enter_context(Journal.create(self._journal, header))
        return lambda *records: _append(journal, records)

    def _config_hash(self) -> str:
        """Digest of what decides this run's decisions, apart from the data."""
        parts = (self.name, self._pacing, self._training, self._settings, self._overrides)
        loops = [repr(loop.policy) for loop in self._loops]
        text = json.dumps([encode(part) for part in parts] + loops, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _announce(
        self, listeners: Sequence[Observer], roster: Roster, layout: Layout, num_rounds: int
    ) -> None:
        info = RunInfo(
            task=self._settings.task,
            strategy=self.name,
            num_nodes=len(roster),
            num_rounds=num_rounds,
            num_parameters=layout.num_parameters,
            seed=self._settings.seed,
            knobs=(*self._federation_hub.knobs.values(), *self._branch_hub.knobs.values()),
            absent=self.absent,
        )
        for observer in listeners:
            observer.started(info)

    # ---- Flower's hooks: only a strategy that wraps this one would call them ----------------

    def configure_train(self, *_: Any) -> NoReturn:
        """Refuse: see `_refuse_to_be_wrapped`."""
        _refuse_to_be_wrapped()

    def aggregate_train(self, *_: Any) -> NoReturn:
        """Refuse: see `_refuse_to_be_wrapped`."""
        _refuse_to_be_wrapped()

    def configure_evaluate(self, *_: Any) -> NoReturn:
        """Refuse: see `_refuse_to_be_wrapped`."""
        _refuse_to_be_wrapped()

    def aggregate_evaluate(self, *_: Any) -> NoReturn:
        """Refuse: see `_refuse_to_be_wrapped`."""
        _refuse_to_be_wrapped()

    def summary(self) -> None:
        """Do nothing: observers show what a run is made of."""


def _refuse_to_be_wrapped() -> NoReturn:
    raise ConfigError(
        "Autonomous must be the outermost strategy: a strategy around it would run Flower's own "
        "rounds and skip all of its steps; wrap the inner strategy instead"
    )


def _append(journal: Journal, records: Sequence[Mapping[str, JSON]]) -> None:
    journal.append(*records)
