"""One line per round, for files and logs."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from daafl.autonomy.records import Decision, Insight
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.observability.final_lines import final_lines
from daafl.observability.outcomes import action_text
from daafl.observability.remarks import Remarks
from daafl.observability.units import duration, number, plural, share, size, value_text

_METRIC = "accuracy"
_METRIC_WIDTH = 10
_INDENT = " " * 8


class PlainProgress:
    """Observer that prints lines in columns that never move; flushed, so that logs are current."""

    def __init__(self, output: TextIO, *, report: Path | None = None) -> None:
        self._output, self._report = output, report
        self._num_rounds = 0
        self._guarantees: tuple[str, ...] = ()
        self._metric = _METRIC
        self._remarks = Remarks()

    def started(self, info: RunInfo) -> None:
        """Print what runs, and the names of the columns."""
        self._num_rounds, self._guarantees = info.num_rounds, info.guarantees
        self._print(headline(info))
        for name, why in info.absent.items():
            self._print(f"without {name}: {why}")
        self._print_heads()

    def stepped(self, record: StepRecord) -> None:
        """Print the step, then each decision and each judgement that matters."""
        metric = metric_of(record, self._metric)
        if metric != self._metric:
            self._metric = metric
            self._print_heads()
        self._print(self._row(record))
        for remark in self._remarks.of(record):
            self._print(f"{_INDENT}{remark}")
        for decision in record.decisions:
            self._print(f"{_INDENT}{decision_line(decision)}")
        for insight in record.insights:
            if insight.verdict != "confirmed":
                self._print(f"{_INDENT}{insight_line(insight)}")
        if record.restored is not None:
            self._print(f"{_INDENT}the model went back to version {record.restored}")

    def finished(self, summary: RunSummary) -> None:
        """Print how the run ended."""
        self._print("\n".join(final_lines(summary, self._report, self._guarantees)))

    @property
    def _round_width(self) -> int:
        return max(2 * len(str(self._num_rounds)) + 2, 8)

    def _print_heads(self) -> None:
        name = self._metric[: _METRIC_WIDTH - 1]
        self._print(
            f"{'round':>{self._round_width}}{'loss':>12}{name:>{_METRIC_WIDTH}}"
            f"{'lr':>10}{'updates':>9}{'lost':>6}{'time':>11}{'bytes':>10}"
        )

    def _row(self, record: StepRecord) -> str:
        place = f"{record.step}/{self._num_rounds}" if record.kind == "train" else "probe"
        lost = sum(record.rejected.values()) + sum(record.failures.values())
        return (
            f"{place:>{self._round_width}}"
            f"{number(shown_loss(record), 4):>12}"
            f"{metric_text(self._metric, record.metrics.get(self._metric)):>{_METRIC_WIDTH}}"
            f"{value_text(record.knobs.get('lr', '-')):>10}"
            f"{record.num_updates:>9}"
            f"{lost:>6}"
            f"{duration(record.seconds):>11}"
            f"{size(record.bytes_up + record.bytes_down):>10}"
        )

    def _print(self, line: str) -> None:
        # A log that only takes ASCII must not end the run at the first arrow.
        encoding = getattr(self._output, "encoding", None) or "utf-8"
        printable = line.encode(encoding, "replace").decode(encoding)
        print(printable, file=self._output, flush=True)


def headline(info: RunInfo) -> str:
    """Return the task, nodes, strategy, size and seed of a run in one line."""
    return (
        f"{info.task}: {plural(info.num_nodes, 'node')}, {info.strategy}, "
        f"{plural(info.num_parameters, 'parameter')}, {plural(info.num_rounds, 'round')}, "
        f"seed {info.seed}"
        + ("" if info.resumed_after is None else f", resumed after round {info.resumed_after}")
    )


def metric_of(record: StepRecord, shown: str) -> str:
    """Return the metric to show beside the loss: another one than so far if that is not measured.

    A task without classes has no accuracy, but perhaps a figure of its own.
    """
    others = [name for name in record.metrics if name != "loss"]
    return others[0] if others and shown not in record.metrics else shown


def metric_text(name: str, value: float | None) -> str:
    """Return a metric's value; of accuracies always with four decimals, so that they line up."""
    return share(value) if name == _METRIC else number(value, 4)


def shown_loss(record: StepRecord) -> float | None:
    """Return the evaluated loss, or what the nodes reported when there was no evaluation."""
    return record.metrics.get("loss", record.train_loss)


def decision_line(decision: Decision) -> str:
    """Return a decision and why in one line."""
    return f"{decision.loop} {action_text(decision)} ({decision.reason})"


def insight_line(insight: Insight) -> str:
    """Return what became of a decision in one line."""
    return f"{insight.loop} #{insight.decision} came out {insight.verdict}: {insight.sentence}"
