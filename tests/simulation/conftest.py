"""A small ClientApp without torch, and what tests do with it."""

import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import hypothesis.strategies as st
import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from daafl.errors import ConfigError
from daafl.simulation import InProcessGrid
from daafl.simulation.scenario import (
    Bandwidth,
    Churn,
    Crash,
    Duplication,
    Event,
    LateReplies,
    LinkCut,
    MessageLoss,
    Partition,
    Reordering,
    Scenario,
    Stragglers,
)


@pytest.fixture
def numpy_app() -> ClientApp:
    """Trains by adding, counts its calls in `Context.state`, and fails in many ways on demand."""

    def note(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if reply is not None and reply.has_content():
            reply.content["mod"] = ConfigRecord({"saw": message.metadata.message_type})
        return reply

    app = ClientApp(mods=[note])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        node = int(context.node_config["partition-id"])
        calls = int(context.state["calls"]["num"]) + 1 if "calls" in context.state else 1
        context.state["calls"] = ConfigRecord({"num": calls})
        model = message.content["arrays"]["packed"].numpy()
        rng = np.random.default_rng([node, int(config["round"]), calls])
        content = RecordDict(
            {
                "arrays": ArrayRecord({"packed": Array(model + rng.standard_normal(len(model)))}),
                "metrics": MetricRecord({"num-examples": node + 1, "calls": calls}),
                "telemetry": ConfigRecord({"steps": config.get("steps", 0)}),
            }
        )
        return Message(content, reply_to=message)

    @app.query("fail")
    def fail(message: Message, context: Context) -> Message | None:
        context.state["touched"] = ConfigRecord({"by": "a failing call"})
        match message.content["config"]["how"]:
            case "raise":
                raise ValueError("no data here")
            case "sys.exit":
                raise SystemExit(3)
            case "exit":
                os._exit(7)
            case "segfault":
                faulthandler.disable()  # pytest's report would clutter the output
                os.kill(os.getpid(), signal.SIGSEGV)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "none":
                return None
            case "echo":
                return message
            case "own error":
                return Message(Error(5, "on strike"), reply_to=message)
            case "unpicklable":
                content = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
                content["metrics"].__dict__["_data"]["num-examples"] = lambda: 1
                return Message(content, reply_to=message)
            case "huge":
                big = ArrayRecord([np.zeros(2_000_000, np.uint8)])
                return Message(RecordDict({"arrays": big}), reply_to=message)
        return Message(RecordDict({"metrics": MetricRecord({"fine": 1})}), reply_to=message)

    return app


Ask = Callable[..., list[Message]]


@pytest.fixture
def instructions() -> Ask:
    """Return messages for nodes of a grid: `instructions(grid, partitions, type, **config)`."""

    def make(
        grid: InProcessGrid,
        partitions: Iterable[int],
        message_type: str = "train",
        model: ArrayRecord | None = None,
        **config: int | float | str,
    ) -> list[Message]:
        ids = grid.get_node_ids()
        shared = RecordDict({"config": ConfigRecord({"round": 1, **config})})
        shared["arrays"] = model or ArrayRecord({"packed": Array(np.zeros(4))})
        return [Message(shared, ids[partition], message_type) for partition in partitions]

    return make


def _events(num_nodes: int, horizon_s: float) -> st.SearchStrategy[Event]:
    """Return a strategy of single faults of any kind, within or around a horizon."""
    moment = st.floats(0.0, horizon_s)
    node = st.integers(0, num_nodes - 1)

    def timed(kind: type[Event], **keys: st.SearchStrategy[object]) -> st.SearchStrategy[Event]:
        def made(
            at_s: float, lasts_s: float | None, who: dict[str, object], values: dict[str, object]
        ) -> Event:
            until_s = None if lasts_s is None else at_s + lasts_s
            return kind(at_s=at_s, until_s=until_s, **who, **values)

        whom = st.one_of(
            st.just({}),
            st.builds(lambda share: {"fraction": share}, st.floats(0.01, 1.0)),
            st.builds(lambda nodes: {"nodes": nodes}, st.lists(node, min_size=1, max_size=4)),
        )
        who = st.just({}) if kind is Partition else whom
        lasts = st.none() | st.floats(0.1, horizon_s)
        return st.builds(made, moment, lasts, who, st.fixed_dictionaries(keys))

    share = st.floats(0.01, 1.0)
    way = st.sampled_from(["to_nodes", "from_nodes", "both"])
    delay = st.floats(1e-3, horizon_s)
    return st.one_of(
        timed(Stragglers, factor=st.floats(0.1, 20.0)),
        timed(Churn, present_s=delay, away_s=delay),
        timed(Crash),
        timed(LinkCut),
        timed(Partition, groups=st.builds(lambda node: [[node]], node)),
        timed(MessageLoss, probability=share, direction=way),
        timed(Duplication, probability=share, delay_s=delay, direction=way),
        timed(Reordering, probability=share, delay_s=delay, direction=way),
        timed(LateReplies, probability=share, delay_s=delay),
        timed(Bandwidth, factor=st.floats(0.01, 10.0), direction=way),
        timed(Bandwidth, at_most_mbps=st.floats(0.01, 100.0), direction=way),
    )


@pytest.fixture(scope="session")
def fault_schedules() -> Callable[..., st.SearchStrategy[Scenario]]:
    """Return what makes strategies of scenarios full of faults: ``(num_nodes, horizon_s=60.0)``.

    An event that contradicts those before it is left out.
    """

    def schedules(num_nodes: int, horizon_s: float = 60.0) -> st.SearchStrategy[Scenario]:
        def agreeing(events: list[Event], seed: int) -> Scenario:
            kept: list[Event] = []
            for event in events:
                with suppress(ConfigError):
                    Scenario(num_nodes, [*kept, event], seed=seed)
                    kept.append(event)
            return Scenario(num_nodes, kept, seed=seed)

        events = st.lists(_events(num_nodes, horizon_s), max_size=8)
        return st.builds(agreeing, events, st.integers(0, 2**32 - 1))

    return schedules
