"""The command line as a process of its own: imports, signals, pipes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DAAFL = [sys.executable, "-m", "daafl"]
QUICK = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_the_main_job_in_short(tmp_path: Path) -> None:
    """The main job itself, with its two workers, for three rounds and without the comparison."""
    command = [*DAAFL, "run", "experiment=quickstart", "num_rounds=3", "baseline=false", "--json"]
    done = subprocess.run(
        [*command, "workers=2"], cwd=tmp_path, env=QUICK, capture_output=True, text=True, check=True
    )
    summary = json.loads(done.stdout)
    assert summary["status"] == "completed"
    assert summary["nodes"] == 30
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.endswith("-quickstart-s0")
    assert json.loads((run / "summary.json").read_text()) == summary


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from daafl.cli.app import exit_code; exit_code(['run', '--help']);"
        "heavy = {'torch', 'flwr', 'hydra', 'sklearn', 'numpy', 'rich'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_wrong_key_is_refused_without_loading_torch_or_flower(tmp_path: Path) -> None:
    code = (
        "import sys; from daafl.cli.app import exit_code; code = exit_code(['run', 'sed=1']);"
        "sys.exit(code if not {'torch', 'flwr', 'sklearn'} & set(sys.modules) else 'heavy')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "did you mean seed?" in done.stderr


def mind_ctrl_c() -> None:
    """Undo what a background job inherits from its shell: Ctrl-C is ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"]
)
def test_an_interrupted_run_leaves_a_complete_folder(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    command = [*DAAFL, "run", "num_rounds=100000", "output_dir=out", "task=synthetic", "workers=1"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=QUICK,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=mind_ctrl_c,
    )
    rounds = tmp_path / "out" / "rounds.jsonl"
    deadline = time.monotonic() + 60
    while not (rounds.exists() and rounds.read_text().count("\n") > 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "stopped" in output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "stopped"
    assert (tmp_path / "out" / "report.html").stat().st_size > 0


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    script = f"{' '.join(DAAFL)} list | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "attack=...\n"
    assert done.stderr == ""
