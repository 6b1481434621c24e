"""What every step took: seconds, bytes, and the updates that came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from daafl.observability.events import StepRecord
from daafl.observability.report.markup import Child, element
from daafl.observability.report.plot import Plot, axes, bar, canvas, figure
from daafl.observability.report.scale import scale_over
from daafl.observability.report.timeline import bins, step_label, steps_axis
from daafl.observability.run import Run
from daafl.observability.units import duration, number, size

_HEIGHT = 130


@dataclass(frozen=True)
class _Part:
    """One layer of stacked bars: a name, a style, and its amount in one step."""

    label: str
    style: str
    amount: Callable[[StepRecord], float]


_SECONDS = (
    _Part("training", "s1", lambda s: s.seconds if s.kind == "train" else 0.0),
    _Part("probe", "s4", lambda s: s.seconds if s.kind == "probe" else 0.0),
)
_BYTES = (
    _Part("from nodes", "s1", lambda s: s.bytes_up),
    _Part("to nodes", "s3", lambda s: s.bytes_down),
)
_UPDATES = (
    _Part("combined", "s1", lambda s: s.num_updates),
    _Part("rejected", "s5", lambda s: sum(s.rejected.values())),
    _Part("failed", "s2", lambda s: sum(s.failures.values())),
)


def cost_section(run: Run) -> Element:
    """Return the bars of seconds, bytes and updates per step."""
    if not run.steps:
        return element(
            "section",
            element("h2", "Cost per step"),
            element("p", "No step ran, so nothing was spent.", class_="absent"),
            id="cost",
        )
    return element(
        "section",
        element("h2", "Cost per step"),
        element(
            "div",
            _stack(run, "Seconds", _SECONDS, duration),
            _stack(run, "Bytes", _BYTES, size),
            _stack(run, "Updates", _UPDATES, number),
            class_="triple",
        ),
        id="cost",
    )


def _stack(run: Run, title: str, parts: Sequence[_Part], label: Callable[[float], str]) -> Element:
    groups = bins(run)
    widest = max(len({step.step for step in group}) for group in groups)
    used = [part for part in parts if any(part.amount(step) for step in run.steps)] or parts[:1]
    heights = [[_mean(group, part) for part in used] for group in groups]
    highest = max(sum(column) for column in heights)
    plot = Plot(steps_axis(run), scale_over([0.0, highest or 1.0], low=0.0), height=_HEIGHT)
    bars: list[Child] = []
    for group, column in zip(groups, heights, strict=True):
        span = (group[0].step - 0.42, group[-1].step + 0.42)
        where = f"Step {group[0].step}"
        where += f" to {group[-1].step}, mean" if group[-1].step > group[0].step else ""
        base = 0.0
        for part, amount in zip(used, column, strict=True):
            if amount > 0:
                text = f"{where}: {label(amount)} {part.label}"
                bars.append(bar(plot, span, (base, base + amount), text, part.style))
            base += amount
    total = sum(part.amount(step) for part in used for step in run.steps)
    note = f"{label(total)} in all" + (f"; mean of {widest} steps per bar" if widest > 1 else "")
    return figure(
        title,
        note,
        [(part.label, f"patch {part.style}") for part in used] if len(used) > 1 else [],
        canvas(
            plot,
            f"{title} per step, {label(total)} in all.",
            axes(plot, label, step_label, about_y=3, about_x=4),
            *bars,
        ),
    )


def _mean(group: Sequence[StepRecord], part: _Part) -> float:
    """Return the amount per step number; a probe belongs to the step it precedes."""
    return sum(part.amount(step) for step in group) / len({step.step for step in group})
