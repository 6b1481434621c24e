"""Knobs over the steps, with their bounds and what other loops asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from daafl.autonomy.plan import Knob, Value
from daafl.autonomy.records import Request
from daafl.observability.events import StepRecord
from daafl.observability.report.learning import intervention_lines, rollback_bands
from daafl.observability.report.markup import Child, element
from daafl.observability.report.plot import (
    Plot,
    axes,
    band,
    canvas,
    curves,
    figure,
    level,
    ticks_x,
)
from daafl.observability.report.probes import Probe
from daafl.observability.report.scale import scale_over
from daafl.observability.report.timeline import branch_curves, step_label, steps_axis
from daafl.observability.run import Run
from daafl.observability.units import number, value_text

_HEIGHT = 130
_STRIP_HEIGHT = 30


def knobs_section(run: Run, probes: Sequence[Probe]) -> Element:
    """Return the charts of all knobs that moved, and the values of those that did not."""
    names = list(dict.fromkeys(name for step in run.rounds for name in step.knobs))
    moved = [name for name in names if len(set(_held(run.rounds, name))) > 1]
    declared = {knob.name: knob for knob in run.info.knobs}
    charts = [_chart(run, name, declared.get(name), probes) for name in moved]
    still = [name for name in names if name not in moved]
    return element(
        "section",
        element("h2", "Knobs"),
        element("div", *charts, class_="pair") if charts else None,
        _unmoved(run, still, declared) if still else None,
        element("p", "No step ran, so no knob was used.", class_="absent") if not names else None,
        id="knobs",
    )


def _chart(run: Run, name: str, knob: Knob | None, probes: Sequence[Probe]) -> Element:
    values = _held(run.rounds, name)
    if any(isinstance(value, str | bool) for value in values):
        return _strip(run, name, knob, values)
    series = [
        replace(curve, is_step=True)
        for curve in branch_curves(run, name, "s1", lambda steps: _numbers(steps, name))
    ]
    cap = probes[-1].best_rate if probes and name == "lr" else None
    numbers = [value for _, value in _numbers(run.rounds, name)]
    plot = Plot(steps_axis(run), scale_over([*numbers, cap]), height=_HEIGHT)
    bounds = [(knob.low, "lower bound"), (knob.high, "upper bound")] if knob else []
    visible: list[Child] = [
        level(plot, bound, f"{words} {number(bound)}", "bound")
        for bound, words in bounds
        # A bound far outside would flatten the curve; the note names it anyway.
        if bound is not None and plot.y.low <= bound <= plot.y.high
    ]
    if cap is not None:
        visible.append(level(plot, cap, f"best probed rate {number(cap)}", "cap"))
    legend = [(curve.label, curve.style) for curve in series] if len(series) > 1 else []
    asked = _asked(run, name, plot)
    return figure(
        _title(name, knob),
        _note(knob) + (", log axis" if plot.y.is_log else ""),
        [*legend, *([("bounds asked by other loops", "asked")] if asked else [])],
        canvas(
            plot,
            f"{name} over the steps, from {number(numbers[0])} to {number(numbers[-1])}.",
            *rollback_bands(run, plot),
            *intervention_lines(run, plot),
            *asked,
            axes(plot, number, step_label),
            *visible,
            curves(plot, series),
        ),
    )


def _strip(run: Run, name: str, knob: Knob | None, values: Sequence[Value]) -> Element:
    """Return a knob without numbers as one coloured stretch per value it held."""
    styles = {value: f"choice-{i % 6}" for i, value in enumerate(dict.fromkeys(values))}
    plot = Plot(steps_axis(run), scale_over([0.0, 1.0]), height=_STRIP_HEIGHT)
    stretches: list[Child] = []
    start = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[start]:
            first, last = run.rounds[start].step, run.rounds[end - 1].step
            title = f"{value_text(values[start])}: steps {first} to {last}"
            stretches.append(band(plot, first - 0.5, last + 0.5, title, styles[values[start]]))
            start = end
    legend = [(value_text(value), f"patch {style}") for value, style in styles.items()]
    description = f"{name} over the steps, at last {value_text(values[-1])}."
    return figure(
        _title(name, knob),
        _note(knob),
        legend,
        canvas(plot, description, *stretches, ticks_x(plot, step_label)),
    )


def _asked(run: Run, name: str, plot: Plot) -> list[Element]:
    """Return a band for every request about the knob, as long as it held."""
    return [
        band(
            plot,
            step.step + 0.5,
            step.step + request.ticks + 0.5,
            f"{request.by} asks for {_range(request)} ({request.level}): {request.reason}",
            "asked",
        )
        for step in run.steps
        for decision in step.decisions
        for request in decision.requests
        if request.knob == name
    ]


def _range(request: Request) -> str:
    low, high = request.low, request.high
    if low is not None and high is not None:
        return f"{request.knob} between {number(low)} and {number(high)}"
    if low is not None:
        return f"{request.knob} of at least {number(low)}"
    return f"{request.knob} of at most {number(high)}"


_NEVER_S = 1e9


def _unmoved(run: Run, names: Iterable[str], declared: dict[str, Knob]) -> Element:
    items = []
    for name in names:
        knob = declared.get(name)
        unit = f" {knob.unit}" if knob and knob.unit not in ("", "1") else ""
        value = run.rounds[-1].knobs[name]
        # A number of seconds this large is how a plan spells "never".
        text = "none" if knob and knob.unit == "s" and value == _NEVER_S else value_text(value)
        suffix = "" if text == "none" else unit
        items.append(element("span", element("b", name), f" {text}{suffix}", class_="fact"))
    return element("p", element("span", "Never moved: ", class_="note"), *items, class_="facts")


def _held(steps: Iterable[StepRecord], name: str) -> list[Value]:
    return [step.knobs[name] for step in steps if name in step.knobs]


def _numbers(steps: Iterable[StepRecord], name: str) -> list[tuple[float, float]]:
    return [(step.step, float(step.knobs[name])) for step in steps if name in step.knobs]


def _title(name: str, knob: Knob | None) -> str:
    return f"{name}: {knob.description}" if knob and knob.description else name


def _note(knob: Knob | None) -> str:
    if knob is None:
        return ""
    parts = [f"in {knob.unit}"] if knob.unit not in ("", "1") else []
    if knob.low is not None or knob.high is not None:
        parts.append(f"allowed {_end(knob.low)} to {_end(knob.high)}")
    return ", ".join([*parts, f"turned by {knob.owner.replace('_', ' ')}"])


def _end(bound: float | None) -> str:
    return "any" if bound is None else number(bound)
