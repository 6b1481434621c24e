"""How a run ended, in a few lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Final

from daafl.observability.events import RunSummary
from daafl.observability.remarks import nodes_text
from daafl.observability.units import duration, number, plural, share, size

_WIDTH: Final = 100


def final_lines(
    summary: RunSummary, report: Path | None = None, guarantees: Sequence[str] = ()
) -> list[str]:
    """Return the result, what it cost, what was protected, and where the report is."""
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
        lines.append(f"  privacy spent: {_spent(summary)}")
    for guarantee in guarantees:
        lines += wrap(guarantee, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    if report is not None:
        lines.append(f"  report: {report}")
    return lines


def _spent(summary: RunSummary) -> str:
    text = f"epsilon {summary.epsilon:.3g}, delta {summary.delta}"
    spent = summary.privacy
    if spent is None or spent.accounts < 2:
        return text
    text += f" at most, epsilon {spent.epsilon_median:.3g} in the median of {spent.accounts} nodes"
    return text + (f"; {spent.nodes_spent_out} spent out" if spent.nodes_spent_out else "")


def _measured(summary: RunSummary) -> str:
    if summary.best_accuracy is not None:
        return f"accuracy {share(summary.final_accuracy)}, best {share(summary.best_accuracy)}"
    if summary.final_loss is not None:
        return f"loss {number(summary.final_loss, 4)}"
    return "accuracy not measured"
