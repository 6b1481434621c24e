"""A display in the terminal that redraws itself after every step.

It has no thread and redirects no stream: the simulation forks worker processes, and a lock that
another thread holds during a fork would never be released in the child.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daafl.autonomy.records import Decision, Insight
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.observability.final_lines import final_lines
from daafl.observability.outcomes import action_text
from daafl.observability.plain import headline, metric_of, metric_text, shown_loss
from daafl.observability.remarks import Remarks, nodes_text
from daafl.observability.units import duration, number, plural, size

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 40
_RECENT = 20  # steps whose mean duration predicts the time left
_REDRAW_S = 0.25  # of run time between two redraws
_VERDICT_STYLES = {"better": "bold blue", "confirmed": "dim", "worse": "bold dark_orange"}


class Seen:
    """What the display remembers of the steps so far."""

    def __init__(self) -> None:
        self.last: StepRecord | None = None
        self.round = 0
        self.elapsed_s = 0.0
        self.num_bytes = 0
        self.lost = 0
        self.decisions = 0
        self.rollbacks = 0
        self.alarms: list[str] = []
        self.decision: Decision | None = None
        self.insight: Insight | None = None
        self.metric = "accuracy"
        self.remark = ""
        self.remarks = Remarks()
        self.loss: list[float | None] = []
        self.accuracy: list[float | None] = []
        self.lr: list[float | None] = []
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def add(self, record: StepRecord) -> None:
        """Take one step in."""
        self.elapsed_s += record.wall_seconds
        self.num_bytes += record.bytes_up + record.bytes_down
        self.lost += sum(record.rejected.values()) + sum(record.failures.values())
        self.decisions += len(record.decisions)
        self.rollbacks += record.restored is not None
        for decision in record.decisions:
            self.decision = decision
            if decision.action == "alert":
                self.alarms.append(f"step {record.step}: {decision.reason}")
        for insight in record.insights:
            self.insight = insight
        for remark in self.remarks.of(record):
            self.remark = f"step {record.step}: {remark}"
        if record.kind == "train":
            self.last, self.round = record, record.step
            metric = metric_of(record, self.metric)
            if metric != self.metric:
                self.metric, self.accuracy = metric, [None] * len(self.accuracy)
            self.loss.append(shown_loss(record))
            self.accuracy.append(record.metrics.get(self.metric))
            lr = record.knobs.get("lr")
            self.lr.append(float(lr) if isinstance(lr, int | float) else None)
            self._recent.append(record.wall_seconds)

    def left_s(self, num_rounds: int) -> float | None:
        """Return the seconds that the remaining rounds will take at the recent pace."""
        if not self._recent:
            return None
        mean = sum(self._recent) / len(self._recent)
        return mean * max(num_rounds - self.round, 0)


class LiveProgress:
    """Observer that keeps one screen up to date.

    Parameters
    ----------
    output
        A terminal.
    report
        Where the report will be.
    console
        Console to draw on instead of one made for ``output``.
    """

    def __init__(
        self, output: TextIO, *, report: Path | None = None, console: Console | None = None
    ) -> None:
        self._console = console or Console(file=output, highlight=False)
        self._report = report
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._info: RunInfo | None = None
        self._seen = Seen()
        self._undrawn_s = 0.0

    def started(self, info: RunInfo) -> None:
        """Show the header and an empty bar."""
        self._info = info
        self._live.start()
        self._draw()

    def stepped(self, record: StepRecord) -> None:
        """Take the step in, and redraw unless the last drawing is fresh."""
        self._seen.add(record)
        self._undrawn_s += record.wall_seconds
        if self._undrawn_s >= _REDRAW_S:
            self._draw()

    def finished(self, summary: RunSummary) -> None:
        """Replace the display with how the run ended."""
        self._draw()
        self._live.stop()
        color = {"completed": "green", "failed": "dark_orange", "stopped": "blue"}[summary.status]
        guarantees = self._info.guarantees if self._info is not None else ()
        first, *rest = final_lines(summary, self._report, guarantees)
        lines = Text(first, style=f"bold {color}")
        lines.append("\n" + "\n".join(rest), style="not bold default")
        if self._info is not None:
            self._console.print(Text(headline(self._info), style="bold"))
            self._console.print(_curves(self._seen))
        self._console.print(lines)

    def _draw(self) -> None:
        self._undrawn_s = 0.0
        if self._info is not None:
            self._live.update(screen(self._info, self._seen), refresh=True)


def screen(info: RunInfo, seen: Seen) -> Panel:
    """Return everything the display shows."""
    left = seen.left_s(info.num_rounds)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        Text(f"round {seen.round}/{info.num_rounds}", style="bold"),
        ProgressBar(total=max(info.num_rounds, 1), completed=seen.round, width=_CURVE_WIDTH),
        Text(duration(round(seen.elapsed_s, 1))),
        Text(f"{duration(round(left, 1))} left" if left is not None else "", style="dim"),
    )
    return Panel(
        Group(bar, Text(), _curves(seen), Text(), _events(seen)),
        title=Text(headline(info)),
        title_align="left",
        border_style="dim",
    )


def sparkline(values: Sequence[float | None], width: int = _CURVE_WIDTH) -> str:
    """Return the values as blocks from lowest to highest, at most ``width`` wide.

    Longer series show the mean of each stretch; a stretch without a finite value is a blank.

    >>> sparkline([0.0, 0.5, 1.0, None, 1.0])
    '▁▅█ █'
    """
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    means = [_mean(values[a:b]) for a, b in pairwise(edges)]
    finite = [mean for mean in means if mean is not None]
    if not finite:
        return " " * count
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(
        " " if mean is None else _BLOCKS[math.floor((mean - low) / span * top + 0.5)]
        for mean in means
    )


def _curves(seen: Seen) -> Table:
    """Return loss, accuracy and learning rate with their small curves."""
    table = Table.grid(padding=(0, 2))
    if seen.last is None:
        return table
    logs = [math.log(v) if v is not None and v > 0 else None for v in seen.loss]
    rates = [math.log(v) if v is not None and v > 0 else None for v in seen.lr]
    rows = [
        ("loss", number(seen.loss[-1], 4), logs, "dark_orange"),
        (seen.metric, metric_text(seen.metric, seen.accuracy[-1]), seen.accuracy, "blue"),
        ("lr", number(seen.lr[-1]), rates, "magenta"),
    ]
    for name, value, values, color in rows:
        table.add_row(Text(name, style="dim"), Text(value), Text(sparkline(values), style=color))
    return table


def _events(seen: Seen) -> Table:
    """Return what the loops did and what the network took."""
    table = Table.grid(padding=(0, 2))
    traffic = f"{size(seen.num_bytes)}; {plural(seen.lost, 'message')} lost or refused"
    acts = f"{plural(seen.decisions, 'decision')}, {plural(seen.rollbacks, 'rollback')}"
    table.add_row(Text("network", style="dim"), Text(traffic))
    table.add_row(Text("loops", style="dim"), Text(acts))
    if seen.remark:
        suspects = seen.remarks.suspects
        what = Text(f"suspected: {nodes_text(suspects)}" if suspects else "nobody suspected")
        what.append(f"\n{seen.remark}", style="dim")
        table.add_row(Text("nodes", style="dim"), what)
    if seen.decision is not None:
        decided = Text(f"{seen.decision.loop}: {action_text(seen.decision)}", style="bold")
        decided.append(f"\n{seen.decision.reason}", style="not bold dim")
        table.add_row(Text("decided", style="dim"), decided)
    if seen.insight is not None:
        style = _VERDICT_STYLES[seen.insight.verdict]
        came = Text(f"{seen.insight.verdict}: ", style=style)
        came.append(seen.insight.sentence, style="not bold default")
        table.add_row(Text("came out", style="dim"), came)
    if seen.alarms:
        alarm = Text(f"{len(seen.alarms)}, last {seen.alarms[-1]}", style="bold dark_orange")
        table.add_row(Text("alarms", style="dim"), alarm)
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
