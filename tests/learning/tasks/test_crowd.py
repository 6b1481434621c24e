"""The crowd: data that exists only while a node trains."""

import numpy as np
import pytest

from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.tasks.crowd import Crowd
from daafl.learning.trainer import LocalWork, TorchTrainer


def test_a_node_has_the_same_points_in_a_crowd_of_any_size() -> None:
    few, many = Crowd().node_data(7, 10), Crowd().node_data(7, 1_000_000)
    np.testing.assert_array_equal(few.inputs, many.inputs)
    other, reseeded = Crowd().node_data(8, 10), Crowd(seed=1).node_data(7, 10)
    for examples in (other, reseeded):
        assert len(examples) != len(few) or not np.array_equal(examples.inputs, few.inputs)


def test_nodes_are_small_and_see_few_classes() -> None:
    crowd = Crowd()
    parts = [crowd.node_data(node, 300) for node in range(300)]
    sizes = [len(part) for part in parts]
    assert (min(sizes), max(sizes)) == (10, 30)
    assert max(len(np.unique(part.targets)) for part in parts) == 3
    seen = np.bincount(np.concatenate([part.targets for part in parts]), minlength=10)
    assert (seen > 0.5 * seen.mean()).all()  # together they see all


def test_what_nodes_have_teaches_what_is_evaluated() -> None:
    crowd = Crowd()
    parts = [crowd.node_data(node, 400) for node in range(400)]
    pooled = Examples(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.targets for part in parts]),
    )
    trainer = TorchTrainer(crowd)
    work = LocalWork(lr=0.1, steps=600, batch_size=32)
    trained = trainer.train(trainer.initial(0), pooled, work, key=1)
    evaluation = crowd.evaluation_data()
    assert evaluation is not None
    assert 0.8 < trainer.evaluate(trained.packed, evaluation)["accuracy"] < 0.99


@pytest.mark.parametrize("values", [{"hidden": 0}, {"separation": -1.0}, {"seed": -1}])
def test_impossible_crowds_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least"):
        Crowd(**values)
