"""Whole runs in which nodes prove that what they hide is not too long."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from torch import nn

import daafl
from daafl.clients import client_app
from daafl.clients.security import KeysOfSimulated
from daafl.errors import ConfigError, FederationError
from daafl.federation import train_on
from daafl.learning import Examples
from daafl.learning.trainer import TorchTrainer
from daafl.messages import TRAIN_COMMITTED, TRAIN_MASKED
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.secure.norm_bound import NormBound
from daafl.secure.quantisation import Quantiser, Words
from daafl.secure.settings import MaskedSums
from daafl.secure.simulated import SimulatedKeys
from daafl.secure.terms import Group
from daafl.simulation import InProcessGrid
from daafl.strategies import Pacing, Settings

NUM_NODES, CHEAT = 5, 2
PROVED = MaskedSums(norm_bound=4.0, norm_projections=128)
Call = Callable[[Message, Context], Message]


class Tiny(daafl.Task):
    """Points left and right of a plane."""

    def model(self) -> nn.Module:
        return nn.Linear(3, 2)

    def training(self) -> Examples:
        inputs = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
        return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class Watcher:
    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def started(self, info: RunInfo) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        self.records.append(record)

    def finished(self, summary: RunSummary) -> None: ...


class During:
    """Flower mod that knows whether the cheating node is at work, in a given phase."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.is_on = False

    def __call__(self, message: Message, context: Context, call: Call) -> Message:
        is_cheat = context.node_config["partition-id"] == CHEAT
        self.is_on = is_cheat and message.metadata.message_type == self.phase
        try:
            return call(message, context)
        finally:
            self.is_on = False


def run(folder: Path, *mods: Any, secure: MaskedSums = PROVED, rounds: int = 1) -> Any:
    keys, watcher = SimulatedKeys.new(), Watcher()
    roster = keys.roster(Settings().federation, NUM_NODES)
    app = client_app(Tiny(), mods=mods, secure=secure, keys=KeysOfSimulated(keys, roster))
    with InProcessGrid(app, NUM_NODES, workers=0) as grid:
        result = train_on(
            grid,
            Tiny(),
            num_rounds=rounds,
            pacing=Pacing(concurrency=NUM_NODES, quorum=NUM_NODES),
            loops=(),
            secure=secure,
            roster=roster,
            output_dir=folder,
            progress=watcher,
        )
    return result, watcher.records


def test_a_run_with_proofs_trains_the_model_of_one_without(tmp_path: Path) -> None:
    proved, records = run(tmp_path / "proved", rounds=2)
    plain, _ = run(tmp_path / "plain", secure=MaskedSums(), rounds=2)
    assert [record.num_updates for record in records] == [NUM_NODES] * 2
    # One value of a sum is off by a step of 8 / 65534 for each node at most; the mean by one.
    step = 8 / 65534
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(proved.arrays[name], array, rtol=0, atol=2 * 2 * step)


def test_an_honest_node_shortens_what_is_too_long(tmp_path: Path) -> None:
    secure = MaskedSums(norm_bound=0.01, norm_projections=128)
    result, records = run(tmp_path / "run", secure=secure)
    assert records[0].num_updates == NUM_NODES
    trainer = TorchTrainer(Tiny())
    start = trainer.unpack(trainer.initial(0))
    moved = np.concatenate([(result.arrays[name] - array).ravel() for name, array in start.items()])
    assert 0 < np.linalg.norm(moved) < 0.011


def test_a_node_that_is_too_long_cannot_prove_it_and_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during = During(TRAIN_COMMITTED)
    clipped = NormBound.clipped

    def loud(self: NormBound, delta: Any) -> Any:
        short, is_within = clipped(self, delta)
        # Eight values at the largest that the quantiser writes: 11.3 in length, the bound is 4.
        return (np.full_like(delta, 4.0), True) if during.is_on else (short, is_within)

    monkeypatch.setattr(NormBound, "clipped", loud)
    _, records = run(tmp_path / "run", during)
    assert records[0].num_updates == NUM_NODES - 1
    assert sum(records[0].failures.values()) + sum(records[0].rejected.values()) == 1


def test_a_tampered_proof_costs_its_sender_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during, proof = During(TRAIN_MASKED), NormBound.proof

    def tampered(self: NormBound, *arguments: Any, **named: Any) -> bytes:
        data = bytearray(proof(self, *arguments, **named))
        if during.is_on:
            data[len(data) // 2] ^= 1
        return bytes(data)

    monkeypatch.setattr(NormBound, "proof", tampered)
    _, records = run(tmp_path / "run", during)
    assert records[0].num_updates == NUM_NODES - 1
    assert records[0].rejected == {"proof": 1}


def test_another_vector_than_the_one_that_was_proved_spoils_the_sum_and_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during, committed = During(TRAIN_COMMITTED), NormBound.committed

    def other(
        self: NormBound, words: Words, quantiser: Quantiser, group: Group, node: int
    ) -> tuple[bytes, Words]:
        commitment, sent = committed(self, words, quantiser, group, node)
        if during.is_on:
            sent[7] += 1  # by one step, in one value
        return commitment, sent

    proof = NormBound.proof

    def proved(self: NormBound, words: Words, *arguments: Any, **named: Any) -> bytes:
        if masking.is_on:
            words = words.copy()
            words[7] -= 1  # the proof is about what was committed to
        return proof(self, words, *arguments, **named)

    masking = During(TRAIN_MASKED)
    monkeypatch.setattr(NormBound, "committed", other)
    monkeypatch.setattr(NormBound, "proof", proved)
    with pytest.raises(FederationError, match="secure_sum_failed"):
        run(tmp_path / "run", during, masking)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"norm_bound": -1.0}, "norm bound"),
        ({"norm_bound": 1.0, "norm_projections": 100}, "norm_projections"),
        ({"norm_bound": 1.0, "norm_checked": 0.0}, "norm_checked"),
    ],
)
def test_impossible_bounds_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        MaskedSums(**settings)
