"""The figures of a run in one place, whether or not it got to write its summary."""

from __future__ import annotations

import math
from dataclasses import dataclass

from daafl.observability.outcomes import Outcome, outcomes
from daafl.observability.run import Run


@dataclass(frozen=True)
class Totals:
    """What a run came to.

    Parameters
    ----------
    rounds
        Training steps done.
    accuracy, loss
        Of the model at the end; ``None`` when never measured, or not finite.
    best_accuracy, best_step
        The best evaluation and the step after which it was made.
    wall_seconds, clock_s
        Real seconds, and seconds on the run's clock.
    bytes_up, bytes_down
        Payload from and to nodes, probes included.
    decisions
        Every decision with what came of it.
    rollbacks, alarms
        Returns to a restore point, and alarms raised.
    gap
        Baseline accuracy minus accuracy; ``None`` without either.
    """

    rounds: int
    accuracy: float | None
    loss: float | None
    best_accuracy: float | None
    best_step: int | None
    wall_seconds: float
    clock_s: float
    bytes_up: int
    bytes_down: int
    decisions: tuple[Outcome, ...]
    rollbacks: int
    alarms: int
    gap: float | None


def totals(run: Run) -> Totals:
    """Return the figures of a run; its summary wins where it says more than the steps."""
    accuracies = _measured(run, "accuracy")
    losses = _measured(run, "loss")
    best = max(accuracies, key=lambda pair: pair[1], default=None)
    decisions = outcomes(run.steps)
    summary = run.summary
    accuracy = _finite(summary.final_accuracy) if summary else _last(accuracies)
    baseline = run.baseline.accuracy if run.baseline else None
    clock_s = max((step.clock_s for step in run.steps), default=0.0)
    return Totals(
        rounds=len(run.rounds),
        accuracy=accuracy,
        loss=_finite(summary.final_loss) if summary else _last(losses),
        best_accuracy=summary.best_accuracy if summary else best[1] if best else None,
        best_step=best[0] if best else None,
        wall_seconds=summary.seconds if summary else sum(s.wall_seconds for s in run.steps),
        clock_s=clock_s,
        bytes_up=sum(step.bytes_up for step in run.steps),
        bytes_down=sum(step.bytes_down for step in run.steps),
        decisions=decisions,
        rollbacks=sum(step.restored is not None for step in run.steps),
        alarms=sum(outcome.kind == "alert" for outcome in decisions),
        gap=baseline - accuracy if baseline is not None and accuracy is not None else None,
    )


def _measured(run: Run, metric: str) -> list[tuple[int, float]]:
    values = [(step.step, step.metrics.get(metric, math.nan)) for step in run.rounds]
    return [(step, value) for step, value in values if math.isfinite(value)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _last(values: list[tuple[int, float]]) -> float | None:
    return values[-1][1] if values else None
