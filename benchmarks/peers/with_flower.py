"""Federated averaging with Flower's Ray simulation: one actor per core, one thread each.

Flower's engine is run directly, without the seconds that ``flwr run`` adds before it. FedAvg counts
the nodes before it waits for them, and trains fewer than it should while they are still coming;
so this waits for all of them first, and checks that every round trained a whole cohort.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable

from _job import Job, job, stamp
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


class Counting(FedAvg):
    """FedAvg that notes how many clients took part in each round."""

    def __init__(self, cohort: int, clients: int) -> None:
        super().__init__(
            fraction_train=cohort / clients,
            fraction_evaluate=0.0,
            min_train_nodes=cohort,
            min_available_nodes=clients,
        )
        self.counts: list[int] = []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Count the replies, and let FedAvg combine them."""
        received = list(replies)
        self.counts.append(sum(not reply.has_error() for reply in received))
        return super().aggregate_train(server_round, received)


def server_app(given: Job) -> ServerApp:
    """Return the server's side of a job."""
    from _models import model

    app = ServerApp()
    work = given.work

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < work.clients:
            time.sleep(0.01)
        stamps: list[float] = []

        def evaluate(server_round: int, arrays: ArrayRecord) -> None:
            stamps.append(stamp())

        strategy = Counting(work.cohort, work.clients)
        module = model(work, given.data.weights)
        result = strategy.start(
            grid,
            ArrayRecord(module.state_dict()),
            num_rounds=given.rounds,
            evaluate_fn=evaluate,
        )
        if set(strategy.counts) != {work.cohort}:
            sys.exit(f"rounds trained {strategy.counts} clients, not {work.cohort}")
        given.finish(stamps, [array.numpy() for array in result.arrays.values()])

    return app


def main() -> None:
    """Do the job of the command line."""
    given = job()
    # Read by the actors, which import the app when they start.
    os.environ["PEER_WORK"] = given.name
    os.environ["PEER_DATA"] = str(given.data_path)
    from _flower_app import app

    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(
        server_app(given),
        app,
        num_supernodes=given.work.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )


if __name__ == "__main__":
    main()
