"""A federation whose nodes add one to every weight, in a tenth of a second per step, or misbehave.

With equal devices without latency, 10 local steps take 1 virtual second and every combined step
adds exactly 1 to the model, so that times and weights can be told by hand.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result

from daafl.learning.layout import Layout
from daafl.messages import (
    ARRAYS,
    CONFIG,
    ENVELOPE,
    LEARNING_RATES,
    LOG_LOSSES,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    PACKED,
    STEPS,
    TELEMETRY,
    TRAIN_LOSS,
    Assignment,
    Envelope,
    Hello,
)
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies import Autonomous, Settings

LAYOUT = Layout.of({"w": np.zeros(3, np.float32)})
SLOW_STEPS = 1000  # 100 virtual seconds
SILENT_STEPS = 10**8  # 10 million virtual seconds

Learn = Callable[[np.ndarray, Assignment, int], np.ndarray]


def add_one(weights: np.ndarray, assignment: Assignment, node: int) -> np.ndarray:
    """Return the weights plus one, whatever the node."""
    return weights + 1


def approach(weights: np.ndarray, assignment: Assignment, node: int) -> np.ndarray:
    """Return the weights after noisy gradient descent on ``|w - target|^2 / 2``.

    Rates above 2 diverge.
    """
    rng = np.random.default_rng([assignment.seed, node, assignment.version, assignment.draw])
    for _ in range(assignment.local_steps):
        noise = rng.normal(0.0, 0.1, weights.shape)
        weights = weights - np.float32(assignment.lr) * (weights - target(node) + noise)
    return weights.astype(np.float32)


def target(node: int) -> np.ndarray:
    """Return where the loss of a node that approaches is zero."""
    return 5 + np.random.default_rng(node).normal(0.0, 0.5, 3)


def loss(weights: np.ndarray, node: int) -> float:
    """Return the node's loss, at least 0.1."""
    return float(0.1 + ((weights.astype(np.float64) - target(node)) ** 2).mean() / 2)


@pytest.fixture(name="target")
def _target() -> Callable[[int], np.ndarray]:
    return target


@pytest.fixture(name="approach")
def _approach() -> Learn:
    return approach


@pytest.fixture(name="layout")
def _layout() -> Layout:
    return LAYOUT


MakeApp = Callable[..., ClientApp]


@pytest.fixture
def make_app() -> MakeApp:
    """Return a maker of apps: `make_app(faults={2: "raise", (3, 0): "nan"}, learn=...)`.

    A fault is a node's for good, or the node's at one version.
    """

    def make(
        faults: Mapping[int | tuple[int, int], str] | None = None,
        learn: Learn = add_one,
        *,
        layout: Layout = LAYOUT,
        steps: Mapping[int, int] | None = None,
        claims: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> ClientApp:
        return _app(_Script(faults or {}, learn, layout, steps or {}, claims or {}))

    return make


@dataclass(frozen=True)
class _Script:
    """What the nodes do.

    ``steps`` are local steps that nodes report in place of those asked for; ``claims`` are fields
    of a node's greeting.
    """

    faults: Mapping[int | tuple[int, int], str]
    learn: Learn
    layout: Layout
    steps: Mapping[int, int]
    claims: Mapping[int, Mapping[str, Any]]

    def fault(self, node: int, version: int) -> str:
        return self.faults.get((node, version), self.faults.get(node, ""))

    def num_steps(self, node: int, asked: int, fault: str) -> int:
        slow = {"slow": SLOW_STEPS, "silent": SILENT_STEPS}
        return slow.get(fault, self.steps.get(node, asked) if asked else 0)


def _app(script: _Script) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        asked = Assignment.from_record(message.content[CONFIG])
        node = int(context.node_config["partition-id"])
        fault = script.fault(node, asked.version)
        _break_down(fault)
        packed = message.content[ARRAYS][PACKED].numpy()
        weights = script.layout.vector(packed)
        sequence = _count(context)
        envelope = Envelope(
            asked.federation, asked.branch, asked.version, node, sequence, asked.plan_hash
        )
        metrics = {NUM_EXAMPLES: 10, TRAIN_LOSS: loss(weights[:3], node)}
        learned = script.layout.packed(script.learn(weights, asked, node))
        content = RecordDict(
            {
                ARRAYS: ArrayRecord({PACKED: Array(learned)}),
                METRICS: MetricRecord(metrics),
                ENVELOPE: envelope.to_record(),
                TELEMETRY: ConfigRecord({STEPS: script.num_steps(node, asked.local_steps, fault)}),
            }
        )
        spoil(content, fault)
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        asked = Assignment.from_record(message.content[CONFIG])
        node = int(context.node_config["partition-id"])
        fault = script.fault(node, asked.version)
        _break_down(_in(fault, "evaluate"))
        weights = script.layout.vector(message.content[ARRAYS][PACKED].numpy())
        metrics: dict[str, Any] = {
            LOSS: loss(weights[:3], node),
            "weight": float(weights[0]) + node,
            NUM_EXAMPLES: node + 1,
        }
        if fault == "evaluate rumour":
            metrics["rumour"] = 1.0
        if fault == "evaluate boast":
            metrics |= {"weight": 1e308, NUM_EXAMPLES: 2**53}
        if fault == "evaluate nothing":
            metrics.pop(NUM_EXAMPLES)
        content = RecordDict({METRICS: MetricRecord(metrics)})
        content[TELEMETRY] = ConfigRecord(
            {STEPS: script.num_steps(node, 0, _in(fault, "evaluate"))}
        )
        return Message(content, reply_to=message)

    @app.query("probe")
    def probe(message: Message, context: Context) -> Message:
        asked = Assignment.from_record(message.content[CONFIG])
        node = int(context.node_config["partition-id"])
        fault = script.fault(node, asked.version)
        _break_down(_in(fault, "probe"))
        weights = script.layout.vector(message.content[ARRAYS][PACKED].numpy())
        rates = list(message.content[CONFIG][LEARNING_RATES])
        values: list[Any] = []
        for rate in rates:
            tried = Assignment(seed=asked.seed, lr=rate, local_steps=asked.local_steps)
            values.append(float(np.log(loss(script.learn(weights, tried, node)[:3], node))))
        match fault:
            case "probe lies":
                values = [-100.0 if rate == max(rates) else 100.0 for rate in rates]
            case "probe short":
                values.pop()
            case "probe huge":
                values = [10**400] * len(rates)
            case "probe nan":
                values = [float("nan")] * len(rates)
        record = MetricRecord({LOG_LOSSES: values, NUM_EXAMPLES: 1})
        if fault == "probe scalar":
            record = MetricRecord({LOG_LOSSES: 0.5})
        telemetry = ConfigRecord({STEPS: script.num_steps(node, 0, _in(fault, "probe"))})
        content = RecordDict({METRICS: record, TELEMETRY: telemetry})
        return Message(content, reply_to=message)

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        _break_down(_in(script.fault(node, -1), "hello"))
        claims = {
            "node": node,
            "num_examples": 10,
            "layout": script.layout.digest,
            "software": "test",
            "num_nodes": int(context.node_config["num-partitions"]),
            **script.claims.get(node, {}),
        }
        return Message(RecordDict({CONFIG: Hello(**claims).to_record()}), reply_to=message)

    return app


def _in(fault: str, question: str) -> str:
    """Return the fault if it is one in answering this question: ``probe raise`` -> ``raise``."""
    return fault.removeprefix(f"{question} ") if fault.startswith(f"{question} ") else ""


def _break_down(fault: str) -> None:
    match fault:
        case "raise":
            raise ValueError("no data here")
        case "die":
            os._exit(7)
        case "hang":
            time.sleep(600)


def _count(context: Context) -> int:
    count = int(context.state["count"]["num"]) + 1 if "count" in context.state else 1
    context.state["count"] = ConfigRecord({"num": count})
    return count


def spoil(content: RecordDict, fault: str) -> None:
    """Break one thing in a reply to a training assignment."""
    envelope, metrics = content[ENVELOPE], content[METRICS]
    if fault in ENVELOPE_FAULTS:
        envelope.update(ENVELOPE_FAULTS[fault])
    elif fault in METRIC_FAULTS:
        metrics.update(METRIC_FAULTS[fault])
    elif fault in MODEL_FAULTS:
        packed = content[ARRAYS][PACKED].numpy()
        content[ARRAYS] = ArrayRecord(MODEL_FAULTS[fault](packed))
    elif fault in TELEMETRY_FAULTS:
        content[TELEMETRY] = ConfigRecord(TELEMETRY_FAULTS[fault])
    elif fault == "unknown record":
        content["surprise"] = MetricRecord({"x": 1.0})
    elif fault == "hoard":
        content[CONFIG] = ConfigRecord({"x": b"0" * 5000})
    elif fault == "many hoards":
        content[CONFIG] = ConfigRecord({f"x{i}": b"0" * 4000 for i in range(20)})
    elif fault.startswith("no "):
        del content[fault.removeprefix("no ")]


ENVELOPE_FAULTS: dict[str, dict[str, Any]] = {
    "other federation": {"federation": "elsewhere"},
    "other branch": {"branch": "trial"},
    "old version": {"base-version": 999},
    "other node": {"node": 77},
    "unknown field": {"colour": "red"},
    "future format": {"format-version": 9},
    "secret codec": {"codec": "zip"},
    "wrong type": {"sequence": "first"},
    "same sequence": {"sequence": 1},
    "other plan": {"plan-hash": "0" * 16},
    "signed": {"signature": b"me"},
    "private": {"privacy-claim": "epsilon 1"},
    "long text": {"federation": "f" * 300},
}

METRIC_FAULTS: dict[str, dict[str, Any]] = {
    "negative examples": {NUM_EXAMPLES: -5},
    "no example": {NUM_EXAMPLES: 0},
    "too many examples": {NUM_EXAMPLES: 2**54},
    "nan examples": {NUM_EXAMPLES: float("nan")},
    "huge integer": {NUM_EXAMPLES: 10**400},
    "boasted examples": {NUM_EXAMPLES: 21},
    "many metrics": {f"m{i}": 1.0 for i in range(100)},
    "long name": {"m" * 1000: 1.0},
    "nan loss": {TRAIN_LOSS: float("nan")},
    "infinite loss": {TRAIN_LOSS: float("inf")},
    "huge loss": {TRAIN_LOSS: 1e308},
    "huge integer loss": {TRAIN_LOSS: 10**400},
    "endless gain": {TRAIN_LOSS: float("-inf")},
    "huge negative loss": {TRAIN_LOSS: -(10**400)},
    "perfect and more": {"accuracy": 1.5},
    "long list": {"trace": [0.0] * 2000},
}

TELEMETRY_FAULTS: dict[str, dict[str, Any]] = {
    "more work": {STEPS: 11},
    "less than no work": {STEPS: -1},
    "work in words": {STEPS: "ten"},
}


MODEL_FAULTS: dict[str, Callable[[np.ndarray], dict[str, Array]]] = {
    "shape": lambda packed: {PACKED: Array(packed[:-1].copy())},
    "dtype": lambda packed: {PACKED: Array(packed.view(np.int8))},
    "nan": lambda packed: {PACKED: Array(np.full(3, np.nan, np.float32).view(np.uint8))},
    "infinity": lambda packed: {PACKED: Array(np.full(3, np.inf, np.float32).view(np.uint8))},
    "largest": lambda packed: {PACKED: Array(np.full(3, 3.4e38, np.float32).view(np.uint8))},
    "named": lambda packed: {"w": Array(packed.view(np.float32))},
    "two arrays": lambda packed: {PACKED: Array(packed), "w": Array(packed)},
    "garbage": lambda packed: {
        PACKED: Array("uint8", (len(packed),), "numpy.ndarray", b"\x80\x04not an npy file")
    },
}


@pytest.fixture(name="spoil")
def _spoil() -> Callable[[RecordDict, str], None]:
    return spoil


@dataclass
class Watcher:
    """An observer that keeps everything."""

    info: RunInfo | None = None
    records: list[StepRecord] = field(default_factory=list)
    summary: RunSummary | None = None

    def started(self, info: RunInfo) -> None:
        self.info = info

    def stepped(self, record: StepRecord) -> None:
        self.records.append(record)

    def finished(self, summary: RunSummary) -> None:
        self.summary = summary

    @property
    def steps(self) -> list[StepRecord]:
        """Records of training steps."""
        return [record for record in self.records if record.kind == "train"]

    @property
    def probes(self) -> list[StepRecord]:
        """Records of probes."""
        return [record for record in self.records if record.kind == "probe"]


@dataclass
class Federation:
    """What came of a run."""

    watcher: Watcher
    result: Result
    autonomous: Autonomous

    @property
    def steps(self) -> list[StepRecord]:
        return self.watcher.steps

    @property
    def summary(self) -> RunSummary:
        assert self.watcher.summary is not None
        return self.watcher.summary

    @property
    def weights(self) -> list[float]:
        return [float(value) for value in self.result.arrays["w"].numpy()]


Federate = Callable[..., Federation]


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def federate(make_app: MakeApp, watcher: Watcher) -> Federate:
    """Return a runner of whole federations; loops are off and nobody evaluates by default."""

    def run(
        strategy: Any = None,
        *,
        app: ClientApp | None = None,
        num_nodes: int = 4,
        num_rounds: int = 3,
        fleet: Devices | None = None,
        workers: int = 0,
        message_timeout_s: float = 120.0,
        make_grid: Callable[..., InProcessGrid] = InProcessGrid,
        initial: Mapping[str, np.ndarray] | None = None,
        start: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
        observers: Sequence[Any] = (),
        **options: Any,
    ) -> Federation:
        seen = Watcher()
        autonomous = Autonomous(
            strategy,
            settings=settings or Settings(evaluate_every=0),
            observers=[seen, watcher, *observers],
            **{"loops": (), **options},
        )
        arrays = {"w": np.zeros(3, np.float32)} if initial is None else initial
        record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        grid = make_grid(
            app or make_app(),
            num_nodes,
            fleet=fleet or Devices.uniform(num_nodes, seconds_per_step=0.1, latency_s=0.0),
            workers=workers,
            message_timeout_s=message_timeout_s,
        )
        with grid:
            result = autonomous.start(grid, record, num_rounds, **(start or {}))
        return Federation(seen, result, autonomous)

    return run
