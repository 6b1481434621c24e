"""A run from its first step, or the one after a checkpoint, to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from daafl import __version__
from daafl.autonomy.codec import decode
from daafl.errors import CodecError, ConfigError, StoreError
from daafl.learning.layout import Layout
from daafl.observability.events import Observer, RunInfo
from daafl.secure.audit import Head
from daafl.store.checkpoint import Checkpoint, Checkpoints
from daafl.store.tree import Tree
from daafl.store.unbroken import unbroken
from daafl.strategies import resuming
from daafl.strategies.branch_state import plain
from daafl.strategies.composing import Job, Parts
from daafl.strategies.design import Design
from daafl.strategies.recording import Records
from daafl.strategies.results import Results, ResultsState
from daafl.strategies.stopping import EarlyStopping, Progress
from daafl.strategies.totals import Totals, TotalsState


@runtime_checkable
class WritesRounds(Protocol):
    """An observer whose file grows by a line per step; a run that resumes cuts it back."""

    @property
    def rounds_bytes(self) -> int:
        """Size of the file after its last line, which is on the disk."""


@runtime_checkable
class TrainsTogether(Protocol):
    """A grid that trains many nodes as one."""

    @property
    def trainer(self) -> str:
        """How, and why, in words."""


@dataclass(frozen=True)
class History:
    """How far a run has come, apart from the state of its parts.

    Parameters
    ----------
    run
        Identity of the run, for what it teaches later runs.
    digest, layout, version
        Of the run's design and of its model, and the release it runs on: it cannot go on with
        others.
    num_nodes
        Nodes as they were announced.
    seconds
        Real seconds spent.
    journal_bytes, rounds_bytes
        Lengths of its files; ``None`` where it writes none.
    totals, results
        Sums for the summary, and what Flower's result will hold.
    progress
        Of the rule that ends a run early.
    ended
        Why there is no further step; ``None`` if there is.
    audit
        Where the audit log ends; ``None`` where there is none.
    """

    run: str
    digest: str
    layout: str
    version: str
    num_nodes: int
    seconds: float
    journal_bytes: int | None
    rounds_bytes: int | None
    totals: TotalsState
    results: ResultsState
    progress: Progress
    ended: str | None
    audit: Head | None = None


def history_of(checkpoint: Checkpoint) -> History:
    """Return the history in a checkpoint.

    Raises
    ------
    StoreError
        If it is no checkpoint of a run.
    """
    return _parts_of(checkpoint)[0]


def _parts_of(checkpoint: Checkpoint) -> tuple[History, Tree]:
    """Return the history and the state of the run's parts."""
    match checkpoint.state:
        case {"history": history, "parts": parts}:
            try:
                return decode(History, history), parts
            except CodecError as error:
                raise StoreError(f"checkpoint {checkpoint.step} is of no run: {error}") from error
    raise StoreError(f"checkpoint {checkpoint.step} is of no run: it lacks a part")


def check_same_run(history: History, design: Design, layout: Layout) -> None:
    """Refuse to go on with a run under other settings.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    for what, was, now in (
        ("with daafl", history.version, __version__),
        ("on a model of layout", history.layout, layout.digest),
        ("under a configuration with hash", history.digest, design.digest),
    ):
        if was != now:
            raise ConfigError(
                f"the run was started {what} {was}, not {now}; "
                "resume it with the release and the arguments that it was started with"
            )


@dataclass
class Attempt:
    """One attempt at a run: it starts, or goes on from a checkpoint, and plays to the end.

    Parameters
    ----------
    design, job, parts
        What runs, and its parts.
    stopping
        When to end early.
    totals, results, records, observers
        Who keeps count, the run's files, and who watches.
    checkpoints
        Where a checkpoint is written after each step that is due; ``None`` for nowhere.
    began_s
        When the run began on the system's clock, less the time in which nobody ran it.
    """

    design: Design
    job: Job
    parts: Parts
    stopping: EarlyStopping
    totals: Totals
    results: Results
    records: Records
    observers: Sequence[Observer]
    checkpoints: Checkpoints | None
    began_s: float
    _num_nodes: int = 0
    _progress: Progress = field(default_factory=Progress)
    _ended: str | None = None

    def start(self) -> None:
        """Wait for nodes and make everything ready for the first step.

        Raises
        ------
        FederationError
            If too few nodes answer.
        """
        self.parts.roster.gather()
        self._num_nodes = len(self.parts.roster)
        self._announce(resumed_after=None)
        self.parts.coordinator.open()
        self._save()

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Make everything ready for the step after a checkpoint.

        Raises
        ------
        StoreError
            If the checkpoint does not hold the state of such a run.
        FederationError
            If nodes have to be greeted again and too few answer.
        """
        history, parts = _parts_of(checkpoint)
        resuming.load(self.parts, self.design, parts)
        self.totals.load(history.totals)
        self.results.load(history.results)
        self._num_nodes = history.num_nodes
        self._progress, self._ended = history.progress, history.ended
        self._announce(resumed_after=checkpoint.step)

    def play(self) -> str:
        """Run the steps that are left; return why the run ended.

        Raises
        ------
        FederationError
            If the run cannot go on.
        StoreError
            If a checkpoint cannot be written; the one before it is intact.
        """
        coordinator, num_rounds = self.parts.coordinator, self.job.num_rounds
        while self._ended is None and coordinator.step < num_rounds:
            if (ended := coordinator.exhausted()) is not None:
                return ended
            record = coordinator.run_step()
            self._progress, self._ended = self.stopping.check(self._progress, record.metrics)
            self._save()
        if self._ended is not None:
            return self._ended
        coordinator.check_learned()
        return f"all {num_rounds} rounds done"

    def _save(self) -> None:
        """Write a checkpoint if one is due: before the first step, then every so many."""
        step, every = self.parts.coordinator.step, self.design.settings.checkpoint_every
        if self.checkpoints is None or every == 0 or step % every:
            return
        self.records.sync()
        rounds = (o.rounds_bytes for o in self.observers if isinstance(o, WritesRounds))
        history = History(
            run=self.records.run,
            digest=self.design.digest,
            layout=self.job.layout.digest,
            version=__version__,
            num_nodes=self._num_nodes,
            seconds=time.monotonic() - self.began_s,
            journal_bytes=self.records.journal_bytes,
            rounds_bytes=next(rounds, None),
            totals=self.totals.state(),
            results=self.results.state(),
            progress=self._progress,
            ended=self._ended,
            audit=self.records.trail.head if self.records.trail is not None else None,
        )
        parts = resuming.saved(self.parts, self.design)
        with unbroken():
            self.checkpoints.write(step, {"history": plain(history), "parts": parts})

    def _announce(self, *, resumed_after: int | None) -> None:
        settings, grid = self.design.settings, self.parts.grid
        info = RunInfo(
            task=settings.task,
            strategy=self.design.name,
            num_nodes=self._num_nodes,
            num_rounds=self.job.num_rounds,
            num_parameters=self.job.layout.num_parameters,
            seed=settings.seed,
            knobs=self.design.knobs,
            absent=self.design.absent,
            attackers=settings.attackers,
            resumed_after=resumed_after,
            trainer=grid.trainer if isinstance(grid, TrainsTogether) else "",
            guarantees=self.design.guarantees(self._num_nodes, self.job.layout.num_parameters),
        )
        for observer in self.observers:
            observer.started(info)
