import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
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
        "alarms", "flagged_nodes", "nodes", "seed", "version", "privacy",
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
    assert not (written / "checkpoints" / "old").exists()


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
    ("text", "why"),
    [
        ('{"kind": "train"}', "wall"),
        ("[1]", "it must be a JSON object"),
        ("{broken", "Expecting"),
        ("", "Expecting value"),
    ],
)
def test_a_damaged_line_is_left_out_and_named(written: Path, text: str, why: str) -> None:
    rounds = written / "rounds.jsonl"
    first, second = rounds.read_text().splitlines()
    rounds.write_text(f"{first}\n{text}\n{second}\n")
    run = load(written)
    assert run.steps == STEPS
    assert run.left_out == (2,)
    (note,) = run.notes
    assert note.startswith("Line 2 of rounds.jsonl is damaged and left out")
    assert why in note


def test_rounds_of_which_nothing_can_be_used_are_refused(written: Path) -> None:
    (written / "rounds.jsonl").write_text("{broken\n[1]\n")
    with pytest.raises(StoreError, match=r"rounds\.jsonl, line 1 is damaged: Expecting"):
        load(written)


def test_a_run_from_before_nodes_were_screened_can_still_be_read(written: Path) -> None:
    rounds, info = written / "rounds.jsonl", written / "info.json"
    lines = [json.loads(line) for line in rounds.read_text().splitlines()]
    for line in lines:
        del line["flags"], line["vote"], line["quarantined"]
    rounds.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    document = json.loads(info.read_text())
    del document["attackers"]
    info.write_text(json.dumps(document))
    run = load(written)
    assert run.steps == STEPS
    assert run.info.attackers is None


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


def stopped_at(path: Path, num_steps: int) -> int:
    """Make a run that goes on to its end; return where its rounds ended after some steps."""
    folder = RunFolder(path, config="seed: 4\n")
    folder.started(INFO)
    offset = folder.rounds_bytes
    for number, record in enumerate(STEPS, start=1):
        folder.stepped(record)
        if number == num_steps:
            offset = folder.rounds_bytes
    folder.finished(SUMMARY)
    folder.compare_with(Baseline(0.97, 0.1, "ten epochs"))
    folder.report.write_text("<html>")
    return offset


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_a_reopened_run_stands_where_it_was_and_goes_on_to_the_same_end(
    path: Path, tmp_path: Path, num_steps: int
) -> None:
    offset = stopped_at(path, num_steps)
    with (path / "rounds.jsonl").open("a") as rounds:
        rounds.write('{"kind": "train", "st')  # killed in the middle of a line
    (path / "checkpoints" / "state").write_text("kept")
    folder = RunFolder.reopen(path, rounds_bytes=offset)
    assert folder.rounds_bytes == offset
    run = load(path)
    assert (run.steps, run.summary, run.notes) == (STEPS[:num_steps], None, ())
    assert (run.info, run.config) == (INFO, "seed: 4\n")
    assert not folder.report.exists()
    assert (folder.checkpoints / "state").read_text() == "kept"
    for record in STEPS[num_steps:]:
        folder.stepped(record)
    folder.finished(SUMMARY)
    stopped_at(tmp_path / "uninterrupted", 0)
    for name in ("info.json", "rounds.jsonl", "summary.json", "baseline.json", "config.yaml"):
        assert (path / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


def test_reopening_can_be_stopped_between_any_two_operations_and_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    offset = stopped_at(path, 1)
    for stop_at in range(1, 100):
        count = 0

        def stopping(real: Callable[..., object], at: int = stop_at) -> Callable[..., object]:
            def operate(*arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count >= at:
                    raise Killed
                return real(*arguments, **options)

            return operate

        with monkeypatch.context() as patch:
            for name in ("unlink", "open", "fsync", "mkdir"):
                patch.setattr(os, name, stopping(getattr(os, name)))
            try:
                RunFolder.reopen(path, rounds_bytes=offset)
            except Killed:
                continue
        break
    assert stop_at > 4
    run = load(path)
    assert (run.steps, run.summary) == (STEPS[:1], None)
    RunFolder.reopen(path, rounds_bytes=offset)


RUNNING = """
import os, sys, time
from pathlib import Path
from daafl.store.run_folder import RunFolder
folder = RunFolder.reopen(Path(sys.argv[1]), rounds_bytes=int(sys.argv[2]))
if os.fork() == 0:
    time.sleep(600)
print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_run_that_still_goes_on_is_left_alone_until_its_process_ends(path: Path) -> None:
    offset = stopped_at(path, 1)
    running = subprocess.Popen(
        [sys.executable, "-c", RUNNING, str(path), str(offset)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == f"{running.pid}\n"
    with (path / "rounds.jsonl").open("a") as rounds:
        rounds.write("what it writes")
    try:
        with pytest.raises(ConfigError, match="another process still writes to"):
            RunFolder.reopen(path, rounds_bytes=offset)
        with pytest.raises(ConfigError, match="another process still writes to"):
            RunFolder(path, overwrite=True)
        assert load(path).steps == STEPS[:1]
        assert (path / "rounds.jsonl").read_text().endswith("what it writes")
        # What it has forked may live on; the run is free.
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        assert RunFolder.reopen(path, rounds_bytes=offset).rounds_bytes == offset
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        running.stdout.close()


def test_only_a_run_can_be_reopened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run folder"):
        RunFolder.reopen(tmp_path / "nowhere", rounds_bytes=0)
    with pytest.raises(ConfigError, match=r"holds no run: it has no info\.json"):
        RunFolder.reopen(tmp_path, rounds_bytes=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [-1, 1, 10**6])
def test_rounds_that_do_not_fit_the_checkpoint_are_not_touched(path: Path, change: int) -> None:
    offset = stopped_at(path, 2)
    before = (path / "rounds.jsonl").read_bytes()
    wrong = {-1: "no line that ends at byte", 1: "lines are missing", 10**6: "lines are missing"}
    with pytest.raises(StoreError, match=wrong[change]):
        RunFolder.reopen(path, rounds_bytes=offset + change)
    with pytest.raises(StoreError, match="lines are missing"):
        RunFolder.reopen(path, rounds_bytes=-1)
    assert (path / "rounds.jsonl").read_bytes() == before


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
