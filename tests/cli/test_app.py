"""What the command line answers, in this process: exit codes, sentences, listings, reports."""

import json
import sys
from pathlib import Path

import pytest

import daafl
from daafl import __version__
from daafl.cli.app import exit_code
from daafl.config.groups import option_groups
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.tabular import Wine

TINY = ["task=wine", "num_nodes=6", "num_rounds=2", "workers=0"]

OWN_TASKS = """
import numpy as np
from torch import nn

import daafl
from daafl.learning import Examples


class Mine(daafl.Task):
    def model(self):
        return nn.Linear(4, 2)

    def training(self):
        return Examples(np.zeros((60, 4), "float32"), np.zeros(60, int))


class NoModel(Mine):
    def model(self):
        raise ValueError("no model today")


class NoAnswer(Mine):
    def loss(self, outputs, targets):
        raise ValueError("no loss today")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own.py").write_text(OWN_TASKS)
    (tmp_path / "bad.yaml").write_text("events:\n- {kind: crash, at_s: -1}")
    return tmp_path


# Arguments, exit code, and a part of the sentence on standard error.
MISTAKES = [
    (["rn"], 2, "Did you mean 'run'?"),
    (["run", "scenario=storn"], 2, "scenario=storn is not known; did you mean storm?"),
    (["run", "scenario=bad.yaml"], 2, "bad.yaml, line 2: events[0].at_s is -1, but must be a num"),
    (["run", "--jsn"], 2, "Did you mean '--json'?"),
    (["run", "--resolve"], 2, "--resolve goes with --cfg"),
    (["run", "--cfg", "jb"], 2, "'jb' is not one of 'job', 'hydra', 'all'"),
    (["run", "strategey=fedavg"], 2, "did you mean strategy?"),
    (["run", "task=digit"], 2, "did you mean digits?"),
    (["run", "num_rounds=ten"], 2, "num_rounds is 'ten', but must be an integer"),
    (["run", "num_rounds=-1"], 2, "num_rounds is -1, but must be 1 or more"),
    (["run", "seed=1,2"], 2, "add --multirun"),
    (["run", "partition.alpha=ten"], 2, "partition.alpha is 'ten', but must be a number"),
    (["run", "partition.alpha=0"], 2, "Dirichlet has alpha=0; it must be a positive number"),
    (["run", "strategy=fedadam", "strategy.eta=0"], 2, "strategy.eta is 0, but must be more than"),
    (["run", "pacing.quorum=11"], 2, "pacing.quorum is 11"),
    (["run", "pacing.refill=now"], 2, "pacing.refill is 'now', but must be one of step, reply"),
    (["run", "training.lr=-1"], 2, "training.lr is -1"),
    (["run", "loop.learning_rate.kappa=x"], 2, "loop.learning_rate.kappa is 'x', but must be a"),
    (["run", "fleet.latency_s=-1"], 2, "fleet: latency_s"),
    (["run", "grid.message_timeout_s=-1"], 2, "message_timeout_s"),
    (["run", "task=wine"], 2, "143 examples cannot be divided among 30 nodes"),
    (["run", "task.hidden=0"], 2, "task digits has hidden=0"),
    (["run", "task._target_=daafl.strategies.Pacing"], 2, "Pacing takes no partitioner"),
    (["run", "overrides=[{step: 1, knobb: lr, value: 3}]"], 2, "did you mean knob?"),
    (["run", "overrides=[3]"], 2, "overrides is [3], but must be a list of mappings"),
    (["run", "overrides=[{step: 1, knob: lrr, value: 3}]"], 2, "there is no such knob"),
    (["run", "task=nope.py:Mine"], 2, "there is no file nope.py"),
    (["run", "task=own.py:Mne"], 2, "did you mean Mine?"),
    (["run", "output_dir=own.py", *TINY], 2, "own.py"),
    (["run", "knowledge=own.py"], 2, "knowledge own.py cannot be used"),
    (["run", "knowledge=no/such/folder.db"], 2, "knowledge no/such/folder.db cannot be"),
    (["run", "--config-dir", "nope"], 2, "there is no configuration folder nope"),
    (["run", "-m", "seed=1,2", "num_rounds=0"], 2, "num_rounds is 0"),
    (["run", "-m", "strategy=fedavg,fedavvg"], 2, "did you mean fedavg?"),
    (["run", "-m", "seed=interval(0,1)"], 2, "names no values to try"),
    (["list", "stratgy"], 2, "did you mean strategy?"),
    (["report"], 2, "there is no run under runs/"),
    (["report", "nope"], 2, "there is no run folder nope"),
    (["report", "--text", "--json"], 2, "exclude each other"),
    (["completion", "tcsh"], 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    (["run", "task=own.py:NoModel", "num_nodes=6"], 1, "own.py, line 19, in model: ValueError"),
    (
        ["run", "task=own.py:NoAnswer", "num_nodes=6", "workers=0", "loop/learning_rate=off"],
        1,
        "no node has sent an update",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), MISTAKES, ids=lambda v: str(v)[:60])
def test_a_mistake_has_its_exit_code_and_a_sentence(
    arguments: list[str], code: int, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == code
    errors = capfd.readouterr().err
    assert sentence in errors
    assert "Traceback" not in errors


def test_a_mistake_leaves_no_folder(folder: Path) -> None:
    exit_code(["run", "overrides=[{step: 1, knob: lrr, value: 3}]", "output_dir=out"])
    assert not (folder / "out").exists()
    assert not (folder / "runs").exists()


def test_a_bug_is_reported_in_one_line_with_a_file_for_the_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("daafl.config.composition.compose", broken)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert exit_code(["run"]) == 70
    sentence = capsys.readouterr().err
    assert "an unexpected ZeroDivisionError ended the program: a bug" in sentence
    assert sentence.count("\n") == 1
    (log,) = folder.glob("daafl-crash-*.log")
    assert str(log) in sentence
    assert "Traceback" in log.read_text()


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"daafl {__version__}\n"


@pytest.mark.parametrize("command", ["run", "report", "explain", "replay", "list", "completion"])
def test_help_teaches_by_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"daafl {command}" in text


def test_the_list_names_every_option_and_marks_the_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for group, options in option_groups().items():
        assert f"{group}=..." in lines
        for option in options:
            assert any(option.name in line and option.description in line for line in lines)
    marked = [line.split()[1] for line in lines if line.startswith(" * ")]
    assert {"digits", "dirichlet", "fedavg", "synchronous"} <= set(marked)


def test_the_list_of_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["list", "loop/health"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loop/health=..."
    assert [line[3:].split()[0] for line in lines[1:]] == ["default", "off"]


def test_the_configuration_is_shown_and_nothing_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["run", "--cfg", "job", "strategy=fedadam"]) == 0
    text = capsys.readouterr().out
    assert "seed: ${seed}" in text
    assert "flwr.serverapp.strategy.FedAdam" in text
    assert exit_code(["run", "--cfg", "job", "--resolve", "seed=4"]) == 0
    assert "${" not in capsys.readouterr().out
    assert exit_code(["run", "--cfg", "all"]) == 0
    assert "searchpath" in capsys.readouterr().out
    assert not (folder / "runs").exists()


def test_a_run_prints_its_summary_as_json_and_nothing_else(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["run", *TINY, "--json", "output_dir=out"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((folder / "out" / "summary.json").read_text())
    assert printed["status"] == "completed"
    assert printed["rounds"] == 2
    assert (folder / "out" / "report.html").exists()


def test_a_quiet_run_says_how_it_ended_and_where_the_report_is(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["run", *TINY, "-q"]) == 0
    text = capfd.readouterr().out
    (run,) = (folder / "runs").iterdir()
    assert text.startswith("completed")
    assert f"runs/{run.name}/report.html" in text
    assert run.name.endswith("-wine-s0")


def test_the_stored_configuration_runs_the_same_again(folder: Path) -> None:
    assert exit_code(["run", *TINY, "-q", "seed=5", "output_dir=first"]) == 0
    text = (folder / "first" / "config.yaml").read_text()
    assert "output_dir: first" in text
    assert "seed: 5" in text
    assert "${" not in text


def test_python_gives_the_same_run(folder: Path) -> None:
    assert exit_code(["run", *TINY, "-q", "output_dir=cli", "num_rounds=5"]) == 0
    daafl.run(
        Wine(Dirichlet(0.3)),
        num_nodes=6,
        num_rounds=5,
        workers=0,
        output_dir="python",
        progress="quiet",
    )
    for name in ("journal.jsonl", "checkpoints/model.npz"):
        assert (folder / "cli" / name).read_bytes() == (folder / "python" / name).read_bytes()


def test_knowledge_carries_over_to_the_next_run(folder: Path) -> None:
    for name in ("first", "second"):
        arguments = ["num_rounds=15", "workers=0", "knowledge=k.db", f"output_dir={name}", "-q"]
        assert exit_code(["run", *arguments]) == 0
    headers = [
        json.loads((folder / name / "journal.jsonl").read_text().split("\n")[0])
        for name in ("first", "second")
    ]
    assert headers[0]["beliefs"] == {}
    assert any(key.startswith("learning_rate/") for key in headers[1]["beliefs"])


def test_a_forced_value_is_in_force_from_its_step_on(folder: Path) -> None:
    forced = "overrides=[{step: 2, knob: lr, value: 0.25}]"
    assert exit_code(["run", *TINY, "-q", "output_dir=out", "loop/learning_rate=off", forced]) == 0
    lines = (folder / "out" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["knobs"]["lr"] for line in lines] == [0.1, 0.25]


def test_a_failed_run_prints_its_summary_too(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["task=own.py:NoAnswer", "num_nodes=6", "workers=0", "output_dir=out"]
    assert exit_code(["run", "--json", *arguments]) == 1
    assert json.loads(capfd.readouterr().out)["status"] == "failed"


def test_a_sweep_runs_every_combination_and_compares(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["seed=0,1", "strategy=fedavg,fedmedian", "output_dir=out", *TINY]
    assert exit_code(["run", "--multirun", *arguments]) == 0
    text = capfd.readouterr().out
    assert "[4/4] seed=1 strategy=fedmedian" in text
    assert "strategy=fedavg: accuracy median" in text
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "0-seed=0-strategy=fedavg",
        "1-seed=0-strategy=fedmedian",
        "2-seed=1-strategy=fedavg",
        "3-seed=1-strategy=fedmedian",
        "sweep.json",
    ]
    rows = json.loads((folder / "out" / "sweep.json").read_text())
    assert [row["values"] for row in rows][1] == {"seed": "0", "strategy": "fedmedian"}
    assert all(row["summary"]["status"] == "completed" for row in rows)
    assert exit_code(["run", "--multirun", *arguments]) == 2
    assert "already holds a run" in capfd.readouterr().err


def test_a_sweep_goes_on_after_a_failed_job_and_says_so(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["task=own.py:NoAnswer,wine", "num_nodes=6", "num_rounds=3", "workers=0"]
    assert exit_code(["run", "-m", "--json", *arguments]) == 1
    rows = json.loads(capfd.readouterr().out)
    assert [row["summary"]["status"] for row in rows] == ["failed", "completed"]
    assert "no node has sent an update" in rows[0]["error"]
    assert rows[1]["error"] is None


def test_runs_are_listed_and_reported(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["list", "runs"]) == 0
    assert capfd.readouterr().out == "there is no run under runs/\n"
    assert exit_code(["run", *TINY, "-q"]) == 0
    capfd.readouterr()
    assert exit_code(["list", "runs"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert "completed" in line
    assert "2 rounds" in line
    (run,) = (folder / "runs").iterdir()
    page = run / "report.html"
    page.unlink()
    assert exit_code(["report"]) == 0
    assert capfd.readouterr().out == f"report: runs/{run.name}/report.html\n"
    assert page.exists()
    assert exit_code(["report", run.name, "--text"]) == 0
    assert "2 of 2" in capfd.readouterr().out
    assert exit_code(["report", f"runs/{run.name}", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["rounds"] == 2
    (run / "summary.json").unlink()
    assert exit_code(["report", "--json"]) == 2
    assert "was cut off" in capfd.readouterr().err


def test_a_damaged_run_is_no_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "runs" / "damaged"
    run.mkdir(parents=True)
    (run / "rounds.jsonl").write_text("not json\n")
    (run / "info.json").write_text("{}")
    assert exit_code(["report"]) == 1
    assert "rounds.jsonl, line 1 is damaged" in capsys.readouterr().err
    assert exit_code(["list", "runs"]) == 0
    assert "unfinished" in capsys.readouterr().out
