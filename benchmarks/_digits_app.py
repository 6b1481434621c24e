"""One ClientApp and one ServerApp, for simulators that are measured beside each other.

They lie in a module of their own: an app in ``__main__`` would be pickled by value with every
message, which slows Flower's Ray simulation down unfairly.
"""

from __future__ import annotations

import json
import logging
import sys

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from daafl.clients import client_app
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer

NUM_NODES = 100
TRAIN_CONFIG = {"lr": 0.1, "local-steps": 10, "batch-size": 16, "seed": 0}

logging.getLogger("flwr").setLevel(logging.ERROR)


def make_task() -> Digits:
    """Return the task; nodes have about 14 examples each."""
    return Digits()


app = client_app(make_task)


def server_app(num_rounds: int) -> ServerApp:
    """Return a ServerApp that trains with Flower's own FedAvg, all nodes in every round."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        trainer = TorchTrainer(make_task())
        examples = make_task().evaluation_data()
        arrays = trainer.unpack(trainer.initial(0))

        def evaluate(step: int, record: ArrayRecord) -> MetricRecord:
            named = {name: array.numpy() for name, array in record.items()}
            return MetricRecord(dict(trainer.evaluate(trainer.pack(named), examples)))

        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=NUM_NODES)
        result = strategy.start(
            grid,
            ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            num_rounds=num_rounds,
            train_config=ConfigRecord(dict(TRAIN_CONFIG)),
            evaluate_fn=evaluate,
        )
        last = result.evaluate_metrics_serverapp[num_rounds]
        print(json.dumps({"accuracy": last["accuracy"]}), file=sys.stdout, flush=True)

    return server
