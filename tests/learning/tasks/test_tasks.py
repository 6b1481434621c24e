"""The tasks that ship: sizes, repeatability, and that each can be learned."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from daafl.data.partition import Iid
from daafl.errors import ConfigError, DataError
from daafl.learning.task import Task
from daafl.learning.tasks.bundled import bundled_table
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits, digit_rows
from daafl.learning.tasks.synthetic import Synthetic
from daafl.learning.tasks.tabular import BreastCancer, Wine
from daafl.learning.trainer import LocalWork, TorchTrainer

# task, training and evaluation examples, values in the model
SHIPPED = [
    (Digits(), 1438, 359, 64 * 32 + 32 + 32 * 10 + 10),
    (Digits(scale="raw", hidden=16), 1438, 359, 64 * 16 + 16 + 16 * 10 + 10),
    (DigitsCnn(), 1438, 359, 8 * 9 + 8 + 16 * 72 + 16 + 256 * 32 + 32 + 32 * 10 + 10),
    (Synthetic(), 5600, 1400, 40 * 32 + 32 + 32 * 10 + 10),
    (BreastCancer(), 456, 113, 30 * 16 + 16 + 16 * 2 + 2),
    (Wine(), 143, 35, 13 * 16 + 16 + 16 * 3 + 3),
]


def named(task: object) -> str:
    return f"{task.name}-{task.scale}" if isinstance(task, Digits) else getattr(task, "name", "")


@pytest.mark.parametrize(("task", "training", "evaluation", "size"), SHIPPED, ids=named)
def test_sizes(task: Task, training: int, evaluation: int, size: int) -> None:
    assert len(task.training_data()) == training
    assert len(task.evaluation_data()) == evaluation
    assert TorchTrainer(task).layout.num_parameters == size
    assert task.training_data().inputs.dtype == np.float32


@pytest.mark.parametrize(("task", "training", "evaluation", "size"), SHIPPED, ids=named)
def test_seeds_decide_the_data(task: Task, training: int, evaluation: int, size: int) -> None:
    same, other = type(task)(seed=0), type(task)(seed=1)
    np.testing.assert_array_equal(type(task)().training_data().inputs, same.training_data().inputs)
    assert not np.array_equal(same.training_data().targets, other.training_data().targets)


@pytest.mark.parametrize(
    ("task", "lr", "steps", "accuracy"),
    [
        (Digits(), 0.1, 400, 0.94),
        (Digits(scale="raw"), 0.03, 400, 0.93),
        (DigitsCnn(), 0.2, 150, 0.85),
        (Synthetic(), 0.2, 600, 0.7),
        (BreastCancer(), 0.1, 200, 0.95),
        (Wine(), 0.1, 200, 0.93),
    ],
    ids=named,
)
def test_each_can_be_learned(task: Task, lr: float, steps: int, accuracy: float) -> None:
    trainer = TorchTrainer(task)
    work = LocalWork(lr=lr, steps=steps, batch_size=16)
    trained = trainer.train(trainer.initial(0), task.training_data(), work, key=0)
    assert trainer.evaluate(trained.packed, task.evaluation_data())["accuracy"] >= accuracy


def rows_of(task: Task) -> set[bytes]:
    parts = (task.training_data(), task.evaluation_data())
    return {row.tobytes() for part in parts for row in np.asarray(part.inputs)}


def test_digits_are_those_of_scikit_learn() -> None:
    images = load_digits().data.astype(np.float32)
    assert rows_of(Digits(scale="raw")) == {row.tobytes() for row in images}
    standard = np.concatenate([p.inputs for p in (Digits().training(), Digits().evaluation())])
    assert abs(standard.mean()) < 0.05 and abs(standard.std() - 1) < 0.05
    assert sorted(DigitsCnn().training().inputs.shape[1:]) == [1, 8, 8]


@pytest.mark.parametrize(
    ("task", "load"), [(Wine(), load_wine), (BreastCancer(), load_breast_cancer)]
)
def test_columns_are_standardised_by_training_rows_alone(task: Task, load) -> None:
    training, evaluation = task.training_data(), task.evaluation_data()
    np.testing.assert_allclose(training.inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(training.inputs.std(0), 1, rtol=1e-4)
    assert abs(evaluation.inputs.mean(0)).max() > 1e-3
    assert len(rows_of(task)) == len(np.unique(load().data, axis=0))


def test_a_partitioner_can_be_given() -> None:
    task = Digits(partitioner=Iid(seed=4))
    assert [len(task.node_data(node, 4)) for node in range(4)] == [360, 360, 359, 359]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Digits(hidden=0), "hidden=0"),
        (lambda: Digits(scale="big"), "scale='big'"),
        (lambda: DigitsCnn(channels=0), "channels=0"),
        (lambda: Wine(hidden=0), "task wine has hidden=0"),
        (lambda: Synthetic(separation=float("nan")), "separation=nan"),
    ],
)
def test_settings_out_of_range_are_named(make, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make()


def test_the_digits_are_those_that_scikit_learn_loads() -> None:
    data, rows = load_digits(), digit_rows("raw")
    np.testing.assert_array_equal(rows.inputs, data.data.astype(np.float32))
    np.testing.assert_array_equal(rows.targets, data.target)


def test_a_data_file_that_is_not_shipped_is_named() -> None:
    with pytest.raises(DataError, match=r"does not ship cats\.csv\.gz"):
        bundled_table("cats.csv.gz")
