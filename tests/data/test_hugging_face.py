"""Data sets and partitioners of the Hugging Face world, in memory."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from flwr_datasets import partitioner as flower
from PIL import Image as Picture
from torch import nn

from daafl.data.hugging_face import FlowerPartitioner, examples_from
from daafl.errors import DataError
from daafl.learning.examples import Examples
from daafl.learning.task import Task

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 200)
USERS = np.array([f"user-{i}" for i in RNG.integers(0, 5, 200)])
TABLE = Dataset.from_dict(
    {"x": RNG.random((200, 3)).tolist(), "label": LABELS.tolist(), "user": USERS.tolist()}
)


class FromTable(Task):
    def model(self) -> nn.Module:
        return nn.Linear(3, 4)

    def training(self) -> Examples:
        return examples_from(TABLE, inputs="x", targets="label", groups="user")


def test_columns_become_examples() -> None:
    examples = FromTable().training_data()
    assert examples.inputs.shape == (200, 3) and examples.inputs.dtype == np.float32
    np.testing.assert_array_equal(examples.targets, LABELS)
    np.testing.assert_array_equal(examples.groups, [int(user[-1]) for user in USERS])


def test_images_and_class_labels_become_numbers() -> None:
    pictures = [Picture.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 51, 255)]
    dataset = Dataset.from_dict(
        {"image": pictures, "kind": [0, 1, 1]},
        features=Features({"image": Image(), "kind": ClassLabel(names=["cat", "dog"])}),
    )
    examples = examples_from(
        dataset, inputs="image", targets="kind", transform=lambda pixels: pixels[:, None] / 255
    )
    assert examples.inputs.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(examples.inputs[:, 0, 0, 0], [0, 0.2, 1])
    assert examples.targets.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "partitioner",
    [
        flower.IidPartitioner(5),
        flower.DirichletPartitioner(5, "label", 0.5, min_partition_size=2),
        flower.PathologicalPartitioner(5, "label", 2),
        flower.NaturalIdPartitioner("user"),
        flower.LinearPartitioner(5),
        flower.SizePartitioner([20, 30, 40, 50, 60]),
    ],
    ids=lambda partitioner: type(partitioner).__name__,
)
def test_every_row_goes_to_one_node(partitioner: flower.Partitioner) -> None:
    task = FromTable()
    task.partitioner = FlowerPartitioner(partitioner, TABLE)
    parts = task.partitioner.split(LABELS, 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    for node, part in enumerate(parts):
        held = task.node_data(node, 5)
        np.testing.assert_array_equal(held.targets, LABELS[part])
    again = task.partitioner.split(LABELS, 5)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_natural_ids_are_kept_together() -> None:
    parts = FlowerPartitioner(flower.NaturalIdPartitioner("user"), TABLE).split(LABELS, 5)
    assert [set(USERS[part]) for part in parts] == [{f"user-{i}"} for i in range(5)]


def test_without_a_data_set_the_labels_are_divided() -> None:
    partitioner = FlowerPartitioner(lambda nodes: flower.PathologicalPartitioner(nodes, "label", 1))
    parts = partitioner.split(LABELS, 4)
    assert [len(np.unique(LABELS[part])) for part in parts] == [1, 1, 1, 1]
    assert len(partitioner.split(LABELS, 8)) == 8


@pytest.mark.parametrize(
    ("partitioner", "sentence"),
    [
        (flower.IidPartitioner(4), "IidPartitioner makes 4 partitions; the federation has 5 nodes"),
        (flower.VerticalEvenPartitioner(5), "divides columns among nodes"),
        (
            flower.DirichletPartitioner(5, "lable", 0.5),
            "DirichletPartitioner cannot divide 200 examples among 5 nodes: .*lable",
        ),
    ],
)
def test_partitioners_that_do_not_fit_are_named(
    partitioner: flower.Partitioner, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        FlowerPartitioner(partitioner, TABLE).split(LABELS, 5)


def test_another_data_set_than_the_tasks_is_refused() -> None:
    with pytest.raises(DataError, match="200 rows and the task has 10 training examples"):
        FlowerPartitioner(flower.IidPartitioner(5), TABLE).split(LABELS[:10], 5)


class Twice(flower.IidPartitioner):
    def load_partition(self, partition_id: int) -> Dataset:
        return self.dataset.select(range(10))


def test_an_example_on_two_nodes_is_refused() -> None:
    with pytest.raises(DataError, match="Twice gives some examples to several nodes"):
        FlowerPartitioner(Twice(5), TABLE).split(LABELS, 5)


def test_columns_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match="no column 'lable'; did you mean 'label'"):
        examples_from(TABLE, inputs="x", targets="lable")
    with pytest.raises(DataError, match="no column 'petals'; it has x, label, user"):
        examples_from(TABLE, inputs=("x", "petals"), targets="label")
    with pytest.raises(DataError, match="column 'user' of the data set does not hold numbers"):
        examples_from(TABLE, inputs="user", targets="label")
    ragged = Dataset.from_dict({"x": [[1], [1, 2]], "y": [0, 1]})
    with pytest.raises(DataError, match="column 'x' of the data set does not hold numbers"):
        examples_from(ragged, inputs="x", targets="y")
    empty = Dataset.from_dict(
        {"x": [None, 1.0], "y": [0, 1]},
        features=Features({"x": Value("float32"), "y": Value("int64")}),
    )
    assert np.isnan(examples_from(empty, inputs="x", targets="y").inputs[0])
