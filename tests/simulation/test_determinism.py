"""Results depend on the messages and the devices alone, never on who ran what when."""

import math
from collections.abc import Callable

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.simulation import Devices, InProcessGrid

Ask = Callable[..., list[Message]]

NUM_NODES = 5


def buffered_history(app: ClientApp, ask: Ask, workers: int) -> list[tuple[float, object]]:
    """Run a federation that never waits for all; return what arrived when."""
    devices = Devices.log_normal(NUM_NODES, sigma=1.0, seed=4, latency_s=0.01)
    history: list[tuple[float, object]] = []
    with InProcessGrid(app, NUM_NODES, fleet=devices, workers=workers) as grid:
        out = grid.push_messages(ask(grid, range(NUM_NODES), steps=3))
        for step in range(40):
            grid.wait(math.inf)
            for reply in grid.pull_messages(out):
                out.remove(reply.metadata.reply_to_message_id)
                result = reply.content["arrays"]["packed"].numpy().tobytes()
                names = (reply.metadata.message_id, reply.metadata.src_node_id)
                history.append((grid.now_s(), (names, result, dict(reply.content["metrics"]))))
                partition = (reply.metadata.src_node_id + step) % NUM_NODES
                out += grid.push_messages(ask(grid, [partition], steps=1 + step % 4, round=step))
    return history


def test_any_number_of_workers_gives_the_same_replies_at_the_same_times(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    alone = buffered_history(numpy_app, instructions, workers=0)
    assert len(alone) >= 40
    assert len({time for time, _ in alone}) > 20
    for workers in (1, 2, 3):
        assert buffered_history(numpy_app, instructions, workers) == alone


def scripted_app() -> ClientApp:
    """Return an app that does what each message says and counts in its state."""
    app = ClientApp()

    @app.query("act")
    def act(message: Message, context: Context) -> Message:
        config = message.content["config"]
        if config["fails"]:
            raise RuntimeError("as told")
        count = int(context.state["count"]["value"]) + 1 if "count" in context.state else 1
        context.state["count"] = MetricRecord({"value": count})
        content = RecordDict(
            {
                "count": MetricRecord({"value": count, "serial": config["serial"]}),
                "telemetry": ConfigRecord({"steps": config["steps"]}),
            }
        )
        return Message(content, reply_to=message)

    return app


errand = st.fixed_dictionaries(
    {
        "node": st.integers(0, NUM_NODES - 1),
        "steps": st.integers(0, 5),
        "fails": st.booleans(),
        "delay": st.sampled_from([0.0, 0.25, 2.0]),
    }
)
pace = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=NUM_NODES, max_size=NUM_NODES)


@settings(max_examples=60, deadline=None)
@given(errands=st.lists(errand, min_size=1, max_size=14), speeds=pace, latencies=pace)
def test_every_message_is_answered_once_at_the_time_a_plain_simulation_says(
    errands: list[dict[str, int | float | bool]], speeds: list[float], latencies: list[float]
) -> None:
    """The oracle knows all messages and all durations in advance, the grid learns them."""
    expected: list[tuple[float, int, int | None]] = []
    clock, free, counts = 0.0, [0.0] * NUM_NODES, [0] * NUM_NODES
    for serial, errand_ in enumerate(errands):
        clock += errand_["delay"]
        node = int(errand_["node"])
        begin = max(clock + latencies[node], free[node])
        free[node] = begin + (0.0 if errand_["fails"] else errand_["steps"] * speeds[node])
        counts[node] += not errand_["fails"]
        expected.append((free[node] + latencies[node], serial, counts[node]))

    histories = [
        errands_run(errands, Devices(speeds, latencies), workers=workers) for workers in (0, 2)
    ]
    assert histories[0] == histories[1]
    times = [time for time, _, _ in histories[0]]
    assert times == sorted(times)
    assert [serial for _, serial, _ in histories[0]] == [
        serial for _, serial, _ in sorted(expected)
    ]
    for (time, serial, count), (due, _, true_count) in zip(
        histories[0], sorted(expected), strict=True
    ):
        assert math.isclose(time, due, rel_tol=1e-9, abs_tol=1e-9)
        assert count == (None if errands[serial]["fails"] else true_count)


def errands_run(
    errands: list[dict[str, int | float | bool]], devices: Devices, workers: int
) -> list[tuple[float, int, int | None]]:
    """Return (time of arrival, serial, the node's count or None for an error) of each reply."""
    history: list[tuple[float, int, int | None]] = []
    serials: dict[str, int] = {}

    def collect() -> None:
        for reply in grid.pull_messages(list(serials)):
            serial = serials.pop(reply.metadata.reply_to_message_id)
            count = int(reply.content["count"]["value"]) if reply.has_content() else None
            history.append((grid.now_s(), serial, count))

    with InProcessGrid(scripted_app(), NUM_NODES, fleet=devices, workers=workers) as grid:
        clock = 0.0
        for serial, errand_ in enumerate(errands):
            clock += errand_["delay"]
            while grid.now_s() < clock:
                grid.wait(clock - grid.now_s())
                collect()
            content = RecordDict({"config": ConfigRecord({**errand_, "serial": serial})})
            message = Message(content, 1000 + int(errand_["node"]), "query.act")
            (name,) = grid.push_messages([message])
            serials[name] = serial
        collect()
        while serials:
            grid.wait(math.inf)
            collect()
    return history


def test_messages_that_arrive_together_commit_state_in_order() -> None:
    devices = Devices(np.zeros(NUM_NODES), np.ones(NUM_NODES))
    with InProcessGrid(scripted_app(), NUM_NODES, fleet=devices, workers=3) as grid:
        messages = [
            Message(
                RecordDict({"config": ConfigRecord({"fails": False, "steps": 0, "serial": i})}),
                1000 + i % NUM_NODES,
                "query.act",
            )
            for i in range(4 * NUM_NODES)
        ]
        replies = grid.send_and_receive(messages)
        assert grid.now_s() == 2.0
        counts = [reply.content["count"]["value"] for reply in replies]
        assert counts == [1 + i // NUM_NODES for i in range(4 * NUM_NODES)]
        assert grid.node_state(1003)["count"]["value"] == 4


def test_rounding_lets_no_reply_be_overlooked() -> None:
    """A time thought to be the earliest possible must not be after the true one."""
    latency_s, sent_s = 1 / 3, 1.3
    assert sent_s + latency_s + latency_s < sent_s + 2 * latency_s
    devices = Devices(np.zeros(2), np.full(2, latency_s))
    with InProcessGrid(scripted_app(), 2, fleet=devices, workers=0) as grid:
        grid.wait(sent_s)
        asked = [
            Message(
                RecordDict({"config": ConfigRecord({"fails": False, "steps": 0, "serial": i})}),
                1000 + i,
                "query.act",
            )
            for i in range(2)
        ]
        names = grid.push_messages(asked)
        grid.wait(math.inf)
        assert grid.now_s() == sent_s + latency_s + latency_s
        assert len(grid.pull_messages(names)) == 2
