"""What the same model reaches when all data is in one place: the bar for a federation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.splitting import train_test
from daafl.learning.task import Task, pooled
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Baseline:
    """What centralised training reached.

    Attributes
    ----------
    metrics
        ``loss`` and the task's metrics on its evaluation data; without such data, on a fifth of
        the pooled examples that the training never saw.
    lr
        Learning rate, chosen on held-out training data.
    steps
        Mini-batch steps.
    """

    metrics: dict[str, float]
    lr: float
    steps: int


def centralised(
    task: Task,
    num_nodes: int,
    *,
    steps: int = 600,
    batch_size: int = 16,
    seed: int = 0,
    lrs: Sequence[float] = LEARNING_RATES,
) -> Baseline:
    """Return what plain SGD on the pooled training examples of all nodes reaches.

    The learning rate is the one with the lowest loss on a fifth of the pooled examples, from which
    the runs that choose do not learn; evaluation data has no say in it.

    Raises
    ------
    DataError
        If the nodes' examples do not fit together.
    """
    examples = pooled(task, num_nodes)
    evaluation = task.evaluation_data()
    if evaluation is None:
        examples, evaluation = train_test(examples, seed)
    trainer = TorchTrainer(task)
    start = trainer.initial(seed)

    def trained(on: Examples, lr: float) -> Packed:
        work = LocalWork(lr=lr, steps=steps, batch_size=batch_size)
        return trainer.train(start, on, work, key=seed).packed

    rest, held_out = train_test(examples, seed + 1)
    losses = [trainer.evaluate(trained(rest, lr), held_out)["loss"] for lr in lrs]
    best = lrs[int(np.argmin([math.inf if math.isnan(loss) else loss for loss in losses]))]
    return Baseline(trainer.evaluate(trained(examples, best), evaluation), best, steps)
