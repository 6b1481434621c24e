"""How good a run's model is: on the server's examples, and beside training in one place."""

from __future__ import annotations

from math import isfinite

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import Grid

from daafl.errors import DataError
from daafl.learning.baseline import centralised
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.observability.run import Baseline
from daafl.strategies.clock import Clock
from daafl.strategies.schedule import EvaluateFn


def evaluation(trainer: TorchTrainer, grid: Grid) -> EvaluateFn | None:
    """Return Flower's ``evaluate_fn``; ``None`` if the task has no data for it."""
    task = trainer.task
    if task.evaluation_data() is None:
        return None

    def evaluate(_: int, record: ArrayRecord) -> MetricRecord:
        # Data drifts with virtual time alone.
        examples = task.evaluation_data(grid.now_s() if isinstance(grid, Clock) else 0.0)
        if examples is None:
            raise DataError(f"task {task.name!r} has lost its evaluation data")
        arrays = {name: array.numpy() for name, array in record.items()}
        return MetricRecord(dict(trainer.evaluate(trainer.pack(arrays), examples)))

    return evaluate


def pooled_baseline(task: Task, num_nodes: int, seed: int) -> Baseline:
    """Return what training on the data of all nodes in one place reaches."""
    reached = centralised(task, num_nodes, seed=seed)
    loss, accuracy = reached.metrics["loss"], reached.metrics.get("accuracy")
    return Baseline(
        accuracy=accuracy,
        loss=loss if isfinite(loss) else None,
        description=(
            f"centralised training, {reached.steps} steps at learning rate {reached.lr:g}, "
            "which held-out training data chose"
        ),
    )
