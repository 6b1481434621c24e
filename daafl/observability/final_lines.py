"""How a run ended, in a few lines of text."""

from __future__ import annotations

from pathlib import Path

from daafl.observability.events import RunSummary
from daafl.observability.units import duration, plural, share, size


def final_lines(summary: RunSummary, report: Path | None = None) -> list[str]:
    """Return the result, what it cost, how often the loops acted, and where the report is."""
    reason = f": {summary.reason}" if summary.reason else ""
    measured = (
        f"accuracy {share(summary.final_accuracy)}, best {share(summary.best_accuracy)}"
        if summary.best_accuracy is not None
        else "accuracy not measured"
    )
    seconds = duration(summary.seconds)
    if summary.virtual_seconds is not None:
        seconds += f" ({duration(summary.virtual_seconds)} simulated)"
    lines = [
        f"{summary.status}{reason}",
        f"  {measured} after {plural(summary.rounds, 'round')} in {seconds}",
        f"  {size(summary.bytes_up)} from nodes, {size(summary.bytes_down)} to nodes; "
        f"{plural(summary.decisions, 'decision')}, {plural(summary.rollbacks, 'rollback')}, "
        f"{plural(summary.alarms, 'alarm')}",
    ]
    if summary.epsilon is not None:
        lines.append(f"  privacy spent: epsilon {summary.epsilon:.3g}, delta {summary.delta}")
    if report is not None:
        lines.append(f"  report: {report}")
    return lines
