import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from daafl.errors import ConfigError
from daafl.observability.events import Flag, Observer, Vote
from daafl.observability.final_lines import final_lines
from daafl.observability.live import LiveProgress, Seen, sparkline
from daafl.observability.plain import PlainProgress
from daafl.observability.progress import JsonProgress, WhileItLasts, progress
from daafl.observability.run import Run

REPORT = Path("runs/digits/report.html")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(observer: Observer, run: Run) -> None:
    observer.started(run.info)
    for step in run.steps:
        observer.stepped(step)
    assert run.summary is not None
    observer.finished(run.summary)


def test_plain_lines_have_one_row_per_step_in_fixed_columns(
    scripted_run: Callable[..., Run],
) -> None:
    output, run = io.StringIO(), scripted_run(20)
    shown(progress("plain", report=REPORT, output=output), run)
    lines = output.getvalue().splitlines()
    head = next(line for line in lines if line.split()[:1] == ["round"])
    rows = [line for line in lines if line.split()[:1] == ["probe"] or "/20" in line.split()[0]]
    assert len(rows) == len(run.steps) == 22
    assert {len(row) for row in rows} == {len(head)}
    decided = [line for line in lines if line.startswith("        ") and "→" in line]
    changes = [d for s in run.steps for d in s.decisions if d.changes]
    assert len(decided) == len(changes)
    assert changes[0].reason in decided[0]
    assert any("without secure_aggregation: it needs" in line for line in lines)
    assert lines[-1] == f"  report: {REPORT}"


def test_a_row_tells_the_figures_of_its_step(make_record, scripted_run) -> None:
    output = io.StringIO()
    observer = PlainProgress(output)
    observer.started(scripted_run(60).info)
    observer.stepped(make_record(7, rejected={"norm": 2}, failures={"timeout": 1}))
    # loss .9/7, accuracy 1 - .5/7, two refused and one failed, 2 x 96,400 bytes
    assert output.getvalue().splitlines()[-1].split() == [
        "7/60", "0.1286", "0.9286", "0.1", "10", "3", "2", "s", "193", "kB",
    ]  # fmt: skip


def test_a_stream_that_only_takes_ascii_does_not_end_the_run(
    scripted_run: Callable[..., Run],
) -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    shown(progress("plain", output=output), scripted_run(10))
    assert b"lr 0.097 ? " in raw.getvalue()


def test_quiet_says_only_how_it_ended(scripted_run: Callable[..., Run]) -> None:
    output = io.StringIO()
    shown(progress("quiet", report=REPORT, output=output), scripted_run(20))
    lines = output.getvalue().splitlines()
    assert lines[0] == "completed: all 20 rounds were done"
    assert "2 alarms" in lines[2]
    assert "1 rollback" in lines[2]
    assert lines[3] == "  suspected: node 7"
    assert len(lines) == 5


def test_json_prints_the_summary_and_nothing_else(
    scripted_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = scripted_run(10)
    shown(progress("json", report=REPORT), run)
    output, errors = capsys.readouterr()
    assert json.loads(output)["rounds"] == 10
    assert "10/10" in errors
    assert str(REPORT) in errors


def test_json_and_quiet_print_no_rounds(
    scripted_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    shown(JsonProgress(sys.stdout, report=REPORT, is_quiet=True), scripted_run(10))
    output, errors = capsys.readouterr()
    assert json.loads(output)["rounds"] == 10
    assert "10/10" not in errors
    assert errors.startswith("completed")


def test_why_a_run_failed_is_left_to_its_exception(scripted_run: Callable[..., Run]) -> None:
    summary = scripted_run(10).summary
    assert summary is not None
    failed = replace(summary, status="failed", reason="nobody answered")
    assert final_lines(failed)[0] == "failed"
    assert final_lines(replace(failed, status="stopped"))[0] == "stopped: nobody answered"


def test_a_task_without_accuracy_shows_its_own_figure(make_record, scripted_run) -> None:
    output = io.StringIO()
    observer = PlainProgress(output)
    observer.started(scripted_run(60).info)
    for step in (1, 2):
        metrics = {"loss": 2.0, "mean_absolute_error": 1.5} if step == 2 else {}
        observer.stepped(make_record(step, metrics=metrics))
    *_, head, row = output.getvalue().splitlines()
    assert head.split()[:3] == ["round", "loss", "mean_abso"]
    assert row.split()[:3] == ["2/60", "2", "1.5"]
    assert len(head) == len(row)
    seen = Seen()
    seen.add(make_record(1, metrics={"loss": 2.0, "mean_absolute_error": 1.5}))
    assert (seen.metric, seen.accuracy) == ("mean_absolute_error", [1.5])


def test_suspects_rejections_and_quarantine_are_told_once(make_record, scripted_run) -> None:
    output = io.StringIO()
    observer = PlainProgress(output)
    observer.started(scripted_run(60).info)
    single = Flag(4, 3.9, "norm", False, "too long")
    suspect = Flag(7, 8.0, "direction", True, "it points away")
    vote = Vote(3, 1, 15, 2, 9, 0.5, "rejected")
    observer.stepped(make_record(1, flags=(single, suspect)))
    observer.stepped(make_record(2, flags=(suspect,), quarantined=(7, 9)))
    observer.stepped(make_record(3, vote=vote, quarantined=(7,), restored=1))
    said = [line.strip() for line in output.getvalue().splitlines() if line.startswith(" " * 8)]
    assert said == [
        "suspects node 7: it points away",
        "quarantine: no work for nodes 7, 9",
        "a committee rejected version 3: 2 of 11 votes in favour, 50 % needed",
        "quarantine ends for node 9",
        "the model went back to version 1",
    ]


def test_live_shows_the_run_and_leaves_the_result(scripted_run: Callable[..., Run]) -> None:
    file = Terminal()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    run = scripted_run(60)
    shown(LiveProgress(file, report=REPORT, console=console), run)
    text = file.getvalue()
    last = run.rounds[-1]
    assert "round 60/60" in text
    assert "came out" in text
    assert "alarms" in text
    assert f"{last.metrics['accuracy']:.4f}" in text
    assert text.rstrip().endswith(str(REPORT))
    # The cursor is hidden while the display lives, and shown again afterwards.
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_the_time_left_is_the_recent_pace_times_what_remains(make_record) -> None:
    seen = Seen()
    assert seen.left_s(100) is None
    for step in range(1, 31):
        seen.add(make_record(step, wall_seconds=9.0 if step <= 10 else 0.5))
    # Twenty recent steps of half a second; 70 rounds remain.
    assert seen.left_s(100) == pytest.approx(35.0)
    assert seen.elapsed_s == pytest.approx(100.0)


def test_sparkline_is_scaled_thinned_and_blank_where_nothing_is_known() -> None:
    assert sparkline([]) == ""
    assert sparkline([None, None]) == "  "
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([0.0, 0.0, 1.0, 1.0], width=2) == "▁█"
    assert sparkline([0.0, float("inf"), 1.0]) == "▁ █"


def test_auto_draws_on_a_terminal_and_prints_lines_elsewhere() -> None:
    assert isinstance(progress("auto", output=Terminal()).shown, LiveProgress)
    assert isinstance(progress("auto", output=io.StringIO()).shown, PlainProgress)


def test_an_unknown_mode_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"progress=.loud..*auto, live, plain, quiet, json"):
        progress("loud")


def test_what_nobody_can_read_any_more_does_not_end_the_run(
    scripted_run: Callable[..., Run],
) -> None:
    class ClosedPipe(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    observer = progress("plain", output=ClosedPipe())
    shown(observer, scripted_run(3))
    assert isinstance(observer, WhileItLasts)
