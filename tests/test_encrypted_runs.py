"""Whole runs whose coordinator adds up ciphertexts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from torch import nn

pytest.importorskip("tenseal")

import daafl
from daafl.clients import client_app
from daafl.clients.security import KeysOfSimulated
from daafl.errors import ConfigError, FederationError
from daafl.federation import train_on
from daafl.learning import Examples
from daafl.messages import (
    ARRAYS,
    CIPHERTEXTS,
    QUERY_HE_CONFIRM,
    QUERY_HE_DEAL,
    QUERY_HE_DECRYPT,
    QUERY_HE_KEYS,
    TRAIN_ENCRYPTED,
)
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.reopening import last_checkpoint
from daafl.secure.he import scheme
from daafl.secure.hidden import Secret
from daafl.secure.settings import EncryptedSums
from daafl.secure.simulated import SimulatedKeys
from daafl.simulation import InProcessGrid
from daafl.strategies import Pacing, Settings

ALL = Pacing(concurrency=10, quorum=10)
OPTIONS: dict[str, Any] = {
    "num_nodes": 10,
    "num_rounds": 3,
    "pacing": ALL,
    "loops": (),
    "workers": 0,
    "trainer": "eager",
    "progress": "quiet",
}

# Ten nodes: fields of 24 bits hold 1,677,720 levels between -1 and 1 for each. Stochastic rounding
# is off by one level at most, so a mean over equal nodes is off by 1.2e-6 a step at most.
LEVELS = 1_677_720
STEP = 2 / LEVELS


class Points(daafl.Task):
    """Points left and right of a plane."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def training(self) -> Examples:
        return points(400, seed=0)

    def evaluation(self) -> Examples:
        return points(100, seed=1)


def points(number: int, *, seed: int) -> Examples:
    inputs = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
    return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class Watcher:
    """Observer that keeps the records, and does something after each step."""

    def __init__(self, after: Callable[[StepRecord], None] = lambda record: None) -> None:
        self.records: list[StepRecord] = []
        self.after = after

    def started(self, info: RunInfo) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        self.records.append(record)
        self.after(record)

    def finished(self, summary: RunSummary) -> None: ...


class Ears:
    """Flower mod that counts the messages by type and keeps the arrays that nodes send."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}
        self.sent: list[bytes] = []

    def __call__(self, message: Message, context: Context, call: Callable[..., Message]) -> Message:
        kind = message.metadata.message_type
        self.heard[kind] = self.heard.get(kind, 0) + 1
        reply = call(message, context)
        if kind == TRAIN_ENCRYPTED:
            self.sent.append(reply.content[ARRAYS][CIPHERTEXTS].numpy().tobytes())
        return reply


def lost(phase: str, nodes: set[int]) -> Callable[..., Message]:
    """Return a Flower mod with which ``nodes`` fail in a phase."""

    def mod(message: Message, context: Context, call: Callable[..., Message]) -> Message:
        if message.metadata.message_type == phase and context.node_config["partition-id"] in nodes:
            raise RuntimeError("gone")
        return call(message, context)

    return mod


@pytest.fixture
def nodes() -> Iterator[Callable[..., Any]]:
    """Return a function that trains on ten nodes with keys, under mods."""

    def trained(folder: Path, *mods: Any, secure: Any, on_nodes: Any = None, **options: Any) -> Any:
        keys = SimulatedKeys.new()
        roster = keys.roster(Settings().federation, 10)
        app = client_app(
            Points(), mods=mods, secure=on_nodes or secure, keys=KeysOfSimulated(keys, roster)
        )
        with InProcessGrid(app, 10, workers=0) as grid:
            return train_on(
                grid,
                Points(),
                **{"num_rounds": 2, "pacing": ALL, "loops": (), "progress": "quiet", **options},
                secure=secure,
                roster=roster,
                output_dir=folder,
            )

    return trained


@pytest.mark.parametrize(
    "secure",
    [
        EncryptedSums(),
        EncryptedSums(group_size=5),
        EncryptedSums(encrypted_layers=("2.*",), num_decryptors=3),
    ],
    ids=["whole", "groups", "layers"],
)
def test_an_encrypted_run_trains_the_model_of_a_plain_one(
    tmp_path: Path, secure: EncryptedSums
) -> None:
    plain = daafl.run(Points(), output_dir=tmp_path / "plain", **OPTIONS)
    found = daafl.run(Points(), secure=secure, output_dir=tmp_path / "he", **OPTIONS)
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=0, atol=20 * STEP)
    assert found.summary.status == "completed"


@pytest.mark.parametrize(
    ("phase", "gone", "updates", "failures"),
    [
        (QUERY_HE_KEYS, {3}, 9, 1),
        (QUERY_HE_DEAL, {0, 1}, 8, 2),  # two dealers are lost, and the third deals without them
        (TRAIN_ENCRYPTED, {3}, 9, 1),
        (QUERY_HE_CONFIRM, {3}, 10, 1),
        (QUERY_HE_DECRYPT, {0, 1, 2}, 10, 3),
    ],
)
def test_nodes_lost_in_any_phase_cost_their_own_update_at_most(
    tmp_path: Path,
    nodes: Callable[..., Any],
    phase: str,
    gone: set[int],
    updates: int,
    failures: int,
) -> None:
    watcher = Watcher()
    nodes(tmp_path / "run", lost(phase, gone), secure=EncryptedSums(), progress=watcher)
    first = watcher.records[0]
    assert first.num_updates == updates
    assert sum(first.failures.values()) == failures
    assert len(watcher.records) == 2


def test_a_key_serves_until_it_is_old_or_someone_is_missing(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    ears = Ears()
    secure = EncryptedSums(rounds_per_key=2)
    nodes(tmp_path / "run", ears, secure=secure, num_rounds=5)
    assert ears.heard[QUERY_HE_KEYS] == 3 * 10
    assert ears.heard[QUERY_HE_DEAL] == 3
    assert ears.heard[TRAIN_ENCRYPTED] == ears.heard[QUERY_HE_CONFIRM] == 5 * 10
    assert ears.heard[QUERY_HE_DECRYPT] == 5
    ears = Ears()
    nodes(tmp_path / "lost", ears, lost(TRAIN_ENCRYPTED, {2}), secure=EncryptedSums(), num_rounds=3)
    assert ears.heard[QUERY_HE_DEAL] == 3


def test_what_nodes_send_is_encrypted_but_for_chosen_layers(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    """58 parameters and six header words: one ciphertext of 33 kB, of a seed and a polynomial."""
    ears = Ears()
    nodes(tmp_path / "whole", ears, secure=EncryptedSums(), num_rounds=1)
    assert {len(sent) // 1000 for sent in ears.sent} == {32}
    ears = Ears()
    secure = EncryptedSums(encrypted_layers=("2.*",))
    nodes(tmp_path / "layers", ears, secure=secure, num_rounds=1)
    clear = [np.frombuffer(sent[: 4 * 40], "<u4") for sent in ears.sent]  # 4 * 8 weights, 8 biases
    assert all(words.max() <= LEVELS for words in clear)
    assert all(abs(float(words.mean()) / LEVELS - 0.5) < 0.2 for words in clear)


def test_nodes_with_other_settings_come_to_no_sum(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="signature"):
        nodes(
            tmp_path / "run",
            secure=EncryptedSums(value_range=1.0),
            on_nodes=EncryptedSums(value_range=2.0),
            num_rounds=20,
        )


def test_an_interrupted_run_ends_as_one_in_one_go(tmp_path: Path) -> None:
    options = {**OPTIONS, "num_rounds": 5, "secure": EncryptedSums()}
    whole = daafl.run(Points(), output_dir=tmp_path / "whole", **options)

    def stop(record: StepRecord) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        daafl.run(Points(), output_dir=tmp_path / "cut", **{**options, "progress": Watcher(stop)})
    resumed = daafl.resume(tmp_path / "cut", Points(), **options)
    for name, array in whole.arrays.items():
        assert np.array_equal(resumed.arrays[name], array)


def leaves(tree: Any) -> Iterator[bytes]:
    """Return all texts, bytes and arrays of a tree, as bytes."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key).encode()
            yield from leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from leaves(value)
    elif isinstance(tree, np.ndarray):
        yield tree.tobytes()
    else:
        yield tree if isinstance(tree, bytes) else str(tree).encode()


@pytest.mark.parametrize("is_kept", [False, True])
def test_no_key_reaches_the_run_folder(
    tmp_path: Path, nodes: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    made: list[bytes] = []
    make = scheme.HeKey.new

    def watched() -> scheme.HeKey:
        key = make()
        made.append(key.root.reveal())
        return key

    monkeypatch.setattr(scheme.HeKey, "new", watched)
    if is_kept:  # the search itself must be able to find a key
        monkeypatch.setattr("daafl.simulation.snapshot.lasting", lambda state: state)
    folder, found = tmp_path / "run", set()

    def search(record: StepRecord | None) -> None:
        checkpoint = last_checkpoint(folder) if record is not None else None
        files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        for data in (*files, *(leaves(checkpoint.state) if checkpoint else ())):
            found.update(key for key in made if key in data or key.hex().encode() in data)

    nodes(folder, secure=EncryptedSums(), num_rounds=3, progress=Watcher(search))
    search(None)
    assert len(made) == 1
    assert isinstance(Secret(made[0]), Secret)
    assert bool(found) == is_kept


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scheme": "ckks"}, "Micciancio"),
        ({"values_per_slot": 9}, "1 to 4"),
        ({"group_size": 2}, "group_size is 2"),
        ({"group_size": 100_000}, "fewer nodes"),
        ({"value_range": 0.0}, "value_range"),
        ({"min_nodes": 1}, "min_nodes"),
        ({"rounds_per_key": 0}, "rounds_per_key"),
        ({"num_decryptors": 0}, "num_decryptors"),
    ],
)
def test_settings_that_no_group_can_meet_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        EncryptedSums(**values)


def test_layers_from_a_file_and_from_a_program_are_the_same_settings() -> None:
    assert repr(EncryptedSums(encrypted_layers=["a.*"])) == repr(
        EncryptedSums(encrypted_layers=("a.*",))
    )


def test_a_step_of_too_few_nodes_is_refused(tmp_path: Path) -> None:
    options = {**OPTIONS, "pacing": Pacing(concurrency=2, quorum=2)}
    with pytest.raises(ConfigError, match="2 nodes take part"):
        daafl.run(Points(), output_dir=tmp_path, secure=EncryptedSums(), **options)
