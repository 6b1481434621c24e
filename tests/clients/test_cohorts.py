"""Nodes that train together answer as each of them would by itself."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from daafl.clients import client_app
from daafl.clients.cohorts import TaskCohorts
from daafl.errors import DataError
from daafl.flower import ClientAppCallable, Mod
from daafl.lazy_array import LazyArray
from daafl.learning.assigned import assigned_key
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import LocalWork, TorchTrainer
from daafl.messages import COHORT, COHORT_NODE, DRAWS, NODES, PACKED, Assignment, Envelope
from daafl.simulation import InProcessGrid
from daafl.simulation.attacks import Attack, hostile
from daafl.simulation.attacks.poisons import SignFlip
from daafl.simulation.grid import COHORT_ADDRESS

NUM_NODES = 12
WORK = LocalWork(lr=0.1, steps=4, batch_size=8)


@pytest.fixture(scope="module")
def task() -> Digits:
    return Digits()


def cohorts_of(task: Digits, mods: list[Mod] | None = None) -> TaskCohorts:
    return TaskCohorts(task, NUM_NODES, work=WORK, mods=mods or [], method="dense")


def assignment(task: Digits, node: int, *, version: int = 3, draw: int = 0) -> Assignment:
    return Assignment(
        version=version,
        ticket=10 + node,
        draw=draw,
        seed=5,
        lr=0.1,
        local_steps=4,
        batch_size=8,
        layout=TorchTrainer(task).layout.digest,
    )


def messages(task: Digits, nodes: list[int], *, is_packed: bool = True) -> list[Message]:
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=1)
    named = {PACKED: sent} if is_packed else trainer.unpack(sent)
    arrays = ArrayRecord({name: Array(value) for name, value in named.items()})
    return [
        Message(
            RecordDict({"arrays": arrays, "config": assignment(task, node).to_record()}),
            1000 + node,
            "train",
        )
        for node in nodes
    ]


def answers(
    task: Digits, cohorts: TaskCohorts | None, mods: list[Mod], *, is_packed: bool = True
) -> list[RecordDict]:
    nodes = [0, 3, 4, 7, 11]
    app = client_app(task, mods=mods)
    with InProcessGrid(app, NUM_NODES, cohorts=cohorts, workers=0) as grid:
        contents = []
        for _ in range(2):  # the second time, nodes remember the first
            replies = grid.send_and_receive(messages(task, nodes, is_packed=is_packed))
            contents += [reply.content for reply in replies]
        return contents


def check_alike(together: list[RecordDict], apart: list[RecordDict]) -> None:
    assert len(together) == len(apart) == 10
    for mine, own in zip(together, apart, strict=True):
        assert list(mine) == list(own)
        assert mine["envelope"] == own["envelope"]
        assert mine["telemetry"]["steps"] == own["telemetry"]["steps"] == 4
        assert mine["metrics"]["num-examples"] == own["metrics"]["num-examples"]
        assert mine["metrics"]["train_loss"] == pytest.approx(own["metrics"]["train_loss"])
        for name, array in own["arrays"].items():
            values, expected = mine["arrays"][name].numpy(), array.numpy()
            assert values.dtype == expected.dtype and values.shape == expected.shape
            if name == PACKED:
                values, expected = values.view("<f4"), expected.view("<f4")
            np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("is_packed", [True, False])
def test_replies_are_those_of_single_nodes(task: Digits, is_packed: bool) -> None:
    together = answers(task, cohorts_of(task), [], is_packed=is_packed)
    check_alike(together, answers(task, None, [], is_packed=is_packed))
    if is_packed:
        assert all(isinstance(content["arrays"][PACKED], LazyArray) for content in together)


def test_attackers_lie_as_they_do_alone(task: Digits) -> None:
    mods = [hostile(Attack(SignFlip(3.0), nodes=[3, 7]), task, NUM_NODES)]
    together = answers(task, cohorts_of(task, mods), mods)
    check_alike(together, answers(task, None, mods))
    honest = answers(task, None, [])
    lie, truth = (content[1]["arrays"][PACKED].numpy() for content in (together, honest))
    assert not np.array_equal(lie, truth)


def test_a_mod_may_change_what_a_node_is_asked_and_what_it_keeps(task: Digits) -> None:
    def half(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        kept = context.state.get("half", ConfigRecord({"times": 0}))
        context.state["half"] = ConfigRecord({"times": int(kept["times"]) + 1})
        config = message.content["config"]
        if context.node_config["partition-id"] == 4:
            config["local-steps"] = int(config["local-steps"]) // 2
        reply = call_next(message, context)
        reply.content["telemetry"]["times"] = context.state["half"]["times"]
        return reply

    contents = answers(task, cohorts_of(task, [half]), [half])
    assert [content["telemetry"]["steps"] for content in contents] == [4, 4, 2, 4, 4] * 2
    assert [content["telemetry"]["times"] for content in contents] == [1] * 5 + [2] * 5
    apart = answers(task, None, [half])
    assert [content["telemetry"]["times"] for content in apart] == [1] * 5 + [2] * 5


def test_a_mod_that_answers_by_itself_keeps_its_node_out_of_the_training(task: Digits) -> None:
    def absent(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if context.node_config["partition-id"] == 7:
            return Message(RecordDict({"config": ConfigRecord({"away": True})}), reply_to=message)
        return call_next(message, context)

    contents = answers(task, cohorts_of(task, [absent]), [absent])
    assert ["arrays" in content for content in contents] == [True, True, True, False, True] * 2


def test_a_cohort_answers_with_the_mean_of_its_members(task: Digits) -> None:
    nodes, trainer = [1, 2, 6], TorchTrainer(task)
    (message,) = messages(task, [1])
    content = message.content
    content[COHORT] = ConfigRecord({NODES: nodes, DRAWS: [0, 2, 0]})
    with InProcessGrid(client_app(task), NUM_NODES, cohorts=cohorts_of(task), workers=0) as grid:
        (reply,) = grid.send_and_receive([Message(content, COHORT_ADDRESS, "train")])
    sent = trainer.initial(seed=1)
    rows, sizes, losses = [], [], []
    for node, draw in zip(nodes, (0, 2, 0), strict=True):
        key = assigned_key(assignment(task, node, draw=draw), node)
        trained = trainer.train(sent, task.node_data(node, NUM_NODES), WORK, key)
        rows.append(trained.packed.view("<f4"))
        sizes.append(trained.num_examples)
        losses.append(trained.loss_before)
    mean = np.average(rows, axis=0, weights=sizes)
    np.testing.assert_allclose(reply.content["arrays"][PACKED].numpy().view("<f4"), mean, atol=1e-6)
    metrics = reply.content["metrics"]
    assert metrics["num-examples"] == sum(sizes)
    assert metrics["train_loss"] == pytest.approx(np.average(losses, weights=sizes))
    assert reply.content[COHORT][NODES] == nodes
    envelope = Envelope.from_record(reply.content["envelope"])
    assert (envelope.node, envelope.sequence, envelope.base_version) == (COHORT_NODE, 11, 3)


def test_how_cohorts_are_trained_is_decided_once_and_goes_along(task: Digits) -> None:
    first = TaskCohorts(task, NUM_NODES, work=WORK)
    assert first.described() == "" and first.state() is None
    first.prepare()
    choice = first.choice
    assert choice is not None and first.described().startswith(f"{choice.method}: ")
    first.prepare()
    assert first.choice is choice
    later = TaskCohorts(task, NUM_NODES, work=WORK)
    later.load(first.state())
    assert later.choice == choice
    with pytest.raises(DataError, match="choice of training method"):
        later.load({"method": "by magic"})


def test_what_does_not_batch_runs_node_by_node() -> None:
    cnn = DigitsCnn()
    cohorts = TaskCohorts(cnn, NUM_NODES, work=WORK, method="eager")
    (message,) = messages(Digits(), [0])
    assert not cohorts.is_together(message)

    class Broken(Digits):
        def loss(self, outputs: object, targets: object) -> object:
            raise ValueError("no loss today")

    broken = TaskCohorts(Broken(), NUM_NODES, work=WORK)
    broken.prepare()
    assert broken.choice is not None and broken.choice.method == "eager"
    assert "no loss today" in broken.described()
