"""What all charts over the steps share: the axis, series per branch, and rollbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from daafl.observability.events import StepRecord
from daafl.observability.report.plot import Curve, Point
from daafl.observability.report.scale import Scale
from daafl.observability.run import Run

MAX_BARS = 120  # on one chart; longer runs show the mean of several steps per bar


@dataclass(frozen=True)
class Rollback:
    """A return to an older model: the steps after ``kept`` up to ``step`` were undone."""

    step: int
    kept: int
    reason: str


def steps_axis(run: Run) -> Scale:
    """Return the axis that all charts over steps share, half a step wider at both ends."""
    numbers = [step.step for step in run.steps] or [1]
    return Scale(min(numbers) - 0.5, max(numbers) + 0.5)


def step_label(value: float) -> str:
    """Return the label of a step on the axis; nothing between two steps."""
    return f"{round(value):,}" if float(value).is_integer() else ""


def branch_curves(
    run: Run, label: str, style: str, points: Callable[[Sequence[StepRecord]], Iterable[Point]]
) -> list[Curve]:
    """Return one curve per branch of the run; the branch is named when there are several."""
    branches: dict[str, list[StepRecord]] = {}
    for step in run.rounds:
        branches.setdefault(step.branch, []).append(step)
    return [
        Curve(
            label if len(branches) == 1 else f"{label}, {branch}",
            tuple(points(steps)),
            f"{style} branch-{index % 4}",
        )
        for index, (branch, steps) in enumerate(branches.items())
    ]


def rollbacks(run: Run) -> tuple[Rollback, ...]:
    """Return every rollback of the run with the reason given for it."""
    found = []
    for index, step in enumerate(run.steps):
        if step.restored is None:
            continue
        earlier = [
            s.step
            for s in run.steps[:index]
            if s.branch == step.branch and s.kind == "train" and s.version <= step.restored
        ]
        kept = min(max(earlier, default=0), step.step - 1)
        reasons = [d.reason for d in step.decisions if d.restore is not None]
        found.append(Rollback(step.step, kept, "; ".join(reasons) or "no reason recorded"))
    return tuple(found)


def bins(run: Run) -> tuple[tuple[StepRecord, ...], ...]:
    """Return all steps, probes included, in at most `MAX_BARS` groups of equal width."""
    axis = steps_axis(run)
    width = -(-round(axis.high - axis.low) // MAX_BARS)
    groups: dict[int, list[StepRecord]] = {}
    for step in run.steps:
        groups.setdefault(int(step.step - axis.low) // width, []).append(step)
    return tuple(tuple(groups[key]) for key in sorted(groups))
