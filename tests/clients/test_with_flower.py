"""The client app under Flower's own strategies, in the in-process Grid."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)

from daafl.clients import client_app
from daafl.data.partition import Dirichlet
from daafl.learning import Task, TorchTrainer
from daafl.learning.tasks.digits import Digits
from daafl.simulation import InProcessGrid


def start(
    strategy: Strategy,
    task: Task,
    *,
    num_nodes: int,
    num_rounds: int,
    workers: int = 0,
    **config: float | int,
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Run the strategy's own loop; return the final arrays and the accuracy after each round."""
    random.seed(5)  # Flower's strategies draw their nodes from the global generator
    trainer = TorchTrainer(task)
    sent = {name: Array(array) for name, array in trainer.unpack(trainer.initial(seed=0)).items()}
    with InProcessGrid(client_app(task), num_nodes, workers=workers) as grid:
        result = strategy.start(
            grid,
            ArrayRecord(sent),
            num_rounds=num_rounds,
            train_config=ConfigRecord(dict(config)),
        )
    arrays = {name: array.numpy() for name, array in result.arrays.items()}
    reports = result.evaluate_metrics_clientapp
    return arrays, [float(reports[number]["accuracy"]) for number in sorted(reports)]


def test_fedavg_learns_digits() -> None:
    task = Digits(partitioner=Dirichlet(alpha=1.0))
    settings = {"num_nodes": 10, "num_rounds": 6, "lr": 0.3, "local-steps": 20}
    arrays, accuracies = start(FedAvg(), task, workers=2, **settings)
    assert len(accuracies) == 6
    assert accuracies[-1] > 0.9
    # What is left of the run depends on its seeds alone, not on who trained what.
    again, _ = start(FedAvg(), task, workers=0, **settings)
    assert all(np.array_equal(arrays[name], again[name]) for name in again)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvgM": lambda: FedAvgM(server_momentum=0.5),
    "FedAdagrad": FedAdagrad,
    "FedAdam": FedAdam,
    "FedYogi": FedYogi,
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedMedian": FedMedian,
    "FedTrimmedAvg": FedTrimmedAvg,
    "Krum": lambda: Krum(num_malicious_nodes=1),
    "MultiKrum": lambda: MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
    "QFedAvg": lambda: QFedAvg(client_learning_rate=0.3, train_loss_key="train_loss"),
}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_can_use_the_replies(name: str) -> None:
    """FedAdam turns the model into float64 after its first round; the second proves it goes on."""
    arrays, accuracies = start(STRATEGIES[name](), Digits(), num_nodes=5, num_rounds=2, lr=0.3)
    assert len(accuracies) == 2
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_strategy_runs_an_app_that_has_never_heard_of_daafl() -> None:
    """Every node pulls the model half-way to its number: the mean of 0 ... 9 is 4.5."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = message.content["arrays"].to_numpy_ndarrays()[0]
        target = float(context.node_config["partition-id"])
        content = RecordDict(
            {
                "arrays": ArrayRecord([(model + target) / 2]),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return Message(content, reply_to=message)

    with InProcessGrid(app, 10, workers=2) as grid:
        strategy = FedAvg(fraction_evaluate=0.0)
        result = strategy.start(grid, ArrayRecord([np.zeros(2)]), num_rounds=8)
    # The error halves in each round: 4.5 / 2**8 is left.
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], 4.5 - 4.5 / 2**8)
