"""Your own Flower strategy and your own server optimiser, each in a federation that runs itself.

python examples/custom_strategy.py
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg

import daafl
from daafl.learning.layout import Layout, Packed
from daafl.learning.tasks.tabular import BreastCancer
from daafl.learning.update import Update
from daafl.strategies import ServerOptimizer


class LoudestSilenced(FedAvg):
    """A Flower strategy: averages without the node that reports the largest loss."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Drop one reply, then let FedAvg do its work."""
        quiet = sorted(replies, key=lambda reply: float(reply.content["metrics"]["train_loss"]))
        return super().aggregate_train(server_round, quiet[:-1])


class SignDescent(ServerOptimizer):
    """A server optimiser: steps along the sign of the mean update (signSGD, Bernstein 2018)."""

    needs = "mean"

    def __init__(self, step: float = 0.005) -> None:
        self.step = step

    def init(self, layout: Layout, packed: Packed) -> None:
        """Remember how the model's numbers lie in its bytes."""
        self.layout = layout

    def node_config(self) -> Mapping[str, float]:
        """Tell nodes nothing in addition."""
        return {}

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model one step further."""
        total = sum(update.num_examples for update in updates)
        mean = sum(u.num_examples / total * u.damping * u.delta for u in updates)
        return self.layout.packed(self.layout.vector(packed) + self.step * np.sign(mean))

    def scale(self, factor: float) -> None:
        """Take smaller steps when each combines fewer updates."""
        self.step *= factor


for strategy in (LoudestSilenced(), SignDescent()):
    result = daafl.run(
        BreastCancer(), strategy=strategy, num_nodes=10, num_rounds=15, progress="quiet"
    )
    print(f"{type(strategy).__name__}: accuracy {result.summary.final_accuracy:.3f}")
