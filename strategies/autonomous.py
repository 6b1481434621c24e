"""A Flower strategy whose federation runs itself.

`Autonomous` wraps a server optimiser or any Flower strategy and replaces Flower's round by the step
of `daafl.strategies.coordinator`: its own selection, pacing, exchange and loops. The wrapped
strategy is used for one thing, combining updates into a new model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from daafl import __version__
from daafl.autonomy.hub import Hub
from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError, DaaflError
from daafl.learning.layout import Layout
from daafl.loops import default_loops
from daafl.observability.events import Observer, RunSummary, Status
from daafl.privacy.guarantee import Privacy
from daafl.secure.roster import Roster
from daafl.secure.settings import Security
from daafl.store.checkpoint import Checkpoint, Checkpoints
from daafl.strategies.assignment import LocalTraining
from daafl.strategies.clock import WallClock, clock_of
from daafl.strategies.composing import MAIN_BRANCH, Job, Parts, composed
from daafl.strategies.design import designed
from daafl.strategies.flower_records import array_record
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import NO_DEADLINE_S, Pacing
from daafl.strategies.playing import Attempt, check_same_run, history_of
from daafl.strategies.recording import Records
from daafl.strategies.reflecting import FEDERATION
from daafl.strategies.results import Results
from daafl.strategies.schedule import EvaluateFn, Override
from daafl.strategies.selection import Selection, uniform
from daafl.strategies.settings import Settings
from daafl.strategies.spent import with_spending
from daafl.strategies.stopping import EarlyStopping
from daafl.strategies.summed_exchange import ExchangeName
from daafl.strategies.totals import Totals


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
    exchange
        ``plain``: every node sends its own update. ``summed``: a cohort is asked as a whole and
        answers with the mean of its updates, on a grid that trains cohorts; for parts that need
        nothing else.
    secure, roster
        How updates are signed or hidden, and who may send some, verified; ``None`` for in the
        clear.
    privacy
        What is guaranteed about the data of nodes, which must be set up for the same; ``None`` for
        nothing.
    ledgers
        Folder where privacy spent by the federation is written down, which ``user`` privacy needs.
    observers
        Told about every step.
    journal
        File for every decision and what came of it; none by default.
    knowledge
        SQLite file that carries what was learned from run to run; fresh by default.
    audit
        File for a chained log of what was accepted of whom, where updates are signed or hidden;
        none by default.
    checkpoints
        Folder for the state of the run, from which it can go on when its process has ended; none
        by default.

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
        exchange: ExchangeName = "plain",
        secure: Security | None = None,
        roster: Roster | None = None,
        privacy: Privacy | None = None,
        ledgers: Path | None = None,
        observers: Sequence[Observer] = (),
        journal: Path | None = None,
        knowledge: Path | None = None,
        checkpoints: Path | None = None,
        audit: Path | None = None,
    ) -> None:
        if isinstance(strategy, Autonomous):
            raise ConfigError("Autonomous cannot wrap Autonomous; give it the inner strategy")
        self._design = designed(
            strategy,
            pacing=pacing or Pacing(),
            training=training or LocalTraining(),
            settings=settings or Settings(),
            loops=default_loops() if loops is None else loops,
            overrides=overrides,
            select=select,
            exchange=exchange,
            secure=secure,
            privacy=privacy,
        )
        self.name = self._design.name
        self.regime = self._design.regime
        self.absent = self._design.absent
        self._roster = roster
        self._ledgers = ledgers
        self._stopping = stopping or EarlyStopping()
        self._observers = tuple(observers)
        self._journal = journal
        self._knowledge = knowledge
        self._audit = audit if secure is not None else None
        self._checkpoints = Checkpoints(checkpoints) if checkpoints is not None else None
        self.summary_of_run: RunSummary | None = None

    @property
    def hubs(self) -> Mapping[str, Hub]:
        """The hub of every target in this federation's journal, as `journal.replay` takes them."""
        return {FEDERATION: self._design.federation_hub, MAIN_BRANCH: self._design.branch_hub}

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
        resume_from: Checkpoint | None = None,
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
        resume_from
            Checkpoint to go on from, under the arguments that the run was started with;
            ``None`` starts a run. A grid that can be resumed makes the end the same as that of
            a run in one go.

        Returns
        -------
        Result
            The final arrays, and per step the metrics of nodes and server.

        Raises
        ------
        ConfigError
            If the settings do not fit together, or are not those of the checkpoint's run.
        StoreError
            If a file of the run cannot be written; the last checkpoint is intact.
        FederationError
            If the run cannot go on; observers have been told before.
        """
        if evaluate_config:
            raise ConfigError("evaluate_config is not used; put its settings into train_config")
        if num_rounds < 0:
            raise ConfigError(f"num_rounds is {num_rounds}, but must be 0 or more")
        arrays = {key: array.numpy() for key, array in initial_arrays.items()}
        layout = Layout.of(arrays)
        job = Job(
            layout,
            layout.pack(arrays),
            num_rounds,
            timeout_s=min(timeout, NO_DEADLINE_S),
            train_config=train_config,
            evaluate_fn=evaluate_fn,
            roster=self._roster,
            ledgers=self._ledgers,
            is_resumed=resume_from is not None,
        )
        if resume_from is not None:
            self.check_same_run(resume_from, layout)
        history = None if resume_from is None else history_of(resume_from)
        began_s = time.monotonic() - (history.seconds if history is not None else 0.0)
        clock = clock_of(grid)
        totals = Totals(version=__version__, is_virtual=not isinstance(clock, WallClock))
        results = Results()
        listeners: list[Observer] = [totals, results, *self._observers]
        parts: Parts | None = None
        has_begun = resume_from is None  # a resume that is refused leaves the summary as it is

        def finish(status: Status, reason: str) -> None:
            if not has_begun:
                return
            seconds = time.monotonic() - began_s
            summary = totals.summary(status, reason, seconds)
            if parts is not None and parts.private is not None:
                summary = parts.private.told(summary)
            if parts is not None:
                summary = with_spending(
                    summary, self._design.privacy, self._ledgers, parts.collector.spent
                )
            self.summary_of_run = summary
            for observer in listeners:
                # Why a run could not go on matters more than what else fails after that.
                with suppress(*(() if status == "completed" else (DaaflError, OSError))):
                    observer.finished(summary)

        try:
            with Records(
                self._journal,
                self._knowledge,
                self._design,
                run=uuid4().hex if history is None else history.run,
                keep_bytes=None if history is None else history.journal_bytes,
                audit=self._audit,
                audit_head=None if history is None else history.audit,
            ) as records:
                listeners.extend(records.learners)
                parts = composed(
                    self._design,
                    job,
                    grid,
                    clock,
                    beliefs=records.beliefs,
                    record=records.append,
                    observers=listeners,
                    trail=records.trail,
                )
                attempt = Attempt(
                    design=self._design,
                    job=job,
                    parts=parts,
                    stopping=self._stopping,
                    totals=totals,
                    results=results,
                    records=records,
                    observers=listeners,
                    checkpoints=self._checkpoints,
                    began_s=began_s,
                )
                if resume_from is None:
                    attempt.start()
                else:
                    attempt.go_on(resume_from)
                    has_begun = True
                reason = attempt.play()
        except KeyboardInterrupt:
            finish("stopped", "interrupted")
            raise
        except BaseException as error:
            finish("failed", str(error) or type(error).__name__)
            raise
        finish("completed", reason)
        result = results.flower_result(is_federated=parts.schedule.evaluate is None)
        result.arrays = array_record(layout.unpack(parts.branch.packed))
        return result

    def check_same_run(self, checkpoint: Checkpoint, layout: Layout) -> None:
        """Refuse a checkpoint that this strategy cannot go on from on a model of that layout.

        Raises
        ------
        ConfigError
            Naming what was different when the run was started.
        StoreError
            If it is no checkpoint of a run.
        """
        check_same_run(history_of(checkpoint), self._design, layout)

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
