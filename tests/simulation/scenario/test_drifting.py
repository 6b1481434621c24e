"""Data that drifts: which examples change, when, and that everybody agrees on it."""

import numpy as np
import pytest
from torch import nn

from daafl.data.partition import ConceptShift, Iid
from daafl.errors import DataError
from daafl.learning.examples import Examples
from daafl.learning.task import Task
from daafl.simulation.scenario import ConceptDrift, Event, LabelDrift, Scenario

NUM_NODES = 4
LABELS = np.repeat(np.arange(5), 400)


class Pool(Task):
    """2,000 examples, 400 of each of five classes; the input of an example is its number."""

    partitioner = Iid()

    def model(self) -> nn.Module:
        return nn.Linear(1, 5)

    def training(self) -> Examples:
        return Examples(np.arange(2000.0, dtype=np.float32)[:, None], LABELS)

    def evaluation(self) -> Examples:
        return Examples(np.arange(1000.0, dtype=np.float32)[:, None], np.arange(1000) % 5)


class Own(Pool):
    """Nodes with data of their own: node ``i`` has classes ``i`` and ``i + 1`` alone."""

    def partition(self, node: int, num_nodes: int) -> Examples:
        return self.training_data().take(np.flatnonzero((node == LABELS) | (node + 1 == LABELS)))


def drifting(task: Task, *events: Event) -> Task:
    return Scenario(NUM_NODES, events, seed=3).drifting(task)


def shares(examples: Examples) -> np.ndarray:
    return np.bincount(np.asarray(examples.targets), minlength=5) / len(examples)


def test_before_it_begins_nothing_is_different_and_nothing_is_copied() -> None:
    task = drifting(Pool(), LabelDrift(at_s=10.0))
    assert task.node_data(1, NUM_NODES) is task.node_data(1, NUM_NODES, 9.99)
    assert task.evaluation_data() is task.evaluation_data(9.99)
    plain = Pool().node_data(1, NUM_NODES)
    assert (task.node_data(1, NUM_NODES).inputs == plain.inputs).all()


def test_a_label_drift_moves_the_class_mix_step_by_step() -> None:
    task = drifting(Pool(), LabelDrift(at_s=100.0, over_s=160.0, classes=[2], share=0.8))
    first = shares(task.node_data(0, NUM_NODES))[2]
    mixes = [shares(task.node_data(0, NUM_NODES, t))[2] for t in (100.0, 180.0, 260.0, 9e9)]
    # Of 500 examples a share s gives way to class 2: first + s * (1 - first), with a standard
    # deviation of at most 0.018.
    assert mixes[0] == first  # the first of sixteen steps comes after 10 s
    assert mixes[1] == pytest.approx(first + 0.4 * (1 - first), abs=0.06)
    assert mixes[2] == pytest.approx(first + 0.8 * (1 - first), abs=0.06)
    assert mixes[3] == mixes[2]


def test_what_has_given_way_stays_so_as_more_gives_way() -> None:
    task = drifting(Pool(), LabelDrift(over_s=160.0, classes=[2], share=1.0))
    data = [task.node_data(0, NUM_NODES, time_s).inputs[:, 0] for time_s in (0.0, 50.0, 120.0)]
    changed = [set(np.flatnonzero(later != data[0]).tolist()) for later in data[1:]]
    assert changed[0] < changed[1]
    kept = sorted(changed[0])
    assert (data[1][kept] == data[2][kept]).all()


def test_nodes_drift_to_classes_of_their_own_and_back_at_the_end() -> None:
    task = drifting(Pool(), LabelDrift(at_s=10.0, until_s=20.0, share=1.0, nodes=[0, 1, 2]))
    for node in (0, 1, 2):
        assert shares(task.node_data(node, NUM_NODES, 15.0)).max() == 1.0
        assert task.node_data(node, NUM_NODES, 20.0).inputs.tolist() == (
            task.node_data(node, NUM_NODES).inputs.tolist()
        )
    before, after = (task.node_data(3, NUM_NODES, time_s) for time_s in (0.0, 15.0))
    assert before.inputs.tolist() == after.inputs.tolist()
    # What nodes hold has nothing to do with what is judged.
    assert task.evaluation_data(15.0).targets.tolist() == task.evaluation_data().targets.tolist()


def test_examples_that_take_over_go_through_the_partitioner() -> None:
    class Renamed(Pool):
        partitioner = ConceptShift(num_groups=2, num_classes=5)

    new_name = Renamed.partitioner.permutation(1)[2]
    task = drifting(Renamed(), LabelDrift(classes=[2], share=1.0))
    assert set(task.node_data(1, NUM_NODES).targets.tolist()) == {new_name}


def test_a_task_that_divides_its_data_repeats_examples_of_its_own() -> None:
    task = drifting(Own(), LabelDrift(at_s=1.0, nodes=1, classes=[2], share=1.0))
    assert shares(task.node_data(1, NUM_NODES)).tolist() == [0.0, 0.5, 0.5, 0.0, 0.0]
    drifted = task.node_data(1, NUM_NODES, 1.0)
    assert len(drifted) == 800
    assert set(drifted.targets.tolist()) == {2}
    with pytest.raises(DataError, match=r"moves nodes to classes \[4\], of which the data of node"):
        drifting(Own(), LabelDrift(nodes=1, classes=[4]))


def test_classes_become_each_other() -> None:
    task = drifting(Pool(), ConceptDrift(at_s=5.0, cycles=[[0, 1], [2, 3, 4]]))
    before, after = (task.node_data(2, NUM_NODES, time_s).targets for time_s in (0.0, 5.0))
    assert after.tolist() == np.array([1, 0, 3, 4, 2])[before].tolist()
    judged = task.evaluation_data(5.0).targets
    assert judged.tolist() == np.array([1, 0, 3, 4, 2])[np.arange(1000) % 5].tolist()


def test_while_it_comes_a_growing_share_of_examples_is_renamed() -> None:
    task = drifting(Pool(), ConceptDrift(over_s=16.0, cycles=[[0, 1, 2, 3, 4]]))
    before = task.node_data(2, NUM_NODES).targets
    renamed = [np.mean(task.node_data(2, NUM_NODES, t).targets != before) for t in (4.0, 8.0, 16.0)]
    # Standard deviations of at most 0.022.
    assert renamed == pytest.approx([0.25, 0.5, 1.0], abs=0.066)


def test_the_server_judges_by_the_share_of_nodes_that_drift() -> None:
    task = drifting(Pool(), ConceptDrift(nodes=0, cycles=[[0, 1, 2, 3, 4]]))
    judged = task.evaluation_data(1.0)
    assert np.mean(judged.targets != np.arange(1000) % 5) == pytest.approx(0.25, abs=0.042)
    other = task.node_data(1, NUM_NODES, 1.0)
    assert other.targets.tolist() == Pool().node_data(1, NUM_NODES).targets.tolist()


def test_sensors_shift() -> None:
    task = drifting(Pool(), ConceptDrift(over_s=32.0, gain=3.0, shift=0.5))
    before = task.node_data(2, NUM_NODES).inputs
    half, whole = (task.node_data(2, NUM_NODES, time_s).inputs for time_s in (16.0, 32.0))
    assert half == pytest.approx(2.0 * before + 0.25 * before.std(), rel=1e-5)
    assert whole == pytest.approx(3.0 * before + 0.5 * before.std(), rel=1e-5)
    assert whole.dtype == before.dtype


def test_data_that_cannot_drift_is_refused_before_the_run() -> None:
    class Words(Pool):
        def training(self) -> Examples:
            return Examples(np.arange(2000)[:, None], LABELS)

        def evaluation(self) -> None:
            return None

    class Real(Pool):
        def training(self) -> Examples:
            return Examples(np.zeros((2000, 1), np.float32), np.zeros(2000, np.float32))

        def evaluation(self) -> None:
            return None

    with pytest.raises(DataError, match="needs floating-point inputs; these are int64"):
        drifting(Words(), ConceptDrift(shift=0.5))
    with pytest.raises(DataError, match="needs integer targets; these are float32"):
        drifting(Real(), ConceptDrift(cycles=[[0, 1]]))
    with pytest.raises(DataError, match="needs one integer for each example"):
        drifting(Real(), LabelDrift())


def test_targets_may_have_more_axes_than_one() -> None:
    class Texts(Pool):
        def training(self) -> Examples:
            codes = np.arange(4000).reshape(2000, 2) % 5
            return Examples(codes, codes, np.arange(2000) % 3)

        def evaluation(self) -> None:
            return None

    task = drifting(Texts(), ConceptDrift(at_s=1.0, cycles=[[0, 4]]))
    before, after = (task.node_data(0, NUM_NODES, time_s).targets for time_s in (0.0, 1.0))
    assert after.tolist() == np.array([4, 1, 2, 3, 0])[before].tolist()


def test_validation_data_follows_what_examples_mean() -> None:
    class Judged(Pool):
        def validation(self, node: int, num_nodes: int) -> Examples:
            return Examples(np.ones((5, 1), np.float32), np.arange(5))

    task = drifting(Judged(), ConceptDrift(at_s=1.0, cycles=[[0, 1]]), LabelDrift(at_s=1.0))
    assert task.validation_data(0, NUM_NODES).targets.tolist() == [0, 1, 2, 3, 4]
    assert task.validation_data(0, NUM_NODES, 1.0).targets.tolist() == [1, 0, 2, 3, 4]
    plain = drifting(Pool(), ConceptDrift(at_s=1.0, shift=1.0))
    assert plain.validation_data(0, NUM_NODES, 1.0) is plain.node_data(0, NUM_NODES, 1.0)


def test_the_task_itself_stays_as_it_is() -> None:
    task = Pool()
    changed = drifting(task, ConceptDrift(shift=1.0))
    assert task.drift is None and Pool.drift is None
    assert type(changed) is Pool
    assert drifting(task) is task
