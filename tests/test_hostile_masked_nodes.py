"""A quarter of the nodes sends spoilt messages in every phase of masked sums; the sums stay whole.

What they send is made by their own honest programs and then spoilt, so that it is wrong in one
place only: the strictest test of parsing, signatures and the order of messages.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch import nn

import daafl
from daafl.clients import client_app
from daafl.clients.security import KeysOfSimulated
from daafl.federation import train_on
from daafl.learning import Examples
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.secure.settings import MaskedSums
from daafl.secure.simulated import SimulatedKeys
from daafl.simulation import InProcessGrid
from daafl.strategies import Pacing, Settings

NUM_NODES, HOSTILE = 12, frozenset({1, 4, 7})
PER_RUN = 3  # rounds
VALUES: tuple[Any, ...] = (
    *(-1, 0, 1, 2**53, 2**63 - 1, 1.5, float("nan"), float("inf"), True, "", "x" * 300),
    *(b"", b"\x00" * 31, b"\xff" * 32, b"\x01" * 64, [], [1], [-1], [2, 1], [1, 1], [2**62]),
    *([0.5], ["a"], list(range(2000))),
)
Call = Callable[[Message, Context], Message]


class Tiny(daafl.Task):
    """Points left and right of a plane."""

    def model(self) -> nn.Module:
        return nn.Linear(3, 2)

    def training(self) -> Examples:
        inputs = np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32)
        return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class Hostile:
    """Spoils what hostile nodes answer; some of it is what they answered before."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.past: list[RecordDict] = []

    def __call__(self, message: Message, context: Context, call: Call) -> Message:
        reply = call(message, context)
        kind = message.metadata.message_type
        is_secure = "secure" in kind or kind == "train.masked"
        if context.node_config["partition-id"] in HOSTILE and is_secure:
            self.count += 1
            fresh = RecordDict({name: record.copy() for name, record in reply.content.items()})
            self.past = [*self.past, fresh][-40:]
            if self.random.random() < 0.1:
                return Message(self.random.choice(self.past), reply_to=message)
            for _ in range(self.random.choice([1, 1, 1, 2, 5])):
                self.spoil(reply.content)
        return reply

    def spoil(self, content: RecordDict) -> None:
        """Change one thing."""
        choose = self.random.choice
        name = choose(list(content) or ["secure"])
        record = content.get(name)
        kind = self.random.randrange(6)
        if kind == 0 or record is None or not len(record):
            content.pop(name, None)
        elif kind == 1:
            made = choose([ConfigRecord({"a": 1}), MetricRecord({"b": 2.0}), ArrayRecord()])
            content[choose([name, "other", "secure", "arrays"])] = made
        else:
            self.spoil_entry(record)

    def spoil_entry(self, record: Any) -> None:
        choose = self.random.choice
        key = choose(list(record))
        value = record[key]
        if isinstance(value, Array):
            data = bytearray(value.data)
            place = self.random.randrange(len(data))
            data[place] ^= 1 << self.random.randrange(8)
            end = choose([len(data), len(data), place])
            shape = choose([value.shape, value.shape, (2**40,), ()])
            record[key] = Array(value.dtype, shape, value.stype, bytes(data[:end]))
        elif isinstance(value, bytes) and value and self.random.random() < 0.6:
            place = self.random.randrange(len(value))
            spoilt = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
            record[key] = choose([spoilt, value[:place], value + value])
        elif self.random.random() < 0.3:
            del record[key]
        else:
            record[key] = choose(VALUES)


class Counts:
    def __init__(self) -> None:
        self.updates: list[int] = []

    def started(self, info: RunInfo) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        self.updates.append(record.num_updates)

    def finished(self, summary: RunSummary) -> None: ...


def run(folder: Path, seed: int) -> int:
    """Run a federation with hostile nodes; return how many messages were spoilt."""
    hostile, counts, keys = Hostile(seed), Counts(), SimulatedKeys.new()
    roster = keys.roster(Settings().federation, NUM_NODES)
    secure = MaskedSums(dropout_fraction=0.25)
    app = client_app(Tiny(), mods=[hostile], secure=secure, keys=KeysOfSimulated(keys, roster))
    with InProcessGrid(app, NUM_NODES, workers=0) as grid:
        result = train_on(
            grid,
            Tiny(),
            num_rounds=PER_RUN,
            pacing=Pacing(concurrency=NUM_NODES, quorum=NUM_NODES),
            loops=(),
            secure=secure,
            roster=roster,
            checkpoint_every=0,
            output_dir=folder,
            progress=counts,
        )
    honest = NUM_NODES - len(HOSTILE)
    assert len(counts.updates) == PER_RUN
    # Whoever is not hostile is in every sum; the others cost nobody but themselves.
    assert all(honest <= count <= NUM_NODES for count in counts.updates), (seed, counts.updates)
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    return hostile.count


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.getLogger("daafl").setLevel(logging.ERROR)
    yield
    logging.getLogger("daafl").setLevel(logging.NOTSET)


@pytest.mark.parametrize("seed", range(6))
def test_spoilt_messages_cost_their_senders_only(tmp_path: Path, seed: int) -> None:
    assert run(tmp_path / "run", seed) >= len(HOSTILE) * PER_RUN


@pytest.mark.slow
def test_ten_thousand_spoilt_messages(tmp_path: Path) -> None:
    total, seed = 0, 1000
    while total < 10_000:
        total += run(tmp_path / str(seed), seed)
        seed += 1
