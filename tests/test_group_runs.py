"""Whole runs in which sums of groups are all there is to screen."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import daafl
from daafl.autonomy.policy import Loop
from daafl.cli.app import exit_code
from daafl.data.partition import Dirichlet
from daafl.errors import ConfigError
from daafl.learning import Examples
from daafl.learning.tasks.digits import Digits
from daafl.loops import default_loops, health, learning_rate, quality
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.secure.header import MAX_LOSS
from daafl.secure.settings import MaskedSums, Security, SignedUpdates
from daafl.simulation.attacks import Attack, Lies, NotFinite, SignFlip
from daafl.store.run_folder import load
from daafl.strategies import (
    CentredClipping,
    CoordinateMedian,
    FedExP,
    GeometricMedian,
    Krum,
    LocalTraining,
    Override,
    Pacing,
    TrimmedMean,
)

NUM_NODES = 12
GROUPS = MaskedSums(group_size=4)
ALL = Pacing(concurrency=NUM_NODES, quorum=NUM_NODES)
OPTIONS: dict[str, Any] = {
    "num_nodes": NUM_NODES,
    "num_rounds": 12,
    "pacing": ALL,
    "secure": GROUPS,
    "training": LocalTraining(lr=0.2, local_steps=5),
    "workers": 0,
    "trainer": "eager",
}
ONE = Attack(SignFlip(25.0), nodes=(7,), lies=Lies(loss_factor=5.0))


class Halves(daafl.Task):
    """Points left and right of a plane."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def training(self) -> Examples:
        return self.points(480, seed=0)

    def evaluation(self) -> Examples:
        return self.points(300, seed=1)

    @staticmethod
    def points(number: int, *, seed: int) -> Examples:
        inputs = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
        return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class Watcher:
    """Observer that keeps the records, and presses Ctrl-C after a step."""

    def __init__(self, stop_after: int = 0) -> None:
        self.records: list[StepRecord] = []
        self.stop_after = stop_after

    def started(self, info: RunInfo) -> None:
        self.info = info

    def stepped(self, record: StepRecord) -> None:
        if record.kind == "train":
            self.records.append(record)
        if record.kind == "train" and record.step == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, summary: RunSummary) -> None:
        self.summary = summary


def run(
    folder: Path, task: daafl.Task | None = None, **options: Any
) -> tuple[Watcher, daafl.RunResult]:
    watcher = Watcher()
    result = daafl.run(
        task or Halves(), output_dir=folder, **{**OPTIONS, "progress": watcher, **options}
    )
    return watcher, result


def accuracy(records: Sequence[StepRecord]) -> float:
    return float(np.mean([record.metrics["accuracy"] for record in records[-5:]]))


def test_a_spoiled_sum_is_left_out_and_nobody_is_accused(tmp_path: Path) -> None:
    watcher, result = run(tmp_path / "screened", attack=ONE, loops=(quality(),))
    flags = [flag for record in watcher.records for flag in record.flags]
    assert sum(7 in flag.group for flag in flags) >= 10
    assert all(len(flag.group) == 4 and not flag.is_suspect for flag in flags)
    assert all(flag.node not in range(NUM_NODES) for flag in flags)
    assert not any(record.quarantined for record in watcher.records)
    assert result.summary.flagged_nodes == ()
    undefended, _ = run(tmp_path / "undefended", attack=ONE, loops=())
    assert accuracy(watcher.records) > 0.85 > 0.6 > accuracy(undefended.records)
    page = (tmp_path / "screened" / "report.html").read_text()
    assert "Which member of a group is to blame is hidden" in page


def test_without_attack_sums_cost_nothing(tmp_path: Path) -> None:
    hidden, _ = run(tmp_path / "hidden", loops=(quality(),))
    plain, _ = run(tmp_path / "plain", secure=None, loops=(quality(),))
    assert accuracy(hidden.records) > accuracy(plain.records) - 0.03


def test_nodes_keep_to_the_bound_that_moves_with_their_norms(tmp_path: Path) -> None:
    watcher, _ = run(tmp_path, loops=(quality(),), num_rounds=20)
    bounds = [float(record.knobs["clip_bound"]) for record in watcher.records]
    assert bounds[0] == 0.0 and bounds[1] > 0.0
    # Updates become shorter as the model learns, and the bound with them.
    assert len(set(bounds[1:])) > 3 and bounds[-1] < bounds[1]


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_run_with_groups_that_was_interrupted_ends_as_one_in_one_go(
    tmp_path: Path, step: int
) -> None:
    options = {**OPTIONS, "num_rounds": 6, "attack": ONE, "loops": default_loops()}
    whole = daafl.run(Halves(), output_dir=tmp_path / "whole", **options, progress="quiet")
    with pytest.raises(KeyboardInterrupt):
        daafl.run(Halves(), output_dir=tmp_path / "cut", **options, progress=Watcher(step))
    resumed = daafl.resume(tmp_path / "cut", Halves(), **options, progress="quiet")
    for name, array in whole.arrays.items():
        assert np.array_equal(resumed.arrays[name], array)
    journals = [(tmp_path / name / "journal.jsonl").read_bytes() for name in ("whole", "cut")]
    assert journals[0] == journals[1]
    assert b"clip_bound" in journals[0]


@pytest.mark.parametrize("secure", [SignedUpdates(), MaskedSums()])
def test_hostile_nodes_lie_before_they_sign_or_hide(tmp_path: Path, secure: Security) -> None:
    """What hostile nodes do in the clear, they do under their keys as well."""
    attack = Attack(SignFlip(3.0), nodes=(1, 5), start=2, lies=Lies(loss_factor=2.0))
    options: dict[str, Any] = {"attack": attack, "loops": (), "num_rounds": 3}
    _, plain = run(tmp_path / "plain", secure=None, **options)
    watcher, hidden = run(tmp_path / "hidden", **{**options, "secure": secure})
    for name, array in plain.arrays.items():
        np.testing.assert_allclose(hidden.arrays[name], array, rtol=0, atol=3e-6)
    assert [record.num_updates for record in watcher.records] == [NUM_NODES] * 3
    assert not any(record.rejected or record.failures for record in watcher.records)


def test_a_node_that_diverged_is_seen_in_the_loss_and_not_in_the_model(tmp_path: Path) -> None:
    attack = Attack(NotFinite(), nodes=(3,), start=2)
    watcher, result = run(tmp_path, attack=attack, loops=(), secure=MaskedSums(), num_rounds=3)
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    losses = [record.train_loss for record in watcher.records]
    assert losses[0] is not None and losses[0] < 2
    # The mean of twelve losses, one of which is the largest that a header holds.
    assert all(loss is not None and loss > MAX_LOSS / NUM_NODES for loss in losses[1:])
    assert [record.num_updates for record in watcher.records] == [NUM_NODES] * 3


def test_a_rate_thirty_times_too_high_is_undone_on_sums(tmp_path: Path) -> None:
    loops = (health(), learning_rate())
    task = Digits(partitioner=Dirichlet(0.3))
    options: dict[str, Any] = {"loops": loops, "num_rounds": 24, "training": None}
    calm, _ = run(tmp_path / "calm", task, **options)
    forced = min(30 * float(calm.records[9].knobs["lr"]), 30.0)
    overrides = [Override(10, "lr", forced)]
    disturbed, _ = run(tmp_path / "disturbed", task, overrides=overrides, **options)
    assert any(record.restored is not None for record in disturbed.records[9:14])
    assert accuracy(disturbed.records) > accuracy(calm.records) - 0.03


@pytest.mark.parametrize(
    "strategy",
    [GeometricMedian(), CentredClipping(), CoordinateMedian(), TrimmedMean(share=0.34), Krum()],
    ids=lambda strategy: type(strategy).__name__,
)
def test_robust_rules_take_each_group_as_one_update(tmp_path: Path, strategy: Any) -> None:
    watcher, _ = run(tmp_path, strategy=strategy, attack=ONE, loops=())
    assert accuracy(watcher.records) > 0.85
    (sentence,) = [text for text in watcher.info.guarantees if "Groups of 4" in text]
    assert "hidden among 3 others" in sentence and "here 1 wherever they stand" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"secure": MaskedSums(), "strategy": GeometricMedian()}, "set secure.group_size"),
        (
            {"strategy": GeometricMedian(), "pacing": Pacing(concurrency=8, quorum=8)},
            "a step of 8 nodes in groups of 4 or more has 2 sums; a step must have 12 nodes",
        ),
        ({"strategy": FedExP()}, "only sums of groups"),
        ({"loops": (quality(screening="individual"),)}, "screening is individual, but secure="),
        (
            {"loops": (quality(screening="individual"),), "secure": MaskedSums()},
            "give up the secrecy of secure=secagg",
        ),
    ],
)
def test_what_needs_single_updates_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        run(tmp_path, **options)


def test_screening_stands_down_where_there_are_too_few_sums(tmp_path: Path) -> None:
    options: dict[str, Any] = {"pacing": Pacing(concurrency=8, quorum=8), "num_rounds": 2}
    watcher, _ = run(tmp_path / "two", loops=default_loops(), **options)
    assert "a step must have 12 nodes (pacing.concurrency=12" in watcher.info.absent["quality"]
    assert "nothing stands between a hostile node and the model" in watcher.info.guarantees[-1]
    watcher, _ = run(tmp_path / "one", loops=default_loops(), secure=MaskedSums(), num_rounds=2)
    assert "set secure.group_size" in watcher.info.absent["quality"]
    watcher, _ = run(tmp_path / "three", loops=default_loops(), num_rounds=2)
    assert not watcher.info.absent


def test_the_individual_form_runs_in_the_clear(tmp_path: Path) -> None:
    loops: tuple[Loop, ...] = (quality(screening="individual"),)
    watcher, _ = run(tmp_path, secure=None, loops=loops, num_rounds=2)
    assert "screen_threshold" in watcher.records[0].knobs
    assert "clip_bound" not in watcher.records[0].knobs


def test_the_command_line_refuses_individual_screening_in_secrecy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code(
        [
            "run",
            "task=digits",
            "secure=secagg",
            "secure.group_size=8",
            "loop.quality.screening=individual",
            f"output_dir={tmp_path / 'run'}",
        ]
    )
    assert code == 2
    assert "what hides an update from the coordinator also hides it" in capsys.readouterr().err


def test_a_flag_of_a_group_survives_the_run_folder(tmp_path: Path) -> None:
    watcher, _ = run(tmp_path, attack=ONE, loops=(quality(),), num_rounds=3)
    seen = [flag for record in watcher.records for flag in record.flags]
    assert [flag for step in load(tmp_path).rounds for flag in step.flags] == seen
    assert seen and dataclasses.asdict(seen[0])["group"]
