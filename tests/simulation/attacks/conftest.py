"""A task so small that every update can be worked out by hand, and a federation that runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from torch import Tensor, nn

from daafl.clients import client_app
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.messages import Assignment
from daafl.simulation import InProcessGrid
from daafl.simulation.attacks import Attack, hostile

FEDERATION = "test"


@dataclass(frozen=True)
class Means(Task):
    """Learns a vector; node ``k`` pulls it towards ``centres[k]``.

    With the loss ``|w - x|^2 / 2``, a learning rate of 1 and one step, the update from ``w = 0``
    is the mean of the node's examples: here ``centres[k]``, which all four examples equal.
    """

    name: ClassVar[str] = "means"

    centres: tuple[tuple[float, ...], ...] = ((2.0, 0.0), (0.0, 4.0), (6.0, 2.0), (1.0, 1.0))
    labels_of: tuple[int, ...] = field(default=(0, 1, 1, 2))

    def model(self) -> nn.Module:
        """Return the vector, from 0."""
        return _Vector(len(self.centres[0]))

    def partition(self, node: int, num_nodes: int) -> Examples:
        """Return four equal inputs; their labels go unused."""
        inputs = np.tile(np.array(self.centres[node], np.float32), (4, 1))
        return Examples(inputs, np.array(self.labels_of))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return half the mean squared distance."""
        return outputs.square().sum(dim=1).mean() / 2

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return nothing."""
        return {}


class _Vector(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.weight - inputs


@pytest.fixture
def means() -> Task:
    """Return the task with four nodes, whose updates from 0 are their centres."""
    return Means()


@dataclass(frozen=True)
class Asked:
    """What the nodes answered in one round, by node."""

    replies: dict[int, RecordDict]
    trainer: TorchTrainer
    base: Packed

    def delta(self, node: int) -> npt.NDArray[np.float32]:
        """Return a node's update."""
        layout = self.trainer.layout
        packed = self.replies[node]["arrays"]["packed"].numpy()
        return layout.vector(packed) - layout.vector(self.base)

    def metric(self, node: int, key: str) -> float:
        """Return a number that a node reports."""
        return self.replies[node]["metrics"][key]


Ask = Callable[..., Asked]


@pytest.fixture
def ask() -> Ask:
    """Ask nodes to train in some rounds; return what they answer in the last of them."""

    def asked(
        task: Task,
        attack: Attack | None,
        *,
        num_nodes: int = 4,
        rounds: Sequence[int] = (1,),
        kind: str = "train",
        lr: float = 1.0,
        workers: int = 0,
        draw: int = 0,
        extra: Mapping[str, list[float]] | None = None,
    ) -> Asked:
        trainer = TorchTrainer(task)
        base = trainer.initial(0)
        mods = [] if attack is None else [hostile(attack, task, num_nodes)]
        with InProcessGrid(client_app(task, mods=mods), num_nodes, workers=workers) as grid:
            for number in rounds:
                record = Assignment(
                    federation=FEDERATION,
                    version=number - 1,
                    draw=draw,
                    lr=lr,
                    local_steps=1,
                    batch_size=4,
                ).to_record()
                config = ConfigRecord({**record, **(extra or {})})
                model = ArrayRecord({"packed": Array(base)})
                content = RecordDict({"config": config, "arrays": model})
                messages = [Message(content, node, kind) for node in grid.get_node_ids()]
                replies = list(grid.send_and_receive(messages))
        return Asked({k: reply.content for k, reply in enumerate(replies)}, trainer, base)

    return asked
