"""Runs a task: on a federation simulated on this machine, or on whatever nodes a grid has.

`run` and `train_on` give the same federation. Both write a run folder with a report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from daafl.autonomy.policy import Loop
from daafl.clients import client_app
from daafl.clients.cohorts import TaskCohorts
from daafl.clients.private import LEDGERS, PrivateTraining
from daafl.clients.security import KeysOfSimulated
from daafl.errors import ConfigError, DaaflError
from daafl.judging import evaluation, pooled_baseline
from daafl.learning.choice import Method
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.observability.events import Observer
from daafl.observability.progress import Mode
from daafl.observability.progress import progress as shown_progress
from daafl.observability.report import report_html
from daafl.privacy.guarantee import LocalPrivacy, NodePrivacy, Privacy, SamplePrivacy
from daafl.privacy.user_level import UserPrivacy
from daafl.reopening import MODEL, last_checkpoint, reopened
from daafl.run_result import RunResult
from daafl.secure.roster import Roster
from daafl.secure.settings import Security
from daafl.secure.simulated import SimulatedKeys
from daafl.secure.trail import AUDIT
from daafl.simulation import InProcessGrid
from daafl.simulation.attacks import Attack
from daafl.simulation.scenario import Scenario, staged
from daafl.simulation.threads import one_thread
from daafl.simulation.world import World
from daafl.store.atomic import write_bytes
from daafl.store.checkpoint import Checkpoints
from daafl.store.model_file import write_model
from daafl.store.run_folder import REPORT, RunFolder, default_path, load
from daafl.strategies import (
    Autonomous,
    EarlyStopping,
    LocalTraining,
    Override,
    Pacing,
    ServerOptimizer,
    Settings,
)
from daafl.strategies.flower_records import array_record
from daafl.strategies.summed_exchange import ExchangeName

__all__ = ["MODEL", "RUNS", "MakeGrid", "RunResult", "resume", "run", "train_on"]

RUNS: Final = Path("runs")

MOST_GREETED: Final = 4096
"""Nodes that are greeted one by one in a simulation; a larger federation is registered at once."""

MakeGrid = Callable[..., AbstractContextManager[Grid]]
"""Called as `InProcessGrid` is: with the app, the number of nodes, and all that `run` sets."""


def run(
    task: Task,
    *,
    num_nodes: int = 30,
    num_rounds: int = 60,
    strategy: Strategy | ServerOptimizer | None = None,
    pacing: Pacing | None = None,
    exchange: ExchangeName = "plain",
    secure: Security | None = None,
    privacy: Privacy | None = None,
    training: LocalTraining | None = None,
    loops: Sequence[Loop] | None = None,
    stopping: EarlyStopping | None = None,
    overrides: Sequence[Override] = (),
    fleet: World | None = None,
    attack: Attack | None = None,
    scenario: Scenario | Path | str | None = None,
    workers: int | None = None,
    grid: MakeGrid = InProcessGrid,
    trainer: Literal["auto"] | Method = "auto",
    seed: int = 0,
    evaluate_every: int = 1,
    baseline: bool = False,
    checkpoint_every: int = 1,
    knowledge: Path | str | None = None,
    output_dir: Path | str | None = None,
    resume: bool = False,
    progress: Mode | Observer = "auto",
    config: str = "",
) -> RunResult:
    """Train a task on a federation simulated on this machine.

    The same arguments give the same model and the same decisions, whatever the number of workers.

    Parameters
    ----------
    task
        What to train.
    num_nodes, num_rounds
        Nodes, and steps at most.
    strategy
        Any Flower strategy or a `ServerOptimizer`; FedAvg by default.
    pacing
        How many nodes train at a time and when a step closes; 10 at a time, all of them awaited,
        by default.
    exchange
        ``plain``: every node sends its own update. ``summed``: a cohort answers with the mean of
        its updates, which is the cheapest to simulate; for parts that need nothing else.
    secure
        How updates are kept from the coordinator, such as `daafl.secure.settings.MaskedSums`, or
        signed with `SignedUpdates`; in the clear by default. The nodes get keys for this run.
    privacy
        What is guaranteed about the nodes' data, such as
        `daafl.privacy.guarantee.SamplePrivacy`; nothing by default. What is spent is written down
        under ``privacy/`` in the run's folder.
    training
        What local training starts from.
    loops
        What runs itself; health alarms, learning rate and quality by default, ``()`` for nothing.
    stopping
        When to end early; never by default.
    overrides
        Your own edits of the plan at given steps.
    fleet
        What devices the nodes are and what they run into, such as `daafl.simulation.Devices` or a
        `daafl.simulation.fleet.Fleet`; all alike and always there by default.
    attack
        What some of the nodes do against the federation; nothing by default.
    scenario
        Faults, attackers and drift on a schedule, or the file that has it; nothing by default.
    workers
        Processes; ``None`` for one per core, 0 for none beside this one.
    grid
        Makes the grid; `InProcessGrid` by default.
    trainer
        How nodes that are asked together are trained: ``dense`` or ``functional`` as one
        computation, ``eager`` one by one, ``auto`` as is fastest for the task. That is timed once,
        and the arrays of different ways differ by rounding; name one for the same bits everywhere.
    seed
        Seed of the model and of every draw.
    evaluate_every
        Steps from one evaluation to the next; 0 for none.
    baseline
        Whether to train on all data in one place as well, for the report to compare with.
    checkpoint_every
        Steps from one checkpoint to the next; 0 for none. A run whose process ends goes on from
        the last one; when the run is complete, they are removed.
    knowledge
        File that carries what was learned from run to run; ``None`` starts afresh.
    output_dir
        Folder of the run, which must not hold one yet; by default a new one under ``runs/``.
    resume
        Whether to go on with the run in ``output_dir``, which was started with the same arguments
        and has not completed. The end is that of a run in one go, bit for bit.
    progress
        What to show: ``auto``, ``live``, ``plain``, ``quiet``, ``json``, or an observer.
    config
        Text for ``config.yaml`` in the folder.

    Returns
    -------
    RunResult
        The trained model, the summary and the folder.

    Raises
    ------
    ConfigError
        If the arguments do not fit together.
    DataError
        If the data cannot be divided among that many nodes.
    FederationError
        If the run cannot go on; its folder then tells how far it came.

    Examples
    --------
    ::

        result = daafl.run(Digits(), num_nodes=30, num_rounds=60)
        print(result.summary.final_accuracy, result.output_dir)
    """
    _check_counts(num_nodes=num_nodes, num_rounds=num_rounds)
    # Divided here, the data is there before workers are forked, and they all share it.
    task.node_data(0, num_nodes)
    stage = staged(scenario, task=task, world=fleet, attack=attack, num_nodes=num_nodes, seed=seed)
    if exchange == "summed" and stage.mods:
        raise ConfigError(
            "exchange 'summed' cannot be used: nodes that attack, or whose messages are changed on "
            "the way, send updates of their own, and only sums are seen; use exchange 'plain'"
        )
    keys, roster = None, None
    if secure is not None:
        simulated_keys = SimulatedKeys.new()
        roster = simulated_keys.roster(Settings().federation, num_nodes)
        keys = KeysOfSimulated(simulated_keys, roster)
    private: NodePrivacy | None = None
    if isinstance(privacy, SamplePrivacy | LocalPrivacy):
        privacy = private = _planned(privacy, num_nodes, num_rounds, pacing, training)
        if output_dir is None and not resume:
            output_dir = _folder(None, task, seed)
    elif isinstance(privacy, UserPrivacy) and privacy.num_users is None:
        privacy = replace(privacy, num_users=num_nodes)
    # Without a folder to resume in, `train_on` refuses to go on.
    ledgers = Path(output_dir or RUNS) / LEDGERS
    # A task that raises here is not the grid's fault: made first, it is told as it is.
    cohorts = TaskCohorts(
        stage.task,
        num_nodes,
        work=_usual_work(training or LocalTraining()),
        mods=stage.mods,
        method=trainer,
        private=PrivateTraining(private, ledgers, is_simulated=True) if private else None,
    )
    try:
        simulated = grid(
            client_app(
                stage.task,
                mods=stage.mods,
                secure=secure,
                keys=keys,
                privacy=private,
                ledgers=ledgers,
            ),
            num_nodes,
            fleet=stage.world,
            cohorts=cohorts if secure is None else None,
            is_registered=num_nodes > MOST_GREETED,
            workers=workers,
        )
    except ValueError as error:
        raise ConfigError(f"the grid cannot be made: {error}") from error
    with one_thread(), simulated as nodes:
        return train_on(
            nodes,
            stage.task,
            num_rounds=num_rounds,
            strategy=strategy,
            pacing=pacing,
            exchange=exchange,
            secure=secure,
            roster=roster,
            privacy=privacy,
            training=training,
            loops=loops,
            stopping=stopping,
            overrides=overrides,
            min_nodes=min(2, num_nodes),
            attackers=stage.attackers,
            seed=seed,
            evaluate_every=evaluate_every,
            baseline_nodes=num_nodes if baseline else 0,
            checkpoint_every=checkpoint_every,
            knowledge=knowledge,
            output_dir=output_dir,
            resume=resume,
            progress=progress,
            config=config,
        )


def train_on(
    grid: Grid,
    task: Task,
    *,
    num_rounds: int = 60,
    strategy: Strategy | ServerOptimizer | None = None,
    pacing: Pacing | None = None,
    exchange: ExchangeName = "plain",
    secure: Security | None = None,
    roster: Roster | None = None,
    privacy: Privacy | None = None,
    training: LocalTraining | None = None,
    loops: Sequence[Loop] | None = None,
    stopping: EarlyStopping | None = None,
    overrides: Sequence[Override] = (),
    min_nodes: int = 2,
    node_timeout_s: float = 60.0,
    attackers: tuple[int, ...] | None = None,
    seed: int = 0,
    evaluate_every: int = 1,
    baseline_nodes: int = 0,
    checkpoint_every: int = 1,
    knowledge: Path | str | None = None,
    output_dir: Path | str | None = None,
    resume: bool = False,
    progress: Mode | Observer = "auto",
    config: str = "",
) -> RunResult:
    """Train a task on the nodes of any Flower grid, such as a ServerApp is given.

    The nodes run `daafl.clients.client_app` of the same task.

    Parameters
    ----------
    grid
        Where the nodes are.
    secure, roster
        How updates are signed or hidden, and who may send some, verified; ``None`` for in the
        clear. The nodes must be set up for the same.
    privacy
        What is guaranteed about the nodes' data; ``None`` for nothing. Where nodes see to it
        themselves, they must be set up for the same, and other updates are refused.
    min_nodes, node_timeout_s
        Nodes that must answer, and how long to wait for them at the start.
    attackers
        Nodes that are known to be hostile, as in a simulation; they are marked in the report.
    baseline_nodes
        Train on the data of so many partitions in one place as well, to compare; 0 for not.
    task, num_rounds, strategy, pacing, exchange, training, loops, stopping, overrides
        As for `run`.
    seed, evaluate_every, checkpoint_every, knowledge, output_dir, progress, config
        As for `run`.
    resume
        As for `run`. Where the grid is that of a real federation, what was out when the process
        ended is asked for again: nothing is lost or counted twice, but the end may differ.

    Raises
    ------
    ConfigError, DataError, FederationError
        As `run` does.
    """
    _check_counts(num_rounds=num_rounds)
    trainer = TorchTrainer(task)
    evaluate = evaluation(trainer, grid)
    make = partial(
        Autonomous,
        strategy,
        pacing=pacing,
        exchange=exchange,
        secure=secure,
        roster=roster,
        privacy=privacy,
        training=training,
        loops=loops,
        stopping=stopping,
        overrides=overrides,
        knowledge=Path(knowledge) if knowledge is not None else None,
        settings=Settings(
            seed=seed,
            task=task.name,
            min_nodes=min_nodes,
            node_timeout_s=node_timeout_s,
            evaluate_every=evaluate_every,
            checkpoint_every=checkpoint_every,
            attackers=attackers,
        ),
    )
    trial = make()  # refuses what does not fit together, before a folder is made
    if resume and output_dir is None:
        raise ConfigError("resume needs the output_dir of the run to go on with")
    path = _folder(output_dir, task, seed)
    checkpoint = last_checkpoint(path) if resume else None
    if checkpoint is not None:
        trial.check_same_run(checkpoint, trainer.layout)
    watcher = (
        shown_progress(progress, report=path / REPORT) if isinstance(progress, str) else progress
    )
    folder = reopened(path, checkpoint) if resume else RunFolder(path, config=config)
    autonomous = make(
        observers=(folder, watcher),
        journal=folder.journal,
        checkpoints=folder.checkpoints,
        ledgers=folder.path / LEDGERS,
        audit=folder.path / AUDIT,
    )
    try:
        with one_thread():
            result = autonomous.start(
                grid,
                array_record(trainer.layout.unpack(trainer.initial(seed))),
                num_rounds=num_rounds,
                evaluate_fn=evaluate,
                resume_from=checkpoint,
            )
            if baseline_nodes:
                folder.compare_with(pooled_baseline(task, baseline_nodes, seed))
    except BaseException:
        # Why the run ended matters more than what else fails after that.
        with suppress(DaaflError, OSError):
            write_bytes(folder.report, report_html(load(folder.path)).encode())
        raise
    named = {name: array.numpy() for name, array in result.arrays.items()}
    arrays = trainer.unpack(trainer.pack(named))
    write_model(folder.checkpoints / MODEL, arrays)
    write_bytes(folder.report, report_html(load(folder.path)).encode())
    Checkpoints(folder.checkpoints).clear()
    if autonomous.summary_of_run is None:
        raise DaaflError("the run ended without a summary")
    return RunResult(autonomous.summary_of_run, arrays, folder.path, task)


def resume(path: Path | str, task: Task, **arguments: Any) -> RunResult:
    """Go on with a simulated run that has not completed.

    Parameters
    ----------
    path
        The run's folder.
    task
        What it trains.
    arguments
        The other arguments of `run`, as the run was started with them.

    Raises
    ------
    ConfigError
        If there is no such run, if it is complete, or if the arguments are not the run's.
    StoreError
        If none of its checkpoints can be used.
    DataError, FederationError
        As `run` does.
    """
    return run(task, output_dir=path, resume=True, **arguments)


def _planned(
    privacy: NodePrivacy,
    num_nodes: int,
    num_rounds: int,
    pacing: Pacing | None,
    training: LocalTraining | None,
) -> NodePrivacy:
    """Return the settings fitted to how often a node is likely to be asked.

    That is the mean number of its trainings and two standard deviations more; a node that is drawn
    more often ends before the run does.
    """
    share = min((pacing or Pacing()).concurrency / num_nodes, 1.0)
    likely = num_rounds * share + 2.0 * math.sqrt(num_rounds * share * (1.0 - share))
    trainings = max(min(math.ceil(likely), num_rounds), 1)
    steps = (training or LocalTraining()).local_steps
    return privacy.planned(trainings=trainings, local_steps=steps)


def _usual_work(training: LocalTraining) -> LocalWork:
    return LocalWork(training.lr, training.local_steps, training.batch_size)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}, but must be 1 or more")


def _folder(output_dir: Path | str | None, task: Task, seed: int) -> Path:
    if output_dir is not None:
        return Path(output_dir)
    return default_path(RUNS, task=task.name, seed=seed, started=datetime.now())
