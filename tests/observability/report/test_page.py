import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision
from daafl.observability.events import StepRecord
from daafl.observability.outcomes import outcomes
from daafl.observability.report import describe, report_html, write_report
from daafl.observability.run import Baseline, Run

Parse = Callable[[str], Element]
Scripted = Callable[..., Run]


def with_class(page: Element, *names: str) -> Iterator[Element]:
    """Every element that has all the classes."""
    return (node for node in page.iter() if set(names) <= set(node.get("class", "").split()))


def text(node: Element) -> str:
    return "".join(node.itertext())


def tile(page: Element, name: str) -> list[str]:
    """The texts of the tile with that name."""
    tiles = ([text(part) for part in node] for node in with_class(page, "tile"))
    return next(parts for parts in tiles if parts[0] == name)


def chart(page: Element, title: str) -> Element:
    found = [f for f in page.iter("figure") if text(next(f.iter("strong"))) == title]
    assert len(found) == 1
    return found[0]


def test_every_decision_is_a_mark_that_leads_to_its_row(
    scripted_run: Scripted, parse: Parse
) -> None:
    run = scripted_run()
    page = parse(report_html(run))
    taken = outcomes(run.steps)
    marks = list(with_class(page, "mark"))
    assert len(marks) == len(taken) == 41
    rows = {row.get("id"): row for row in page.iter("tr") if row.get("id")}
    assert len(rows) == len(taken)
    for mark in marks:
        row = rows[mark.get("href", "")[1:]]
        outcome = taken[int(row.get("id", "").removeprefix("decision-")) - 1]
        assert outcome.result in mark.get("class", "").split()
        explanation = text(next(mark.iter("title")))
        assert outcome.decision.reason in explanation
        assert f"after step {outcome.step}" in explanation
        # Steps 1 to 60 lie on an axis from 0.5 to 60.5.
        left = float(next(mark.iter("use")).get("x", "").rstrip("%"))
        assert left == pytest.approx(100 * (outcome.step - 0.5) / 60, abs=0.01)


def test_the_table_tells_what_was_decided_and_what_came_of_it(
    scripted_run: Scripted, parse: Parse
) -> None:
    run = scripted_run()
    page = parse(report_html(run))
    (restore,) = [o for o in outcomes(run.steps) if o.kind == "restore"]
    row = next(
        row for row in page.iter("tr")
        if row.get("id") and text(row[0]) == str(restore.decision.number)
    )  # fmt: skip
    cells = {cell.get("data-label"): text(cell) for cell in row}
    assert cells["step"] == "26"
    assert cells["loop"] == "learning rate"
    assert cells["action"] == "decrease: lr 0.7 → 0.007, back to model version 23"
    assert cells["why"] == "the loss exploded"
    assert restore.insight is not None
    assert cells["expected"] == "0.02 loss"
    assert cells["result"].split()[1] == restore.insight.verdict


def test_the_accuracy_curve_is_the_accuracy(scripted_run: Scripted, parse: Parse) -> None:
    run = scripted_run()
    page = parse(report_html(run))
    figure = chart(page, "Accuracy")
    (curve,) = with_class(figure, "curve")
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", curve.get("d", ""))
    assert len(points) == 60
    ticks = {text(t): float(t.get("y", "")) - 4 for t in with_class(figure, "tick", "y")
             if text(t) != "step"}  # fmt: skip
    per_unit = (ticks["0.2"] - ticks["0.8"]) / 0.6
    for (x, y), step in zip(points, run.rounds, strict=True):
        assert float(x) == pytest.approx(1000 * (step.step - 0.5) / 60, abs=0.06)
        value = 0.2 + (ticks["0.2"] - float(y)) / per_unit
        assert value == pytest.approx(step.metrics["accuracy"], abs=0.002)


def test_the_gap_to_centralised_training_is_a_line_and_a_figure(
    scripted_run: Scripted, parse: Parse
) -> None:
    run = scripted_run(baseline=Baseline(0.99, 0.05, "all data"))
    assert run.summary is not None
    page = parse(report_html(run))
    gap = 100 * (0.99 - (run.summary.final_accuracy or 0))
    assert tile(page, "Gap to centralised") == [
        "Gap to centralised", f"{gap:.1f} points below", "0.9900 by all data",
    ]  # fmt: skip
    levels = [text(node) for node in with_class(page, "level", "baseline")]
    assert levels == ["centralised 0.99", "centralised 0.05"]


def test_without_a_baseline_nothing_is_drawn_or_claimed(
    scripted_run: Scripted, parse: Parse
) -> None:
    page = parse(report_html(scripted_run(baseline=None)))
    assert not list(with_class(page, "level", "baseline"))
    assert tile(page, "Gap to centralised")[1] == "-"


def test_a_rollback_is_a_band_over_the_steps_it_undid(scripted_run: Scripted, parse: Parse) -> None:
    figure = chart(parse(report_html(scripted_run())), "Accuracy")
    (stretch,) = with_class(figure, "band", "rollback")
    # After step 26 the model went back to that of step 23: steps 24, 25 and 26 were undone.
    assert stretch.get("x") == f"{100 * 23 / 60:.2f}%"
    assert float(stretch.get("width", "").rstrip("%")) == pytest.approx(100 * 3 / 60, abs=0.01)
    assert text(stretch) == "Rollback after step 26: 3 steps undone. the loss exploded"


def test_knobs_that_moved_are_charts_and_the_others_are_named(
    scripted_run: Scripted, parse: Parse
) -> None:
    page = parse(report_html(scripted_run()))
    section = next(node for node in page.iter("section") if node.get("id") == "knobs")
    titles = [text(strong) for strong in section.iter("strong")]
    assert titles == ["lr: local learning rate", "local_steps", "server"]
    assert "log axis" in text(chart(page, "lr: local learning rate"))
    assert "allowed 1e-05 to 30" in text(chart(page, "lr: local learning rate"))
    asked = list(with_class(chart(page, "lr: local learning rate"), "band", "asked"))
    assert [text(node) for node in asked] == [
        "health asks for lr of at most 0.2 (integrity): drift"
    ]
    assert "batch_size 16 examples" in text(section)


def test_bars_add_up_to_what_was_spent(scripted_run: Scripted, parse: Parse) -> None:
    run = scripted_run()
    figure = chart(parse(report_html(run)), "Bytes")
    up = [node for node in with_class(figure, "bar", "s1")]
    assert len(up) == 60
    # Step 1 includes the probe before it: 96,400 and 640 bytes from nodes.
    assert text(up[0]) == "Step 1: 97 kB from nodes"
    assert "11.8 MB in all" in text(figure)


def test_the_probe_shows_the_loss_at_every_rate(scripted_run: Scripted, parse: Parse) -> None:
    page = parse(report_html(scripted_run()))
    section = next(node for node in page.iter("section") if node.get("id") == "probe")
    dots = [text(dot) for dot in section.iter("circle")]
    assert len(dots) == 16
    assert dots[0] == "rate 0.001: loss 2.25"
    # Losses of the last probe are lowest at the fifth of eight rates, 1e-3 * 3000 ** (4 / 7).
    assert "best 0.097" in text(section)


@pytest.mark.parametrize(
    "observation",
    [
        {"probe_rates": [0.1], "probe_log_losses": []},
        {"probe_rates": [0.0, 1.0], "probe_log_losses": [1.0, 2.0]},
        {"probe_rates": None, "probe_log_losses": None},
        "nothing",
    ],
)
def test_a_record_without_a_whole_probe_draws_none(
    observation: object, scripted_run: Scripted
) -> None:
    record = {"kind": "decided", "tick": 1, "observations": {"learning_rate": observation}}
    assert 'id="probe"' not in report_html(scripted_run(journal=(record,)))


def test_no_text_of_a_run_becomes_markup(scripted_run: Scripted, make_record, parse: Parse) -> None:
    evil = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"
    decision = Decision(evil, evil, evil, evil, (Change(evil, 0.1, evil),), number=1)
    run = scripted_run(
        name=evil,
        config=evil,
        baseline=Baseline(0.9, 0.1, evil),
        notes=(evil,),
        steps=(
            make_record(1, branch=evil, knobs={evil: 0.1}, decisions=(decision,)),
            make_record(2, branch="b", knobs={evil: evil}, failures={evil: 1}, rejected={evil: 1}),
        ),
    )
    assert run.summary is not None
    run = replace(
        run,
        info=replace(run.info, task=evil, strategy=evil, absent={evil: evil}),
        summary=replace(run.summary, reason=evil, status="failed"),
    )
    page = parse(report_html(run))
    assert not list(page.iter("img"))
    assert len(list(page.iter("script"))) == 1
    assert not [n for node in page.iter() for n in node.attrib if n.startswith("on")]
    assert text(page).count(evil) >= 15


def test_the_page_asks_for_nothing(scripted_run: Scripted, parse: Parse) -> None:
    page = parse(report_html(scripted_run()))
    assert not [n for n in page.iter() if n.tag in ("link", "iframe", "img", "object")]
    targets = [v for n in page.iter() for k, v in n.attrib.items() if k in ("href", "src")]
    assert targets
    assert all(target.startswith("#") for target in targets)
    style = text(next(page.iter("style")))
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [n for n in page.iter("meta") if n.get("http-equiv")]
    assert policy.get("content", "").startswith("default-src 'none'")


def test_every_reference_has_its_target(scripted_run: Scripted, parse: Parse) -> None:
    page = parse(report_html(scripted_run(300)))
    ids = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    references = {v[1:] for n in page.iter() for k, v in n.attrib.items() if k == "href"}
    assert references <= set(ids)
    assert all(svg.get("aria-label") for svg in with_class(page, "plot"))


def test_a_long_run_stays_small_and_keeps_every_decision(
    scripted_run: Scripted, parse: Parse
) -> None:
    run = scripted_run(2000)
    written = report_html(run)
    assert len(written) < 3_000_000
    page = parse(written)
    assert len(list(with_class(page, "mark"))) == len(outcomes(run.steps)) > 1000
    assert len(list(with_class(chart(page, "Seconds"), "bar", "s1"))) <= 120
    longest = max(len(node.get("d", "")) for node in with_class(page, "curve"))
    assert longest < 30_000


def test_a_run_without_steps(scripted_run: Scripted, parse: Parse) -> None:
    page = parse(report_html(scripted_run(steps=(), summary=None, journal=(), baseline=None)))
    assert text(next(with_class(page, "status"))) == "cut off"
    absent = " ".join(text(node) for node in with_class(page, "absent"))
    assert "not evaluated" in absent
    assert "nothing was spent" in absent


def test_a_run_of_one_step(scripted_run: Scripted, make_record, parse: Parse) -> None:
    page = parse(report_html(scripted_run(steps=(make_record(1),))))
    (dot,) = with_class(chart(page, "Accuracy"), "dot")
    assert dot.get("cx") == "50%"


def test_a_run_without_accuracy(scripted_run: Scripted, make_record, parse: Parse) -> None:
    steps = tuple(make_record(step, metrics={}) for step in (1, 2, 3))
    run = scripted_run(steps=steps)
    assert run.summary is not None
    summary = replace(run.summary, final_accuracy=None, best_accuracy=None, final_loss=None)
    page = parse(report_html(replace(run, summary=summary)))
    assert tile(page, "Accuracy")[1:] == ["-", "not measured"]
    assert not [f for f in page.iter("figure") if text(next(f.iter("strong"))) == "Accuracy"]
    assert "nodes, before training" in text(chart(page, "Loss"))


def test_a_failed_run_says_why(scripted_run: Scripted, parse: Parse) -> None:
    run = scripted_run()
    assert run.summary is not None
    reason = "only 1 of 2 nodes answered within 60 s"
    failed = replace(run, summary=replace(run.summary, status="failed", reason=reason))
    page = parse(report_html(failed))
    assert [text(node) for node in with_class(page, "ended", "failed")] == [reason]


def test_losses_that_are_not_finite_are_marked(scripted_run: Scripted, make_record, parse: Parse):
    steps = (
        make_record(1),
        make_record(2, metrics={"loss": math.nan, "accuracy": 0.1}),
        make_record(3, metrics={}, train_loss=None),
        make_record(4),
    )
    figure = chart(parse(report_html(scripted_run(steps=steps))), "Loss")
    crosses = [text(node) for node in with_class(figure, "blown")]
    assert crosses == [f"✕Step {step}: the loss was not finite" for step in (2, 3)]


@pytest.mark.parametrize("accuracy", [0.0, 1.0, 95.0, -1.0])
def test_any_accuracy_can_be_drawn(
    accuracy: float, scripted_run: Scripted, make_record: Callable[..., StepRecord]
) -> None:
    steps = tuple(make_record(step, metrics={"accuracy": accuracy}) for step in (1, 2))
    assert "Accuracy" in report_html(scripted_run(steps=steps, baseline=None))


def test_branches_are_told_apart(scripted_run: Scripted, make_record, parse: Parse) -> None:
    steps = tuple(make_record(step, branch="main" if step % 2 else "trial") for step in range(1, 9))
    figure = chart(parse(report_html(scripted_run(steps=steps))), "Accuracy")
    assert len(list(with_class(figure, "curve"))) == 2
    assert "federation, main" in text(figure)
    assert "federation, trial" in text(figure)


def test_the_report_is_written_as_utf8(scripted_run: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(scripted_run(10), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>\n<html")


def test_the_text_names_result_and_notable_decisions(scripted_run: Scripted) -> None:
    run = scripted_run()
    lines = describe(run).splitlines()
    assert lines[0] == "20260102-030405-digits-s0: completed (all 60 rounds were done)"
    assert "  rounds     60 of 60" in lines
    assert any(line.startswith("  gap ") for line in lines)
    assert any("back to model version 23 (the loss exploded) -> " in line for line in lines)
    notable = [o for o in outcomes(run.steps) if not o.is_routine]
    assert sum(line.startswith("    step") for line in lines) == len(notable)
