"""Your own Flower strategy, and your own server optimiser. Run it: python custom_strategy.py."""

import copy
from collections.abc import Sequence

import numpy as np
from flwr.serverapp.strategy import FedAvg

import daafl
from daafl.learning.layout import Layout, Packed
from daafl.learning.tasks.tabular import BreastCancer
from daafl.learning.update import Update


class LoudestSilenced(FedAvg):
    """A Flower strategy: averages without the node that reports the largest loss."""

    def aggregate_train(self, server_round, replies):
        """Drop one reply, then let FedAvg do its work."""
        quiet = sorted(replies, key=lambda reply: reply.content["metrics"]["train_loss"])
        return super().aggregate_train(server_round, quiet[:-1])


class SignDescent:
    """A server optimiser: steps along the signs of the mean update (signSGD, Bernstein 2018)."""

    needs = "mean"

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew; the layout tells how the model's numbers lie in its bytes."""
        self.layout, self.step = layout, 0.005

    def node_config(self) -> dict[str, float]:
        """Return what nodes are told in addition."""
        return {}

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model that follows."""
        total = sum(update.num_examples * update.damping * update.delta for update in updates)
        return self.layout.packed(self.layout.vector(packed) + self.step * np.sign(total))

    def scale(self, factor: float) -> None:
        """Take smaller steps when each combines fewer updates."""
        self.step *= factor

    def state(self) -> None:
        """Return what goes back together with an older model; this one remembers nothing."""

    def load(self, state: None) -> None:
        """Go back to such a state."""

    def fork(self) -> "SignDescent":
        """Return another one in the same state."""
        return copy.copy(self)


for strategy in (LoudestSilenced(), SignDescent()):
    result = daafl.run(BreastCancer(), strategy=strategy, num_nodes=10, num_rounds=15)
    print(f"{type(strategy).__name__}: accuracy {result.summary.final_accuracy:.3f}")
