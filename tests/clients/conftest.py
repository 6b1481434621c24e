"""A small task with counters, tied weights and every kind of record, and how to ask for it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch import Tensor, nn

from daafl.flower import adopt_task_identity, with_message_id
from daafl.learning import Examples, Task, TorchTrainer


class Net(nn.Module):
    """Two linear layers around a norm that counts its batches; one bias under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 3)
        self.out.bias = self.hidden.bias

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.out(torch.relu(self.norm(self.hidden(inputs))))
        return result


class Toy(Task):
    """Three classes told apart by the largest of three coordinates."""

    def model(self) -> nn.Module:
        return Net()

    def training(self) -> Examples:
        inputs = np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32)
        return Examples(inputs, inputs[:, :3].argmax(1))


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def trainer() -> TorchTrainer:
    return TorchTrainer(Toy())


def context_of(partition: int = 2, num_partitions: int = 5) -> Context:
    config = {"partition-id": partition, "num-partitions": num_partitions}
    return Context(1, 1000 + partition, config, RecordDict(), {})


@pytest.fixture
def context() -> Context:
    return context_of()


Build = Callable[..., Message]


@pytest.fixture
def message() -> Build:
    """Return a message: `message("train", packed, {"lr": 0.1})`; arrays are packed or named."""
    adopt_task_identity(run_id=1)

    def build(
        message_type: str,
        arrays: np.ndarray | dict[str, np.ndarray] | None,
        config: ConfigRecord | dict[str, object] | None,
    ) -> Message:
        content = RecordDict()
        if isinstance(arrays, dict):
            content["arrays"] = ArrayRecord({name: Array(a) for name, a in arrays.items()})
        elif arrays is not None:
            content["arrays"] = ArrayRecord({"packed": Array(arrays)})
        if config is not None:
            content["config"] = ConfigRecord(dict(config))
        return with_message_id(Message(content, 1002, message_type), "message-1")

    return build
