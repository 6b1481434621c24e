"""A small ClientApp without torch, and what tests do with it."""

import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterable

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

from daafl.simulation import InProcessGrid


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
