"""Loss and accuracy over the steps, with every decision and rollback on the time axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from xml.etree.ElementTree import Element

from daafl.observability.events import StepRecord
from daafl.observability.interventions import interventions
from daafl.observability.outcomes import Outcome
from daafl.observability.report.lanes import lanes
from daafl.observability.report.markup import Child, element
from daafl.observability.report.plot import (
    Curve,
    Plot,
    Point,
    axes,
    band,
    canvas,
    curves,
    figure,
    level,
    upright,
)
from daafl.observability.report.scale import Scale, scale_over
from daafl.observability.report.timeline import branch_curves, rollbacks, step_label, steps_axis
from daafl.observability.run import Run
from daafl.observability.units import number, plural, share

_MAX_BLOWN = 40  # markers for losses that are not finite
_MAX_OTHERS = 4  # charts of figures that a task measures of its own
_MAX_NOTABLE = 60  # vertical lines; more would hide the curves


def learning_section(run: Run, decisions: Sequence[Outcome]) -> Element:
    """Return the section that shows how well the federation learned, and who steered when."""
    return element(
        "section",
        element("h2", "Learning and decisions"),
        element(
            "div",
            _accuracy(run, decisions),
            *_others(run, decisions),
            _loss(run, decisions),
            lanes(run, decisions),
            class_="stack",
        ),
        id="learning",
    )


def rollback_bands(run: Run, plot: Plot) -> list[Element]:
    """Return a band over the steps that each rollback undid."""
    return [
        band(
            plot,
            back.kept + 0.5,
            back.step + 0.5,
            f"Rollback after step {back.step}: "
            f"{plural(back.step - back.kept, 'step')} undone. {back.reason}",
            "rollback",
        )
        for back in rollbacks(run)
    ]


def intervention_lines(run: Run, plot: Plot) -> list[Element]:
    """Return a line at every step before which somebody set a knob by hand."""
    return [upright(plot, found.step - 0.5, "by-hand") for found in interventions(run)]


def _accuracy(run: Run, decisions: Sequence[Outcome]) -> Element | None:
    series = branch_curves(run, "federation", "s1", lambda steps: _metric(steps, "accuracy"))
    if not _has_values(series) and _other_names(run):
        return None
    if not _has_values(series):
        return element(
            "p", "No accuracy: the model was not evaluated on labelled data.", class_="absent"
        )
    baseline = run.baseline.accuracy if run.baseline else None
    shown = [v for v in [*_values(series), baseline] if v is not None and math.isfinite(v)]
    scale = scale_over(shown, is_log=False)
    # The room around the values must not suggest accuracies that cannot be.
    low = max(scale.low, 0.0) if min(shown) >= 0 else scale.low
    high = min(scale.high, 1.0) if max(shown) <= 1 else scale.high
    plot = Plot(steps_axis(run), Scale(low, high))
    best = max(v for v in _values(series) if math.isfinite(v))
    return _chart(
        run,
        decisions,
        plot,
        series,
        title="Accuracy",
        note="of the model after each step; higher is better",
        description=f"Accuracy over the steps; the best is {share(best)}.",
        baseline=baseline,
    )


def _others(run: Run, decisions: Sequence[Outcome]) -> list[Element]:
    """Return a chart for every figure that a task measures besides loss and accuracy."""
    charts = []
    for name in _other_names(run):
        series = branch_curves(run, "federation", "s1", partial(_metric, name=name))
        if not _has_values(series):
            continue
        plot = Plot(steps_axis(run), scale_over(_values(series), is_log=False))
        last = [value for value in _values(series) if math.isfinite(value)][-1]
        charts.append(
            _chart(
                run,
                decisions,
                plot,
                series,
                title=name.replace("_", " "),
                note="of the model after each step",
                description=f"{name} over the steps; the last is {number(last, 4)}.",
            )
        )
    return charts


def _other_names(run: Run) -> list[str]:
    names = dict.fromkeys(name for step in run.rounds for name in step.metrics)
    return [name for name in names if name not in ("loss", "accuracy")][:_MAX_OTHERS]


def _loss(run: Run, decisions: Sequence[Outcome]) -> Element:
    reported = branch_curves(
        run, "nodes, before training", "s2", lambda steps: ((s.step, s.train_loss) for s in steps)
    )
    measured = branch_curves(
        run, "evaluation, after the step", "s1", lambda steps: _metric(steps, "loss")
    )
    series = [curve for curve in (*reported, *measured) if _has_values([curve])]
    # Where nobody ever reports a loss, as under differential privacy, nothing has blown up.
    blown = [s.step for s in run.rounds if _is_blown(s)] if _has_values(reported) else []
    if not series:
        return element("p", "No loss: no node reported a finite one.", class_="absent")
    baseline = run.baseline.loss if run.baseline else None
    values = [*_values(series), baseline]
    plot = Plot(steps_axis(run), scale_over(values))
    crosses = [
        element("text", "✕", element("title", f"Step {step}: the loss was not finite"),
                x=plot.left(step), y=14, class_="blown")
        for step in blown[:_MAX_BLOWN]
    ]  # fmt: skip
    note = ", log axis" if plot.y.is_log else ""
    if blown:
        note += f"; ✕ marks {plural(len(blown), 'step')} without a finite loss"
    return _chart(
        run,
        decisions,
        plot,
        series,
        title="Loss",
        note="lower is better" + note,
        description=f"Loss over the steps, from {number(_values(series)[0])}.",
        baseline=baseline,
        extra=crosses,
    )


def _chart(
    run: Run,
    decisions: Sequence[Outcome],
    plot: Plot,
    series: Sequence[Curve],
    *,
    title: str,
    note: str,
    description: str,
    baseline: float | None = None,
    extra: Iterable[Child] = (),
) -> Element:
    line = (
        level(plot, baseline, f"centralised {number(baseline)}", "baseline", is_left=True)
        if baseline is not None
        else None
    )
    legend = [(curve.label, curve.style) for curve in series]
    legend += [("rollback", "rollback")] if rollbacks(run) else []
    legend += [("set by hand", "by-hand")] if interventions(run) else []
    return figure(
        title,
        note,
        legend,
        canvas(
            plot,
            description,
            *rollback_bands(run, plot),
            axes(plot, number, step_label),
            *_notable(plot, decisions),
            *intervention_lines(run, plot),
            line,
            curves(plot, series),
            *extra,
        ),
    )


def _notable(plot: Plot, decisions: Sequence[Outcome]) -> list[Element]:
    """Return a fine line for every decision that was more than a harmless adjustment."""
    chosen = [outcome for outcome in decisions if not outcome.is_routine]
    if len(chosen) > _MAX_NOTABLE:
        chosen = [outcome for outcome in chosen if outcome.kind in ("restore", "alert")]
    return [
        upright(plot, outcome.step, f"notable {outcome.kind} {outcome.result}")
        for outcome in chosen[:_MAX_NOTABLE]
    ]


def _metric(steps: Sequence[StepRecord], name: str) -> Iterator[Point]:
    return ((step.step, step.metrics[name]) for step in steps if name in step.metrics)


def _is_blown(step: StepRecord) -> bool:
    loss = step.metrics.get("loss", 0.0)
    nobody_finite = step.train_loss is None and step.num_updates > 0
    return nobody_finite or not math.isfinite(loss)


def _values(series: Iterable[Curve]) -> list[float]:
    return [value for curve in series for _, value in curve.points if value is not None]


def _has_values(series: Iterable[Curve]) -> bool:
    return any(math.isfinite(value) for value in _values(series))
