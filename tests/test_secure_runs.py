"""Whole runs whose coordinator sees sums only, or signed updates."""

import json
import os
from collections.abc import Callable, Iterator
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
from daafl.messages import (
    QUERY_CONFIRM,
    QUERY_KEYS,
    QUERY_REVEAL,
    QUERY_SHARES,
    TRAIN_MASKED,
)
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.reopening import last_checkpoint
from daafl.secure import masks
from daafl.secure.audit import verify
from daafl.secure.hidden import Secret
from daafl.secure.identity import Identity
from daafl.secure.settings import MaskedSums, SignedUpdates
from daafl.secure.simulated import SimulatedKeys
from daafl.secure.trail import AUDIT
from daafl.simulation import InProcessGrid
from daafl.strategies import Override, Pacing, Settings

PHASES = (QUERY_KEYS, QUERY_SHARES, TRAIN_MASKED, QUERY_CONFIRM, QUERY_REVEAL)
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


class Uneven(daafl.Task):
    """Points left and right of a plane, of which some nodes hold more than others."""

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

    def started(self, info: RunInfo) -> None:
        self.info = info

    def stepped(self, record: StepRecord) -> None:
        self.records.append(record)
        self.after(record)

    def finished(self, summary: RunSummary) -> None: ...


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
            Uneven(), mods=mods, secure=on_nodes or secure, keys=KeysOfSimulated(keys, roster)
        )
        with InProcessGrid(app, 10, workers=0) as grid:
            return train_on(
                grid,
                Uneven(),
                **{"num_rounds": 2, "pacing": ALL, "loops": (), "progress": "quiet", **options},
                secure=secure,
                roster=roster,
                output_dir=folder,
            )

    return trained


@pytest.mark.parametrize("group_size", [None, 5])
def test_a_masked_run_trains_the_model_of_a_plain_one(
    tmp_path: Path, group_size: int | None
) -> None:
    plain = daafl.run(Uneven(), output_dir=tmp_path / "plain", **OPTIONS)
    secure = MaskedSums(group_size=group_size)
    masked = daafl.run(Uneven(), secure=secure, output_dir=tmp_path / "masked", **OPTIONS)
    # A sum of ten has an error of at most 10 * 16 / (2^32 / 10) / 2 per value and step, 2e-7 each.
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(masked.arrays[name], array, rtol=0, atol=3e-6)
    assert masked.summary.status == "completed"


@pytest.mark.parametrize("phase", PHASES)
def test_nodes_lost_in_any_phase_cost_their_own_update_at_most(
    tmp_path: Path, nodes: Callable[..., Any], phase: str
) -> None:
    watcher = Watcher()
    nodes(tmp_path / "run", lost(phase, {3}), secure=MaskedSums(), progress=watcher)
    # Those who fall silent after their vector came are in the sum all the same.
    expected = 10 if phase in (QUERY_CONFIRM, QUERY_REVEAL) else 9
    assert [record.num_updates for record in watcher.records] == [expected, expected]
    assert [sum(record.failures.values()) for record in watcher.records] == [1, 1]


def test_a_sum_without_a_node_is_the_mean_of_the_others(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    plain = nodes(tmp_path / "plain", lost("train", {2, 7}), secure=SignedUpdates())
    masked = nodes(tmp_path / "masked", lost(TRAIN_MASKED, {2, 7}), secure=MaskedSums())
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(masked.arrays[name], array, rtol=0, atol=3e-6)


def test_too_few_survivors_give_no_sum_and_the_run_says_why(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="secure_sum_failed"):
        nodes(
            tmp_path / "run",
            lost(TRAIN_MASKED, {1, 2, 3}),
            secure=MaskedSums(dropout_fraction=0.2),
            num_rounds=20,
        )


def test_a_node_that_hides_its_update_does_not_send_it_in_the_clear(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError):
        nodes(tmp_path / "run", secure=SignedUpdates(), on_nodes=MaskedSums(), num_rounds=20)


def test_nodes_with_other_settings_refuse_to_take_part(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="signature"):
        nodes(
            tmp_path / "run",
            secure=MaskedSums(dropout_fraction=0.4),
            on_nodes=MaskedSums(dropout_fraction=0.2),
            num_rounds=20,
        )


def test_updates_that_are_changed_on_the_way_are_refused(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    def louder(message: Message, context: Context, call: Callable[..., Message]) -> Message:
        reply = call(message, context)
        if message.metadata.message_type == "train" and context.node_config["partition-id"] == 4:
            reply.content["metrics"]["num-examples"] += 1
        return reply

    watcher = Watcher()
    nodes(tmp_path / "run", louder, secure=SignedUpdates(), progress=watcher)
    assert [record.rejected for record in watcher.records] == [{"signature": 1}] * 2
    assert [record.num_updates for record in watcher.records] == [9, 9]


def test_a_masked_run_that_was_interrupted_ends_as_one_in_one_go(tmp_path: Path) -> None:
    options = {**OPTIONS, "num_rounds": 5, "secure": MaskedSums(group_size=5)}
    whole = daafl.run(Uneven(), output_dir=tmp_path / "whole", **options)

    def stop(record: StepRecord) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        daafl.run(Uneven(), output_dir=tmp_path / "cut", **{**options, "progress": Watcher(stop)})
    resumed = daafl.resume(tmp_path / "cut", Uneven(), **options)
    for name, array in whole.arrays.items():
        assert np.array_equal(resumed.arrays[name], array)
    journals = [(tmp_path / name / "journal.jsonl").read_bytes() for name in ("whole", "cut")]
    assert journals[0] == journals[1]


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
    tmp_path: Path,
    nodes: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_kept: bool,
) -> None:
    made: list[bytes] = []  # every secret of the run, as it is drawn or derived
    make, derive = masks.new_private_key, SimulatedKeys.identity

    def watched() -> Secret:
        key = make()
        made.append(key.reveal())
        return key

    def drawn(count: int = 32) -> bytes:
        made.append(os.urandom(count))
        return made[-1]

    def derived(self: SimulatedKeys, node: int) -> Identity:
        found = derive(self, node)
        made.append(found.secret().reveal())
        return found

    monkeypatch.setattr("daafl.secure.masks.new_private_key", watched)
    monkeypatch.setattr("secrets.token_bytes", drawn)
    monkeypatch.setattr(SimulatedKeys, "identity", derived)
    if is_kept:  # the search itself must be able to find a key
        monkeypatch.setattr("daafl.simulation.snapshot.lasting", lambda state: state)
    folder, found = tmp_path / "run", set()

    def search(record: StepRecord | None) -> None:
        checkpoint = last_checkpoint(folder) if record is not None else None
        files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        for data in (*files, *(leaves(checkpoint.state) if checkpoint else ())):
            found.update(key for key in made if key in data or key.hex().encode() in data)

    # Nodes that fall silent before the end still hold the keys of their session.
    nodes(
        folder,
        lost(QUERY_CONFIRM, {1}),
        lost(QUERY_REVEAL, {5}),
        secure=MaskedSums(),
        num_rounds=3,
        progress=Watcher(search),
    )
    search(None)
    # Two keys and a seed of each node in each round, ten identities and what they come from.
    assert len(set(made)) == 3 * 10 * 3 + 10 + 1
    assert bool(found) == is_kept
    assert not any(key in caplog.text.encode() or key.hex() in caplog.text for key in made)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"exchange": "summed"}, "exchange 'summed'"),
        ({"pacing": Pacing(concurrency=4, quorum=2, max_staleness=3, refill="reply")}, "stale"),
        ({"pacing": Pacing(concurrency=4, quorum=2, deadline_s=5.0)}, "deadline"),
        (
            {"loops": None, "overrides": (Override(step=2, knob="deadline_s", value=3.0),)},
            "deadline",
        ),
    ],
)
def test_what_a_sum_cannot_work_with_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        daafl.run(Uneven(), output_dir=tmp_path, secure=MaskedSums(), **{**OPTIONS, **options})


def test_keys_and_protection_go_together() -> None:
    with pytest.raises(ConfigError, match="both of them"):
        client_app(Uneven(), secure=MaskedSums())


def test_the_audit_log_tells_whose_updates_were_used(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    nodes(tmp_path / "run", lost(TRAIN_MASKED, {2}), secure=MaskedSums())
    path = tmp_path / "run" / AUDIT
    assert verify(path).count == 1 + 2 * 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "run_began",
        *["model_sent", "update_accepted"] * 2,
    ]
    assert lines[2]["facts"]["senders"] == "0 1 3 4 5 6 7 8 9"


def test_the_audit_log_of_signed_updates_holds_their_signatures(
    tmp_path: Path, nodes: Callable[..., Any]
) -> None:
    nodes(tmp_path / "run", secure=SignedUpdates(), num_rounds=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / AUDIT).read_text().splitlines()]
    signatures = {line["facts"].get("signature") for line in lines[2:]}
    assert len(signatures) == 10
    assert all(len(bytes.fromhex(signature)) == 64 for signature in signatures)
