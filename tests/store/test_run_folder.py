import json
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from daafl.autonomy.journal import Journal
from daafl.autonomy.plan import Change, Knob
from daafl.autonomy.records import Decision, Effect, Insight
from daafl.errors import ConfigError, StoreError
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.observability.run import Baseline
from daafl.store.run_folder import RunFolder, default_path, load

INFO = RunInfo(
    task="digits",
    strategy="FedAvg",
    num_nodes=3,
    num_rounds=2,
    num_parameters=650,
    seed=4,
    knobs=(Knob("lr", "1", 0.1, "learning_rate", "branch", 1e-5, 30.0),),
    absent={"voting": "it needs at least 4 nodes"},
)
SUMMARY = RunSummary(
    status="completed",
    reason="all rounds were done",
    rounds=2,
    final_accuracy=0.9,
    final_loss=0.3,
    best_accuracy=0.91,
    seconds=1.5,
    virtual_seconds=8.0,
    bytes_up=200,
    bytes_down=300,
    epsilon=None,
    delta=None,
    decisions=1,
    rollbacks=0,
    alarms=0,
    flagged_nodes=(2,),
    nodes=3,
    seed=4,
    version="0.1.0",
)


def step(number: int) -> StepRecord:
    return StepRecord(
        kind="train",
        step=number,
        branch="main",
        version=number,
        clock_s=4.0 * number,
        seconds=4.0,
        wall_seconds=0.7,
        train_loss=0.5,
        metrics={"loss": 0.4, "accuracy": 0.8},
        knobs={"lr": 0.1, "quorum": 3, "server": "fedavg", "compress": False},
        num_updates=3,
        num_examples=120.0,
        rejected={"norm": 1},
        failures={},
        staleness=0,
        bytes_up=100,
        bytes_down=150,
        decisions=(
            Decision(
                "learning_rate", "increase", "stable", "cosine 0.5", (Change("lr", 0.1, 0.12),),
                expect=Effect("loss", 0.4, 0.05, 0.02, 3), number=number,
            ),
        ),
        insights=(
            Insight("learning_rate", "increase", "stable", 1, "better", 0.05, 0.1, 2.5, "good"),
        ),
        restored=None,
    )  # fmt: skip


STEPS = (step(1), step(2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "first"


@pytest.fixture
def written(path: Path) -> Path:
    """A finished run on disk."""
    folder = RunFolder(path, config="seed: 4\n")
    folder.started(INFO)
    for record in STEPS:
        folder.stepped(record)
    folder.finished(SUMMARY)
    return path


def test_a_run_comes_back_as_it_was_written(written: Path) -> None:
    run = load(written)
    assert (run.name, run.info, run.steps, run.summary) == ("first", INFO, STEPS, SUMMARY)
    assert (run.config, run.header, run.journal) == ("seed: 4\n", None, ())
    assert (run.baseline, run.notes) == (None, ())
    assert (written / "checkpoints").is_dir()


def test_the_summary_has_the_documented_keys(written: Path) -> None:
    assert list(json.loads((written / "summary.json").read_text())) == [
        "status", "reason", "rounds", "final_accuracy", "final_loss", "best_accuracy", "seconds",
        "virtual_seconds", "bytes_up", "bytes_down", "epsilon", "delta", "decisions", "rollbacks",
        "alarms", "flagged_nodes", "nodes", "seed", "version",
    ]  # fmt: skip


def test_each_step_is_one_line_of_strict_json(path: Path) -> None:
    folder = RunFolder(path)
    folder.started(INFO)
    folder.stepped(replace(step(1), metrics={"loss": math.inf}))
    # Readable before the run has ended.
    (line,) = (path / "rounds.jsonl").read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(line, parse_constant=refuse)["metrics"] == {"loss": None}
    assert math.isnan(load(path).steps[0].metrics["loss"])


def test_two_runs_differ_only_under_wall(tmp_path: Path) -> None:
    lines = []
    for name, wall_seconds in (("a", 0.2), ("b", 0.9)):
        folder = RunFolder(tmp_path / name)
        folder.stepped(replace(step(1), wall_seconds=wall_seconds))
        lines.append(json.loads((tmp_path / name / "rounds.jsonl").read_text()))
    assert lines[0] != lines[1]
    assert all(line.pop("wall") for line in lines)
    assert lines[0] == lines[1]


def test_a_run_that_was_cut_off_has_no_summary(path: Path) -> None:
    folder = RunFolder(path)
    folder.started(INFO)
    folder.stepped(step(1))
    with (path / "rounds.jsonl").open("a") as rounds:
        rounds.write('{"kind": "train", "st')
    run = load(path)
    assert run.summary is None
    assert run.steps == STEPS[:1]
    assert run.notes == ("The last line of rounds.jsonl was cut off and left out.",)


def test_the_journal_is_read_along(written: Path) -> None:
    record = {"kind": "decided", "tick": 1, "observations": {"learning_rate": {"loss": 0.5}}}
    with Journal.create(written / "journal.jsonl", {"seed": 4}) as journal:
        journal.append(record)
    run = load(written)
    assert (run.header, run.journal) == ({"kind": "header", "seed": 4}, (record,))


def test_a_baseline_can_be_added(path: Path) -> None:
    folder = RunFolder(path)
    folder.started(INFO)
    folder.compare_with(Baseline(0.97, 0.1, "ten epochs"))
    assert load(path).baseline == Baseline(0.97, 0.1, "ten epochs")


def test_a_folder_that_holds_a_run_is_refused(written: Path) -> None:
    with pytest.raises(ConfigError, match=f"output_dir {written} already holds a run"):
        RunFolder(written)
    assert load(written).summary == SUMMARY


def test_overwriting_removes_the_run_and_nothing_else(written: Path) -> None:
    (written / "notes.txt").write_text("mine")
    (written / "checkpoints" / "old").write_text("model")
    RunFolder(written, overwrite=True).started(INFO)
    run = load(written)
    assert (run.steps, run.summary, run.config) == ((), None, "")
    assert (written / "notes.txt").read_text() == "mine"
    assert not list((written / "checkpoints").iterdir())


def test_overwriting_spares_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "precious").write_text("model")
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="already holds"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / "checkpoints" / "precious").exists()
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        RunFolder(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "below")


def test_a_folder_without_a_run_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no run: it has no info\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rounds.jsonl", '{"kind": "train"}\n', r"rounds\.jsonl, line 3 is damaged: .*wall"),
        ("rounds.jsonl", "[1]\n", r"line 3 is damaged: it must be a JSON object"),
        ("rounds.jsonl", "{broken\n", r"line 3 is damaged: Expecting"),
        ("rounds.jsonl", "\n", r"line 3 is damaged"),
    ],
)
def test_a_damaged_line_is_named(written: Path, name: str, text: str, message: str) -> None:
    with (written / name).open("a") as file:
        file.write(text)
    with pytest.raises(StoreError, match=message):
        load(written)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summary.json", "{}", r"summary\.json is damaged: .*lacks the field"),
        ("summary.json", "", r"summary\.json is damaged"),
        ("info.json", '{"task": 3}', r"info\.json is damaged"),
        ("baseline.json", '{"accuracy": 7.0}', r"baseline\.json is damaged: .*in \[0, 1\]"),
    ],
)
def test_a_damaged_document_is_named(written: Path, name: str, text: str, message: str) -> None:
    (written / name).write_text(text)
    with pytest.raises(StoreError, match=message):
        load(written)


def test_bytes_that_are_not_text_are_named(written: Path) -> None:
    (written / "rounds.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(StoreError, match=r"rounds\.jsonl cannot be read"):
        load(written)


def test_default_paths_are_safe_names_that_do_not_collide(tmp_path: Path) -> None:
    started = datetime(2026, 3, 9, 7, 5, 1)
    first = default_path(tmp_path, task="../My digits", seed=3, started=started)
    assert first == tmp_path / "20260309-070501-my-digits-s3"
    first.mkdir()
    second = default_path(tmp_path, task="../My digits", seed=3, started=started)
    assert second.name == "20260309-070501-my-digits-s3-2"
    second.mkdir()
    third = default_path(tmp_path, task="../My digits", seed=3, started=started)
    assert third.name == "20260309-070501-my-digits-s3-3"
    assert default_path(tmp_path, task="\u6570", seed=0, started=started).name.endswith("-run-s0")
