"""The in-process Grid: virtual time, queues, order, isolation, state."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.simulation import Devices, InProcessGrid

Ask = Callable[..., list[Message]]


def replied_to(replies: list[Message]) -> list[str]:
    return [reply.metadata.reply_to_message_id for reply in replies]


def test_a_reply_takes_two_latencies_and_the_work_it_reports(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    devices = Devices([0.5, 2.0], [1.0, 3.0])
    with InProcessGrid(numpy_app, 2, fleet=devices, workers=0) as grid:
        near, far = grid.push_messages(instructions(grid, [0, 1], steps=4))
        assert grid.now_s() == 0.0
        assert grid.pull_messages([near, far]) == []
        grid.wait(100)
        assert grid.now_s() == 1.0 + 4 * 0.5 + 1.0
        assert replied_to(grid.pull_messages([near, far])) == [near]
        grid.wait(100)
        assert grid.now_s() == 3.0 + 4 * 2.0 + 3.0
        assert replied_to(grid.pull_messages([near, far])) == [far]
        assert grid.pull_messages([near, far]) == []


def test_waiting_stops_at_its_timeout_and_loses_nothing(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    with InProcessGrid(numpy_app, 1, fleet=Devices([1.0], [1.0]), workers=0) as grid:
        ids = grid.push_messages(instructions(grid, [0], steps=8))
        grid.wait(4.0)
        assert grid.now_s() == 4.0
        assert grid.pull_messages(ids) == []
        grid.wait(0.0)
        assert grid.now_s() == 4.0
        grid.wait(math.inf)
        assert grid.now_s() == 10.0
        assert replied_to(grid.pull_messages(ids)) == ids


def test_time_passes_with_nothing_out_but_never_for_ever(numpy_app: ClientApp) -> None:
    with InProcessGrid(numpy_app, 1, workers=0) as grid:
        grid.wait(2.5)
        assert grid.now_s() == 2.5
        grid.wait(math.inf)
        assert grid.now_s() == 2.5
        for bad in (-1.0, math.nan):
            with pytest.raises(ValueError, match="timeout_s"):
                grid.wait(bad)


def test_a_node_does_one_message_at_a_time(numpy_app: ClientApp, instructions: Ask) -> None:
    # Both reach the node at 1 s. The first is done at 1 + 4 = 5 s and arrives at 6 s, the second
    # is done at 5 + 2 = 7 s and arrives at 8 s.
    with InProcessGrid(numpy_app, 1, fleet=Devices([1.0], [1.0]), workers=0) as grid:
        first = grid.push_messages(instructions(grid, [0], steps=4))
        second = grid.push_messages(instructions(grid, [0], steps=2))
        arrivals = []
        for _ in range(2):
            grid.wait(math.inf)
            arrivals.append((grid.now_s(), replied_to(grid.pull_messages(first + second))))
        assert arrivals == [(6.0, first), (8.0, second)]


def test_a_message_sent_later_finds_the_node_still_busy(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    # The node works from 1 s to 11 s. A message sent at 4 s is there at 5 s, starts at 11 s.
    with InProcessGrid(numpy_app, 1, fleet=Devices([1.0], [1.0]), workers=0) as grid:
        grid.push_messages(instructions(grid, [0], steps=10))
        grid.wait(4.0)
        late = grid.push_messages(instructions(grid, [0], steps=1))
        grid.wait(math.inf)
        assert grid.now_s() == 12.0
        grid.wait(math.inf)
        assert grid.now_s() == 13.0
        assert replied_to(grid.pull_messages(late)) == late


def test_equal_times_are_in_the_order_of_pushing(numpy_app: ClientApp, instructions: Ask) -> None:
    with InProcessGrid(numpy_app, 4, workers=2) as grid:
        ids = grid.push_messages(instructions(grid, [2, 0, 3, 1], steps=5))
        grid.wait(math.inf)
        assert replied_to(grid.pull_messages(reversed(ids))) == ids


def test_replies_that_arrive_now_need_no_time(numpy_app: ClientApp, instructions: Ask) -> None:
    with InProcessGrid(numpy_app, 2, fleet=Devices([0, 0], [0, 0]), workers=0) as grid:
        ids = grid.push_messages(instructions(grid, [0, 1]))
        assert replied_to(grid.pull_messages(ids)) == ids
        ids = grid.push_messages(instructions(grid, [0, 1]))
        grid.wait(10.0)
        assert grid.now_s() == 0.0
        grid.wait(10.0)
        assert grid.now_s() == 10.0
        assert replied_to(grid.pull_messages(ids)) == ids


def test_send_and_receive_answers_in_the_order_of_the_messages(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    devices = Devices([3.0, 1.0, 2.0], [0.0, 0.0, 0.0])
    with InProcessGrid(numpy_app, 3, fleet=devices, workers=0) as grid:
        replies = grid.send_and_receive(instructions(grid, [0, 1, 2], steps=2))
        assert [reply.metadata.src_node_id for reply in replies] == grid.get_node_ids()
        assert grid.now_s() == 6.0


def test_send_and_receive_gives_up_at_its_timeout_and_drops_what_comes_later(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    devices = Devices([1.0, 9.0], [0.0, 0.0])
    with InProcessGrid(numpy_app, 2, fleet=devices, workers=0) as grid:
        replies = grid.send_and_receive(instructions(grid, [1, 0], steps=1), timeout=5.0)
        assert [reply.metadata.src_node_id for reply in replies] == [1000]
        assert grid.now_s() == 5.0
        grid.wait(math.inf)
        assert grid.now_s() == 9.0
        assert grid.pull_messages(["message-1", "message-2"]) == []
        # The late node worked all the same: it remembers the call.
        assert grid.node_state(1001)["calls"]["num"] == 1


def test_state_is_kept_per_node_and_committed_when_the_reply_arrives(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    with InProcessGrid(numpy_app, 2, fleet=Devices([1, 1], [1, 1]), workers=2) as grid:
        grid.push_messages(instructions(grid, [0, 0], steps=3))
        assert len(grid.node_state(1000)) == 0
        grid.wait(math.inf)
        assert grid.now_s() == 5.0
        assert grid.node_state(1000)["calls"]["num"] == 1
        grid.wait(math.inf)
        assert grid.node_state(1000)["calls"]["num"] == 2
        assert len(grid.node_state(1001)) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_message_is_what_it_was_when_it_was_pushed(workers: int) -> None:
    app = ClientApp()

    @app.query("keys")
    def keys(message: Message, context: Context) -> Message:
        config, arrays = message.content["config"], message.content["arrays"]
        found = ConfigRecord({"config": sorted(config), "arrays": sorted(arrays)})
        config.clear()
        arrays.clear()
        context.run_config["lr"] = 9.0
        context.node_config["partition-id"] = 77
        found["lr"] = config.get("lr", 0.0)
        return Message(RecordDict({"found": found}), reply_to=message)

    with InProcessGrid(app, 2, workers=workers, run_config={"lr": 0.5}) as grid:
        content = RecordDict(
            {
                "config": ConfigRecord({"a": 1}),
                "arrays": ArrayRecord({"packed": Array(np.zeros(50_000, np.uint8))}),
            }
        )
        messages = [Message(content, node, "query.keys") for node in grid.get_node_ids()]
        ids = grid.push_messages(messages)
        content["config"]["b"] = 2
        ids += grid.push_messages(messages)
        grid.wait(math.inf)
        grid.wait(math.inf)
        found = [reply.content["found"] for reply in grid.pull_messages(ids)]
        assert [list(each["config"]) for each in found] == [["a"], ["a"], ["a", "b"], ["a", "b"]]
        assert all(each["arrays"] == ["packed"] for each in found)
        assert sorted(content["config"]) == ["a", "b"]


def test_ids_are_the_same_in_every_run(numpy_app: ClientApp, instructions: Ask) -> None:
    seen = []
    for _ in range(2):
        with InProcessGrid(numpy_app, 3, workers=0) as grid:
            replies = grid.send_and_receive(instructions(grid, [0, 1, 2]))
            seen.append([reply.metadata.message_id for reply in replies])
    assert seen[0] == seen[1] == ["reply-1", "reply-2", "reply-3"]


def test_a_lifespan_runs_around_every_message() -> None:
    app = ClientApp()
    steps: list[str] = []

    @app.lifespan()
    def lifespan(context: Context):  # type: ignore[no-untyped-def]  # Flower checks its signature
        steps.append("enter")
        yield
        steps.append("leave")

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        steps.append("run")
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(app, 1, workers=0) as grid:
        grid.send_and_receive([Message(RecordDict(), 1000, "query.x")])
    assert steps == ["enter", "run", "leave"]


def test_the_node_knows_its_partition_and_the_run_its_config() -> None:
    app = ClientApp()

    @app.query("who")
    def who(message: Message, context: Context) -> Message:
        known = ConfigRecord({**context.node_config, **context.run_config, "node": context.node_id})
        return Message(RecordDict({"who": known}), reply_to=message)

    with InProcessGrid(app, 7, workers=1, run_config={"lr": 0.5}) as grid:
        (reply,) = grid.send_and_receive([Message(RecordDict(), 1004, "query.who")])
    assert dict(reply.content["who"]) == {
        "partition-id": 4,
        "num-partitions": 7,
        "time-s": 0.1,
        "sensor.latency_s": 0.1,
        "lr": 0.5,
        "node": 1004,
    }


@pytest.mark.parametrize("steps", [-5.0, math.inf, math.nan, "many", 2.0**60])
def test_rubbish_in_telemetry_costs_no_time(
    numpy_app: ClientApp, instructions: Ask, steps: float | str
) -> None:
    with InProcessGrid(numpy_app, 1, fleet=Devices([1.0], [1.0]), workers=0) as grid:
        (reply,) = grid.send_and_receive(instructions(grid, [0], steps=steps))
        assert reply.has_content()
        assert grid.now_s() == 2.0


def test_messages_nobody_can_answer_are_refused(numpy_app: ClientApp, instructions: Ask) -> None:
    with InProcessGrid(numpy_app, 2, workers=0) as grid:
        (reply,) = grid.send_and_receive(instructions(grid, [0], "query.fail", how="raise"))
        with pytest.raises(ValueError, match="without content"):
            grid.push_messages([reply])
        for node in (999, 1002, 1):
            with pytest.raises(ValueError, match=f"no node {node}; nodes are 1000 to 1001"):
                grid.push_messages([Message(RecordDict(), node, "train")])
    with pytest.raises(FederationError, match="closed"):
        grid.push_messages(instructions(grid, [0]))
    grid.close()


def test_impossible_grids_are_refused(numpy_app: ClientApp) -> None:
    with pytest.raises(ValueError, match="num_nodes"):
        InProcessGrid(numpy_app, 0)
    with pytest.raises(ValueError, match="workers"):
        InProcessGrid(numpy_app, 1, workers=-1)
    with pytest.raises(ValueError, match="message_timeout_s"):
        InProcessGrid(numpy_app, 1, message_timeout_s=0)
    with pytest.raises(ValueError, match="fleet is of 3 nodes, not of 2"):
        InProcessGrid(numpy_app, 2, fleet=Devices.uniform(3))


def test_flowers_own_description_of_nodes_and_runs(numpy_app: ClientApp) -> None:
    with InProcessGrid(numpy_app, 2, workers=0) as grid:
        assert [node.node_id for node in grid.get_nodes()] == grid.get_node_ids() == [1000, 1001]
        run = grid.run
        grid.set_run(run)
        assert grid.run is run
        message = grid.create_message(RecordDict(), "train", 1001, "3", ttl=9.0)
        assert (message.metadata.dst_node_id, message.metadata.group_id) == (1001, "3")
