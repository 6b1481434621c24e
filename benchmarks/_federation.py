"""A federation in one process, for benchmarks that run many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from daafl.autonomy.policy import Loop
from daafl.clients import client_app
from daafl.errors import FederationError
from daafl.flower import Mod
from daafl.learning.layout import Packed
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.observability.events import Observer, RunSummary
from daafl.simulation import InProcessGrid
from daafl.strategies import (
    Autonomous,
    LocalTraining,
    Override,
    Pacing,
    ServerOptimizer,
    Settings,
)


def accuracies(
    task: Task,
    strategy: Strategy | ServerOptimizer,
    *,
    training: LocalTraining,
    loops: Sequence[Loop] | None,
    num_nodes: int,
    cohort: int,
    num_rounds: int,
    seed: int,
    overrides: Sequence[Override] = (),
    mods: Sequence[Mod] = (),
    observers: Sequence[Observer] = (),
    measure: Callable[[TorchTrainer, Packed], Mapping[str, float]] | None = None,
) -> tuple[list[float], RunSummary]:
    """Return the accuracy on the task's evaluation data after each round, and the summary.

    A run that fails keeps the accuracy it had.

    Parameters
    ----------
    mods
        Flower mods around the nodes' app.
    observers
        Told about every step.
    measure
        Further metrics of the model after each round.
    task, strategy, training, loops, num_nodes, cohort, num_rounds, seed, overrides
        As for `daafl.run`; ``cohort`` nodes train in each round.
    """
    torch.set_num_threads(1)
    trainer = TorchTrainer(task)
    layout = trainer.layout
    initial = trainer.initial(seed)
    evaluation = task.evaluation_data()
    if evaluation is None:
        raise ValueError(f"task {task.name} has no evaluation data")
    trace: list[float] = []

    def evaluate(step: int, arrays: ArrayRecord) -> MetricRecord:
        packed = layout.pack({name: array.numpy() for name, array in arrays.items()})
        metrics = trainer.evaluate(packed, evaluation)
        trace.append(metrics["accuracy"])
        metrics |= {} if measure is None else measure(trainer, packed)
        return MetricRecord(metrics)

    autonomous = Autonomous(
        strategy,
        pacing=Pacing(concurrency=cohort, quorum=cohort),
        training=training,
        loops=loops,
        settings=Settings(seed=seed, task=task.name),
        overrides=overrides,
        observers=observers,
    )
    arrays = ArrayRecord({n: Array(a) for n, a in layout.unpack(initial).items()})
    with InProcessGrid(client_app(task, mods=mods), num_nodes, workers=0) as grid:
        try:
            autonomous.start(grid, arrays, num_rounds, evaluate_fn=evaluate)
        except FederationError:
            trace += [trace[-1] if trace else 0.0] * (num_rounds - len(trace))
    summary = autonomous.summary_of_run
    if summary is None:
        raise ValueError("the run left no summary")
    return trace, summary
