"""Federated averaging with pfl-research: its simulation in one process, as its examples set it up.

Data is shuffled when a client is drawn, since pfl takes batches in the order they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _job import job, stamp
from _models import arrays, model
from _work import LR, Floats, Work
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional


class Module(nn.Module):
    """A model as pfl wants it: with its loss."""

    def __init__(self, work: Work, weights: list[Floats]) -> None:
        super().__init__()
        self.layers = model(work, weights)

    def loss(self, inputs: Tensor, targets: Tensor, is_eval: bool = False) -> Tensor:
        """Return the mean loss of a batch."""
        return functional.cross_entropy(self.layers(inputs), targets)

    @torch.no_grad()
    def metrics(self, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """Return nothing: nobody evaluates here."""
        return {}


class Stamps(TrainingProcessCallback):
    """Notes when rounds end."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_begin(self, *, model: Any) -> Metrics:
        """Note when the first round begins."""
        self.stamps.append(stamp())
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Any, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Note that a round is over."""
        self.stamps.append(stamp())
        return False, Metrics()


def drawn(work: Work, seed: int) -> Iterator[int]:
    """Yield the clients of one cohort after the other, each cohort without repetition."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.choice(work.clients, work.cohort, replace=False).tolist()


def main() -> None:
    """Do the job of the command line."""
    torch.set_num_threads(1)
    given = job()
    work, data = given.work, given.data
    inputs = data.clients(torch.from_numpy(data.inputs))
    targets = data.clients(torch.from_numpy(data.targets))
    torch.manual_seed(given.seed)

    def dataset(client: int) -> Dataset:
        order = torch.randperm(len(targets[client]))
        return Dataset((inputs[client][order], targets[client][order]), user_id=str(client))

    clients = drawn(work, given.seed)
    module = Module(work, data.weights)
    trained = PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), 1.0),
    )
    stamps = Stamps()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=given.rounds,
            evaluation_frequency=10**9,
            train_cohort_size=work.cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(
            training_data=FederatedDataset(dataset, lambda: next(clients)),
            val_data=None,
            postprocessors=[WeightByDatapoints()],
        ),
        model=trained,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LR, local_batch_size=work.batch
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[stamps],
    )
    given.finish(stamps.stamps, arrays(module.layers))


if __name__ == "__main__":
    main()
