"""How a run ended, in a few lines of text."""

from __future__ import annotations

from pathlib import Path

from daafl.observability.events import RunSummary
from daafl.observability.remarks import nodes_text
from daafl.observability.units import duration, number, plural, share, size


def final_lines(summary: RunSummary, report: Path | None = None) -> list[str]:
    """Return the result, what it cost, how often the loops acted, and where the report is."""
    # Why a run failed is what its exception says, which whoever started the run prints.
    is_told = summary.status == "failed" or not summary.reason
    reason = "" if is_told else f": {summary.reason}"
    seconds = duration(summary.seconds)
    if summary.virtual_seconds is not None:
        seconds += f" ({duration(summary.virtual_seconds)} simulated)"
    lines = [
        f"{summary.status}{reason}",
        f"  {_measured(summary)} after {plural(summary.rounds, 'round')} in {seconds}",
        f"  {size(summary.bytes_up)} from nodes, {size(summary.bytes_down)} to nodes; "
        f"{plural(summary.decisions, 'decision')}, {plural(summary.rollbacks, 'rollback')}, "
        f"{plural(summary.alarms, 'alarm')}",
    ]
    if summary.flagged_nodes:
        lines.append(f"  suspected: {nodes_text(summary.flagged_nodes)}")
    if summary.epsilon is not None:
        lines.append(f"  privacy spent: epsilon {summary.epsilon:.3g}, delta {summary.delta}")
    if report is not None:
        lines.append(f"  report: {report}")
    return lines


def _measured(summary: RunSummary) -> str:
    if summary.best_accuracy is not None:
        return f"accuracy {share(summary.final_accuracy)}, best {share(summary.best_accuracy)}"
    if summary.final_loss is not None:
        return f"loss {number(summary.final_loss, 4)}"
    return "accuracy not measured"
