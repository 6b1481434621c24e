"""`daafl.resume`: whole folders that go on, whatever was written when the process ended."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import daafl
from daafl.errors import ConfigError, DaaflError, StoreError
from daafl.learning import Examples
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.reopening import is_complete
from daafl.store.run_folder import load
from daafl.strategies import LocalTraining, Pacing

KillAfter = Callable[..., Any]

BUFFERED = Pacing(concurrency=4, quorum=2, max_staleness=10, refill="reply")
OPTIONS: dict[str, Any] = {
    "num_nodes": 5,
    "num_rounds": 4,
    "pacing": BUFFERED,
    "workers": 0,
    "progress": "quiet",
}


class Halves(daafl.Task):
    """Points left and right of a plane; nothing slow."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 2))

    def training(self) -> Examples:
        return self.points(200, seed=0)

    def evaluation(self) -> Examples:
        return self.points(100, seed=1)

    @staticmethod
    def points(number: int, *, seed: int) -> Examples:
        inputs = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
        return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class Interrupts:
    """Observer that presses Ctrl-C when a step's line is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, info: RunInfo) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        if record.kind == "train" and record.step == self.step:
            raise KeyboardInterrupt

    def finished(self, summary: RunSummary) -> None: ...


def contents(folder: Path) -> dict[str, Any]:
    """Return what is in a run's folder, without what a clock on the wall decides."""
    summary = json.loads((folder / "summary.json").read_text())
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for line in rounds:
        del line["wall"]
    del summary["seconds"]
    return {
        "journal": (folder / "journal.jsonl").read_bytes(),
        "model": (folder / "checkpoints" / "model.npz").read_bytes(),
        "rounds": rounds,
        "summary": summary,
    }


def run(folder: Path, **options: Any) -> daafl.RunResult:
    return daafl.run(Halves(), output_dir=folder, **{**OPTIONS, **options})


def resume(folder: Path, **options: Any) -> daafl.RunResult:
    return daafl.resume(folder, Halves(), **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def test_an_interrupted_run_goes_on(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupts(3))
    stopped = load(tmp_path)
    assert stopped.summary is not None and stopped.summary.status == "stopped"
    assert not is_complete(tmp_path)
    result = resume(tmp_path)
    assert contents(tmp_path) == contents(whole)
    assert is_complete(tmp_path) and (tmp_path / "report.html").exists()
    assert load(tmp_path).info.resumed_after == 2
    assert load(whole).info.resumed_after is None
    model = dict(np.load(tmp_path / "checkpoints" / "model.npz"))
    assert all(np.array_equal(result.arrays[name], model[name]) for name in model)


@pytest.fixture(scope="module")
def num_writes() -> list[int]:
    """Return an empty list, in which the number of a run's writes is kept once it is known."""
    return []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.4, 0.8, 0.93, 0.96, 0.98, 0.99])
def test_killed_at_some_writes_of_a_run(
    whole: Path,
    tmp_path: Path,
    kill_after: KillAfter,
    killed: type[BaseException],
    num_writes: list[int],
    share: float,
) -> None:
    """From the making of the folder to the report; early and late writes are all different."""
    if not num_writes:
        num_writes.append(counted(tmp_path / "counted", kill_after))
    check_kill(whole, tmp_path / "run", kill_after, killed, int(share * num_writes[0]))


@pytest.mark.slow
def test_killed_at_every_write_of_a_run(
    whole: Path, tmp_path: Path, kill_after: KillAfter, killed: type[BaseException]
) -> None:
    for number in range(counted(tmp_path / "counted", kill_after)):
        check_kill(whole, tmp_path / str(number), kill_after, killed, number)


def counted(folder: Path, kill_after: KillAfter) -> int:
    """Return how often a run writes."""
    with kill_after(None) as writes:
        run(folder)
    count: int = writes.count
    return count


def check_kill(
    whole: Path, folder: Path, kill_after: KillAfter, killed: type[BaseException], number: int
) -> None:
    """Kill a run after so many of its writes; resumed, its folder is that of a run in one go."""
    with kill_after(number), pytest.raises(killed):
        run(folder)
    if not (folder / "rounds.jsonl").exists():
        with pytest.raises(ConfigError, match="holds no run to resume"):
            resume(folder)
        run(folder)
    elif not is_complete(folder):
        resume(folder)
    assert contents(folder) == contents(whole)
    assert is_complete(folder)


@pytest.mark.parametrize("room", [1, 3, 4, 6, 9])
def test_a_full_disk_fails_the_run_and_leaves_the_last_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whichever write it is: a sentence, and the run goes on when there is room again."""
    write, left = os.write, [room]

    def full(descriptor: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            run(tmp_path)
    resume(tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_complete_run_is_left_alone(whole: Path) -> None:
    before = contents(whole)
    with pytest.raises(ConfigError, match="is complete: there is nothing to resume"):
        resume(whole)
    assert contents(whole) == before


def test_wrong_arguments_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupts(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for options in ({"training": LocalTraining(lr=0.3)}, {"seed": 1}, {"num_nodes": 4}):
        with pytest.raises(DaaflError):
            resume(tmp_path, **options)
        if "num_nodes" in options:
            continue  # the grid refuses it, after the run has begun to go on
        assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_without_a_configuration_the_arguments_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupts(2))
    with pytest.raises(ConfigError, match=r"has no config.yaml: .* daafl.resume\(.*, task"):
        daafl.resume(tmp_path)
    with pytest.raises(ConfigError, match="num_nodes is given without the task"):
        daafl.resume(tmp_path, num_nodes=4)
    with pytest.raises(ConfigError, match="resume needs the output_dir"):
        daafl.run(Halves(), resume=True, **OPTIONS)
    with pytest.raises(ConfigError, match="holds no run to resume"):
        daafl.resume(tmp_path / "nowhere")


def test_a_damaged_checkpoint_is_told(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupts(4))
    newest = max((tmp_path / "checkpoints").glob("*.checkpoint"))
    newest.write_bytes(newest.read_bytes()[:-1])
    resume(tmp_path)
    assert contents(tmp_path) == contents(whole)
    assert any("checkpoint 3 is damaged" in message for message in caplog.messages)
    assert any("used 2" in text or "used 1" in text for text in caplog.messages)


def test_all_checkpoints_damaged(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=Interrupts(4))
    for file in (tmp_path / "checkpoints").glob("*.checkpoint"):
        file.write_bytes(b"rubbish")
    with pytest.raises(StoreError, match=r"no checkpoint .* can be used"):
        resume(tmp_path)
