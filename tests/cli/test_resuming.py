"""``daafl resume`` as a user meets it: signals, kills, full disks, and what it says."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from daafl.cli.app import exit_code

DAAFL = [sys.executable, "-m", "daafl"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
WINE = ["task=wine", "num_nodes=6", "workers=0", "--quiet"]

SETTINGS = {
    "synchronous": ["strategy=fedavg"],
    "deadline": ["pacing=deadline", "strategy=fedavgm", "fleet=log_normal"],
    "buffered": ["pacing=buffered", "strategy=fedadam", "fleet=log_normal"],
}


def mind_ctrl_c() -> None:
    """Undo what a background job inherits from its shell: Ctrl-C is ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DAAFL, *words],
        cwd=folder,
        env=ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def daafl(folder: Path, *words: str) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        [*DAAFL, *words], cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def num_rounds(run: Path) -> int:
    rounds = run / "rounds.jsonl"
    return rounds.read_text().count("\n") if rounds.exists() else 0


def wait_for(process: subprocess.Popen[str], run: Path, rounds: int) -> None:
    deadline = time.monotonic() + 60
    while num_rounds(run) < rounds:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def contents(run: Path) -> dict[str, Any]:
    """Return what is in a run's folder, without what a clock on the wall decides."""
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    summary = json.loads((run / "summary.json").read_text())
    for line in rounds:
        del line["wall"]
    del summary["seconds"]
    return {
        "journal": (run / "journal.jsonl").read_bytes(),
        "model": (run / "checkpoints" / "model.npz").read_bytes(),
        "rounds": rounds,
        "summary": summary,
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
    ids=["ctrl-c", "terminated"],
)
def test_a_stopped_run_says_how_to_go_on(
    number: signal.Signals, code: int, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The signal comes at a random instant of a step; the end is that of a run in one go."""
    options = ["task=wine", "num_nodes=6", "num_rounds=40", "workers=1"]
    stopped = started(here, "run", *options, "output_dir=cut", preexec_fn=mind_ctrl_c)
    wait_for(stopped, here / "cut", 3)
    stopped.send_signal(number)
    output, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == code
    assert "Traceback" not in errors
    assert "stopped: interrupted" in output
    assert "go on with: daafl resume cut" in errors
    assert json.loads((here / "cut" / "summary.json").read_text())["status"] == "stopped"
    assert exit_code(["resume", "cut"]) == 0
    told = capfd.readouterr().out
    assert "resumed after round" in told and "completed: all 40 rounds done" in told
    assert exit_code(["run", *options, "output_dir=whole", "--quiet"]) == 0
    assert contents(here / "cut") == contents(here / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_at_random_instants(setting: str, tmp_path: Path) -> None:
    """``kill -9`` from outside, seven times in a row, each time the run that was resumed."""
    options = ["task=synthetic", "num_nodes=8", "num_rounds=60", "workers=2", *SETTINGS[setting]]
    daafl(tmp_path, "run", *options, "output_dir=whole", "--quiet")
    run, rng = tmp_path / "cut", random.Random(setting)
    words = ["run", *options, "output_dir=cut", "--quiet"]
    for kill in range(7):
        process = started(tmp_path, *words)
        wait_for(process, run, 7 * kill + 1)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
        words = ["resume", "cut", "--quiet"]
    daafl(tmp_path, *words)
    assert contents(run) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence(here: Path) -> None:
    """No file may grow beyond 12 kB, which the journal reaches after a few rounds."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    process = started(here, "run", *WINE, "num_rounds=12", "output_dir=cut", preexec_fn=small_files)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "journal.jsonl cannot take another line" in errors
    assert "File too large" in errors
    assert "go on with: daafl resume cut" in errors
    assert exit_code(["resume", "cut", "--quiet"]) == 0
    assert exit_code(["run", *WINE, "num_rounds=12", "output_dir=whole"]) == 0
    assert contents(here / "cut") == contents(here / "whole")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a run has completed, under runs/."""
    folder = tmp_path_factory.mktemp("complete")
    output = folder / "runs" / "one"
    assert exit_code(["run", *WINE, "num_rounds=2", f"output_dir={output}"]) == 0
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed after some rounds."""
    folder = tmp_path_factory.mktemp("killed")
    process = started(folder, "run", *WINE, "num_rounds=100000", "output_dir=run")
    wait_for(process, folder / "run", 3)
    process.kill()
    process.communicate()
    return folder / "run"


@pytest.mark.parametrize("words", [[], ["runs/one"], ["one"]], ids=["newest", "path", "name"])
def test_a_complete_run_has_nothing_to_resume(
    words: list[str],
    complete: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(complete)
    assert exit_code(["resume", *words]) == 0
    assert "the run in runs/one is complete" in capsys.readouterr().out
    assert exit_code(["resume", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "completed"


MISTAKES = [
    ("nowhere", "nowhere holds no run to resume"),
    ("python", 'python has no config.yaml: .* daafl.resume\\("python", task'),
    ("secret", "task.api_key is a secret, which config.yaml does not hold"),
    ("rubbish", "config.yaml cannot be read"),
    ("changed", "seed is 'one', but must be an integer"),
    ("other", "under a configuration with hash"),
]


@pytest.mark.parametrize(("name", "sentence"), MISTAKES, ids=[name for name, _ in MISTAKES])
def test_what_cannot_be_resumed_is_said(
    name: str,
    sentence: str,
    killed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "nowhere":
        shutil.copytree(killed, tmp_path / name)
    config = tmp_path / name / "config.yaml"
    match name:
        case "python":
            config.unlink()
        case "secret":
            config.write_text(config.read_text().replace("task:\n", "task:\n  api_key: '***'\n"))
        case "rubbish":
            config.write_text("seed: [")
        case "changed":
            config.write_text(config.read_text().replace("seed: 0", "seed: one"))
        case "other":
            config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    assert exit_code(["resume", name]) == 2
    errors = capfd.readouterr().err
    assert re.search(sentence, errors), errors
    assert "Traceback" not in errors


def test_an_own_task_is_found_again(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "own.py").write_text(OWN_TASK)
    words = ["task=own.py:Mine", "num_nodes=4", "num_rounds=3", "workers=0", "output_dir=cut"]
    assert exit_code(["run", *words]) == 0
    (here / "cut" / "report.html").unlink()  # as if killed before the report
    assert exit_code(["resume", "cut"]) == 0
    assert "completed: all 3 rounds done" in capfd.readouterr().out


OWN_TASK = """
import numpy as np
from torch import nn

import daafl
from daafl.learning import Examples


class Mine(daafl.Task):
    def model(self):
        return nn.Linear(4, 2)

    def training(self):
        return Examples(np.zeros((60, 4), "float32"), np.zeros(60, int))
"""
