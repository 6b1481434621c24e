"""Messages that carry one model run together, and nobody can tell from the replies."""

import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from daafl.lazy_array import LazyArray
from daafl.messages import COHORT, DRAWS, NODES
from daafl.simulation import Devices, InProcessGrid
from daafl.simulation.grid import COHORT_ADDRESS
from daafl.store.tree import Tree

NUM_NODES = 9
SIZE = 12_000  # numbers in a model: its bytes travel beside the pickle


def trained(model: NDArray[np.float64], node: int, round_number: int, calls: int) -> np.ndarray:
    return model + np.random.default_rng([node, round_number, calls]).standard_normal(len(model))


def answer(message: Message, context: Context, arrays: ArrayRecord) -> Message:
    config = message.content["config"]
    node = int(context.node_config["partition-id"])
    content = RecordDict(
        {
            "arrays": arrays,
            "metrics": MetricRecord({"num-examples": node + 1, "calls": calls_of(context)}),
            "telemetry": ConfigRecord({"steps": config["steps"]}),
        }
    )
    return Message(content, reply_to=message)


def calls_of(context: Context) -> int:
    return int(context.state["calls"]["num"]) if "calls" in context.state else 0


def counted(context: Context) -> int:
    calls = calls_of(context) + 1
    context.state["calls"] = ConfigRecord({"num": calls})
    return calls


def single_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        node = int(context.node_config["partition-id"])
        if config.get("fails-at", -1) == node:
            raise ValueError("no data here")
        if config.get("dies-at", -1) == node:
            os._exit(3)
        model = message.content["arrays"]["packed"].numpy()
        result = trained(model, node, int(config["round"]), counted(context))
        return answer(message, context, ArrayRecord({"packed": Array(result)}))

    return app


class NumpyCohorts:
    """Trains as `single_app` does, all nodes of a batch in one array."""

    def __init__(self, most: int = 128) -> None:
        self.most = most
        self.sizes: list[int] = []
        self.num_prepared = 0

    def prepare(self) -> None:
        self.num_prepared += 1

    def is_together(self, message: Message) -> bool:
        return message.metadata.message_type == "train"

    def most_together(self, message: Message) -> int:
        return self.most

    def answers(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> list[tuple[Message, Context]]:
        self.sizes.append(len(messages))
        made = list(contexts())
        rows = []
        for message, context in zip(messages, made, strict=True):
            config, node = message.content["config"], int(context.node_config["partition-id"])
            if config.get("fails-at", -1) == node:
                raise ValueError("no data here")
            if config.get("dies-at", -1) == node:
                os._exit(3)
            model = message.content["arrays"]["packed"].numpy()
            rows.append(trained(model, node, int(config["round"]), counted(context)))
        stack = np.stack(rows)
        answered = []
        for row, (message, context) in enumerate(zip(messages, made, strict=True)):
            arrays = ArrayRecord()
            arrays["packed"] = LazyArray(stack, row)
            answered.append((answer(message, context, arrays), context))
        return answered

    def steps(self, message: Message) -> float:
        return float(message.content["config"]["steps"])

    def summed(self, message: Message, partitions: Sequence[int], time_s: float) -> Message:
        model = message.content["arrays"]["packed"].numpy()
        round_number = int(message.content["config"]["round"])
        if message.content["config"].get("fails-in") in partitions:
            raise ValueError("no data here")
        mean = np.mean([trained(model, p, round_number, 1) for p in partitions], axis=0)
        content = RecordDict(
            {
                "arrays": ArrayRecord({"packed": Array(mean)}),
                "cohort": ConfigRecord({"nodes": list(partitions)}),
            }
        )
        return Message(content, reply_to=message)

    def merged(self, message: Message, replies: Sequence[Message]) -> Message:
        parts = [reply.content[COHORT][NODES] for reply in replies]
        models = [reply.content["arrays"]["packed"].numpy() for reply in replies]
        mean = np.average(models, axis=0, weights=[len(part) for part in parts])
        content = RecordDict(
            {
                "arrays": ArrayRecord({"packed": Array(mean)}),
                "cohort": ConfigRecord({"nodes": [node for part in parts for node in part]}),
            }
        )
        return Message(content, reply_to=message)

    def num_examples(self, partitions: Sequence[int]) -> NDArray[np.int64]:
        return np.array(partitions, np.int64) + 1

    def described(self) -> str:
        return "numpy: for tests"

    def state(self) -> Tree:
        return "numpy"

    def load(self, state: Tree) -> None:
        assert state == "numpy"


DEVICES = Devices(np.linspace(0.1, 0.9, NUM_NODES), np.full(NUM_NODES, 0.5))


def grid_of(cohorts: NumpyCohorts | None, workers: int = 0) -> InProcessGrid:
    return InProcessGrid(single_app(), NUM_NODES, fleet=DEVICES, cohorts=cohorts, workers=workers)


def asked(partitions: Sequence[int], round_number: int = 1, **config: int) -> list[Message]:
    arrays = ArrayRecord({"packed": Array(np.full(SIZE, float(round_number)))})
    return [
        Message(
            RecordDict(
                {
                    "arrays": arrays,
                    "config": ConfigRecord({"round": round_number, "steps": 3, **config}),
                }
            ),
            1000 + partition,
            "train",
        )
        for partition in partitions
    ]


Seen = tuple[float, str, int, list[float] | str]


def drained(grid: InProcessGrid, ids: Sequence[str]) -> list[Seen]:
    """Return when each reply arrives, what it answers, from whom, and what it says."""
    seen: list[Seen] = []
    while len(seen) < len(ids):
        grid.wait(math.inf)
        for reply in grid.pull_messages(ids):
            told = reply.metadata
            said: list[float] | str = (
                reply.error.reason.split("(")[0]
                if reply.has_error()
                else [
                    *reply.content["arrays"]["packed"].numpy()[:5].tolist(),
                    float(reply.content["metrics"]["calls"]),
                ]
            )
            seen.append((grid.now_s(), told.reply_to_message_id, told.src_node_id, said))
    return seen


def two_rounds(cohorts: NumpyCohorts | None, workers: int = 0) -> list[Seen]:
    with grid_of(cohorts, workers) as grid:
        ids = grid.push_messages(asked(range(NUM_NODES)))
        grid.wait(1.5)  # some have answered, and are asked again
        ids += grid.push_messages(asked([0, 1, 2, 8], 2))
        return drained(grid, ids)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_replies_are_those_of_nodes_that_run_by_themselves(workers: int) -> None:
    together = two_rounds(NumpyCohorts(), workers)
    assert together == two_rounds(None)
    # Node 8 answers twice: its second training knows of the first.
    assert [said[-1] for _, _, node, said in together if node == 1008] == [1.0, 2.0]


def test_messages_with_one_model_are_one_batch_and_others_are_not() -> None:
    cohorts = NumpyCohorts()
    with grid_of(cohorts) as grid:
        grid.push_messages([*asked([0, 1, 2]), *asked([3, 4]), *asked([5])])
        shared = asked([6, 7])
        grid.push_messages([*shared, *asked([6])])  # a node does one thing at a time
        while grid._timeline.may_arrive:
            grid.wait(math.inf)
    assert sorted(cohorts.sizes) == [2, 2, 3]  # a message alone is no batch
    assert cohorts.num_prepared == 1


def test_a_large_cohort_is_divided_the_same_way_everywhere() -> None:
    cohorts = NumpyCohorts()
    with InProcessGrid(single_app(), 300, cohorts=cohorts, workers=0) as grid:
        grid.send_and_receive(asked(range(300)))
    assert cohorts.sizes == [100, 100, 100]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_node_that_fails_costs_its_own_reply_alone(workers: int) -> None:
    with grid_of(NumpyCohorts(), workers) as grid:
        seen = drained(grid, grid.push_messages(asked(range(4), **{"fails-at": 2})))
    said = {node: what for _, _, node, what in seen}
    assert said.pop(1002) == "ValueError: no data here "
    assert [what[-1] for what in said.values()] == [1.0, 1.0, 1.0]


def test_a_node_that_ends_its_process_costs_its_own_reply_alone() -> None:
    with grid_of(NumpyCohorts(), 1) as grid:
        seen = drained(grid, grid.push_messages(asked(range(4), **{"dies-at": 1})))
    said = {node: what for _, _, node, what in seen}
    assert said.pop(1001) == "the worker process ended with exit code 3"
    assert len(said) == 3 and all(isinstance(what, list) for what in said.values())


def test_a_batch_of_which_some_have_answered_goes_on_after_a_restart() -> None:
    whole = two_rounds(NumpyCohorts())
    with grid_of(NumpyCohorts()) as grid:
        ids = grid.push_messages(asked(range(NUM_NODES)))
        grid.wait(1.5)
        ids += grid.push_messages(asked([0, 1, 2, 8], 2))
        seen = []
        while len(seen) < 5:
            grid.wait(math.inf)
            seen += [
                (grid.now_s(), reply.metadata.reply_to_message_id)
                for reply in grid.pull_messages(ids)
            ]
        state = grid.snapshot()
    cohorts = NumpyCohorts()
    with grid_of(cohorts) as grid:
        grid.restore(state)
        rest = [name for name in ids if name not in {name for _, name in seen}]
        later = drained(grid, rest)
        kept = [grid.node_state(1000 + p)["calls"]["num"] for p in range(NUM_NODES)]
    assert later == whole[5:]
    assert max(cohorts.sizes) == NUM_NODES  # the batch runs whole, with those that have answered
    assert kept == [2, 2, 2, 1, 1, 1, 1, 1, 2]


def test_later_changes_to_a_message_reach_nobody() -> None:
    with grid_of(NumpyCohorts()) as grid:
        messages = asked([0, 1])
        ids = grid.push_messages(messages)
        for message in messages:
            message.content["config"]["round"] = 99
            message.content["arrays"]["packed"] = Array(np.zeros(SIZE))
        seen = drained(grid, ids)
    expected = trained(np.ones(SIZE), 0, 1, 1)[:5].tolist()
    assert seen[0][3] == [*expected, 1.0]


def to_cohort(nodes: Sequence[int]) -> Message:
    (message,) = asked([0])
    content = message.content
    content[COHORT] = ConfigRecord({NODES: list(nodes), DRAWS: [0] * len(nodes)})
    return Message(content, COHORT_ADDRESS, "train")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cohort_answers_as_one_when_its_last_member_does(workers: int) -> None:
    with grid_of(NumpyCohorts(), workers) as grid:
        assert grid.cohort_address == COHORT_ADDRESS
        (reply,) = grid.send_and_receive([to_cohort([0, 4, 8])])
        # Node 8 takes .9 s for each of 3 steps, and messages .5 s each way.
        assert grid.now_s() == pytest.approx(3.7)
        assert reply.content[COHORT][NODES] == [0, 4, 8]
        mean = np.mean([trained(np.ones(SIZE), p, 1, 1) for p in (0, 4, 8)], axis=0)
        np.testing.assert_array_equal(reply.content["arrays"]["packed"].numpy(), mean)
        # Three messages were sent: nodes are busy, and numbers go on after them.
        (later,) = grid.send_and_receive(asked([8]))
        assert later.metadata.reply_to_message_id == "message-4"


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_a_cohort_share_the_cores_and_answer_as_one(workers: int) -> None:
    cohorts = NumpyCohorts(most=2)
    with grid_of(cohorts, workers) as grid:
        (reply,) = grid.send_and_receive([to_cohort([0, 2, 4, 6, 8])])
        assert grid.now_s() == pytest.approx(3.7)
    assert reply.content[COHORT][NODES] == [0, 2, 4, 6, 8]
    mean = np.mean([trained(np.ones(SIZE), p, 1, 1) for p in (0, 2, 4, 6, 8)], axis=0)
    np.testing.assert_allclose(reply.content["arrays"]["packed"].numpy(), mean, rtol=1e-12)


def test_a_part_of_a_cohort_that_fails_fails_the_cohort() -> None:
    with grid_of(NumpyCohorts(most=2)) as grid:
        message = to_cohort([0, 2, 4])
        message.content["config"]["fails-in"] = 4
        (reply,) = grid.send_and_receive([message])
    assert reply.has_error() and "no data here" in reply.error.reason


def test_a_cohort_under_way_goes_on_after_a_restart() -> None:
    def answered(grid: InProcessGrid, name: str) -> tuple[float, list[float]]:
        grid.wait(math.inf)
        (reply,) = grid.pull_messages([name])
        return grid.now_s(), reply.content["arrays"]["packed"].numpy()[:3].tolist()

    with grid_of(NumpyCohorts()) as grid:
        (name,) = grid.push_messages([to_cohort([1, 2])])
        grid.wait(0.2)
        state = grid.snapshot()
        whole = answered(grid, name)
        after = grid.snapshot()
    with grid_of(NumpyCohorts()) as grid:
        grid.restore(state)
        assert answered(grid, name) == whole
        again = grid.snapshot()
    assert again["nodes"]["free_at_s"].tolist() == after["nodes"]["free_at_s"].tolist()
    assert again["traffic"] == after["traffic"]


@pytest.mark.parametrize("nodes", [[], [-1], [NUM_NODES]])
def test_a_cohort_of_nobody_or_of_strangers_is_refused(nodes: list[int]) -> None:
    with grid_of(NumpyCohorts()) as grid, pytest.raises(ValueError, match="cohort"):
        grid.push_messages([to_cohort(nodes)])


def test_a_registry_vouches_for_every_node() -> None:
    with InProcessGrid(
        single_app(), 5, cohorts=NumpyCohorts(), is_registered=True, workers=0
    ) as grid:
        registry = grid.registered
        assert registry is not None and registry.num_nodes == 5
        assert registry.address(np.array([0, 4])).tolist() == [1000, 1004]
        assert registry.num_examples(np.array([0, 4])).tolist() == [1, 5]
        assert registry.online(np.arange(5)).all()
    with grid_of(None) as grid:
        assert grid.registered is None and grid.cohort_address is None
    with pytest.raises(ValueError, match="is_registered needs cohorts"):
        InProcessGrid(single_app(), 5, is_registered=True)
