"""What a user's task gives, remembers and refuses."""

import copy
import pickle
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from daafl.data.partition import ConceptShift, Dirichlet, Iid, Partitioner
from daafl.errors import DataError
from daafl.learning.examples import Examples
from daafl.learning.task import Task, pooled


class Counted(Task):
    """Twenty examples; counts how often they are asked for."""

    calls = 0

    def model(self) -> nn.Module:
        return nn.Linear(1, 2)

    def training(self) -> Examples:
        self.calls += 1
        return Examples(np.arange(20.0)[:, None], np.arange(20) % 2)

    def evaluation(self) -> Examples:
        self.calls += 100
        return Examples(np.zeros((1, 1)), np.zeros(1, int))


class Own(Task):
    """Every node has as many examples as its number."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 2)

    def partition(self, node: int, num_nodes: int) -> Examples:
        return Examples(np.full((node, 1), node), np.zeros(node, int))


def test_data_is_asked_for_once() -> None:
    task = Counted()
    for _ in range(2):
        parts = [task.node_data(node, 4) for node in range(4)]
        task.evaluation_data()
        task.node_data(0, 5)
    assert task.calls == 101
    assert task.node_data(0, 4) is parts[0]
    assert sorted(np.concatenate([part.inputs[:, 0] for part in parts])) == list(range(20))
    assert sum(len(part) for part in parts) == 20


def test_few_nodes_are_remembered() -> None:
    task = Counted()
    task.partitioner = Iid()
    task.training = lambda: Examples(np.zeros((300, 1)), np.zeros(300, int))
    first = task.node_data(0, 300)
    for node in range(1, 257):
        task.node_data(node, 300)
    again = task.node_data(0, 300)
    assert again is not first
    np.testing.assert_array_equal(again.inputs, first.inputs)


def test_the_partitioner_transforms_what_a_node_sees() -> None:
    task = Counted()
    task.partitioner = ConceptShift(num_groups=2, num_classes=2, seed=1)
    plain = Counted()
    permutation = task.partitioner.permutation(1)
    for node in range(4):
        expected = plain.node_data(node, 4).targets
        expected = permutation[expected] if node % 2 else expected
        assert task.node_data(node, 4).targets.tolist() == expected.tolist()


def test_groups_decide_the_division_when_there_are_any() -> None:
    task = Counted()
    examples = Examples(np.zeros(40), np.zeros((40, 3)), np.repeat(np.arange(4), 10))
    task.training = lambda: examples
    task.partitioner = Dirichlet(alpha=1e-3, min_examples=0)
    held = [len(np.unique(task.partition(node, 2).groups)) for node in range(2)]
    assert sum(held) == 4


def test_own_data_needs_no_training_set() -> None:
    task = Own()
    assert len(task.node_data(3, 5)) == 3
    assert task.evaluation_data() is None
    with pytest.raises(DataError, match="'Own' has no data; write training"):
        task.training_data()


class Careful(Counted):
    """Node 0 has examples to validate with, node 1 has none, node 2 is confused."""

    def validation(self, node: int, num_nodes: int) -> Examples | None:
        given = [Examples(np.full((3, 1), 9.0), np.zeros(3, int)), None, "examples"]
        return given[node]  # type: ignore[return-value]


def test_nodes_validate_on_their_own_data_unless_there_is_more() -> None:
    task = Careful()
    assert task.validation_data(0, 3).inputs.tolist() == [[9.0]] * 3
    assert task.validation_data(0, 3) is task.validation_data(0, 3)
    assert task.validation_data(1, 3) is task.node_data(1, 3)
    with pytest.raises(DataError, match=r"validation\(2, 3\) of task 'Careful' returned str"):
        task.validation_data(2, 3)
    with pytest.raises(DataError, match="node 3 of 3"):
        task.validation_data(3, 3)
    plain = Counted()
    assert plain.validation_data(2, 3) is plain.node_data(2, 3)


def test_tasks_may_be_frozen_dataclasses() -> None:
    @dataclass(frozen=True)
    class Frozen(Counted):
        name = "ice"
        partitioner: Partitioner = field(default=Iid(seed=3))

        def training(self) -> Examples:
            return Examples(np.zeros((5, 1)), np.zeros(5, int))

    task = Frozen()
    assert task.name == "ice"
    assert task.node_data(1, 5) is task.node_data(1, 5)
    assert task == Frozen() and hash(task) == hash(Frozen())


def test_copies_leave_remembered_data_behind() -> None:
    task = Counted()
    task.node_data(0, 4)
    assert "_memory" not in copy.copy(task).__dict__
    assert len(pickle.dumps(task)) < 200
    assert pickle.loads(pickle.dumps(task)).calls == 1


@pytest.mark.parametrize(("node", "num_nodes"), [(4, 4), (-1, 4), (0, 0)])
def test_a_node_that_does_not_exist_is_refused(node: int, num_nodes: int) -> None:
    with pytest.raises(DataError, match=f"asked for node {node} of {num_nodes}"):
        Counted().node_data(node, num_nodes)


def test_wrong_data_is_named_with_where_it_came_from() -> None:
    task = Counted()
    task.training = lambda: (np.zeros(1), np.zeros(1))
    with pytest.raises(DataError, match=r"training\(\) of task 'Counted' returned tuple"):
        task.node_data(0, 1)
    with pytest.raises(DataError, match=r"partition\(0, 5\) of task 'Own' returned no examples"):
        Own().node_data(0, 5)
    task = Counted()
    task.evaluation = lambda: Examples(np.zeros(0), np.zeros(0))
    with pytest.raises(DataError, match=r"evaluation\(\) of task 'Counted' returned no examples"):
        task.evaluation_data()


def test_a_partitioner_that_makes_too_few_parts_is_named() -> None:
    class One(Partitioner):
        def split(self, labels: np.ndarray, num_nodes: int) -> tuple[np.ndarray, ...]:
            return (np.arange(len(labels)),)

    task = Counted()
    task.partitioner = One()
    with pytest.raises(DataError, match="One made 1 parts for 3 nodes"):
        task.node_data(0, 3)


def test_the_default_loss_and_metrics() -> None:
    task = Counted()
    outputs = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])
    targets = torch.tensor([1, 1])
    # -log(1/2) and -log(1/4): mean 1.5 log 2. A tie goes to class 0, so none is right.
    assert task.loss(outputs, targets).item() == pytest.approx(1.5 * np.log(2))
    assert task.metrics(outputs, targets) == {"accuracy": 0.0}
    assert task.metrics(outputs, torch.tensor([1, 0])) == {"accuracy": 0.5}
    # The same figures with an axis of positions.
    assert task.loss(outputs[None], targets[None]).item() == pytest.approx(1.5 * np.log(2))
    assert task.metrics(outputs[None], torch.tensor([[1, 0]])) == {"accuracy": 0.5}


def test_pooled_holds_what_all_nodes_hold() -> None:
    examples = pooled(Counted(), 4)
    order = np.argsort(examples.inputs[:, 0])
    assert examples.inputs[order, 0].tolist() == list(range(20))
    assert examples.targets[order].tolist() == [0, 1] * 10


def test_parts_of_different_shape_cannot_be_pooled() -> None:
    class Ragged(Own):
        def partition(self, node: int, num_nodes: int) -> Examples:
            return Examples(np.zeros((1, node)), np.zeros(1))

    with pytest.raises(DataError, match="of the 2 nodes of task 'Ragged' do not fit together"):
        pooled(Ragged(), 2)
