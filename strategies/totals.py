"""The sums over a run's steps that end up in its summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from daafl.observability.events import RunInfo, RunSummary, Status, StepRecord

MAX_EVALUATED: Final = 16  # evaluations that are remembered in case the model goes back to one


@dataclass(frozen=True)
class TotalsState:
    """The sums so far, as `Totals` keeps them; ``evaluated`` is oldest first."""

    rounds: int
    decisions: int
    rollbacks: int
    alarms: int
    bytes_up: int
    bytes_down: int
    clock_s: float
    best_accuracy: float | None
    figures: Mapping[str, float]
    evaluated: tuple[tuple[int, Mapping[str, float]], ...]
    suspects: tuple[int, ...] = ()


class Totals:
    """Adds up a run's steps; an `Observer`.

    Parameters
    ----------
    version
        Version of daafl, for the summary.
    is_virtual
        Whether the run's clock is virtual.
    """

    def __init__(self, *, version: str, is_virtual: bool) -> None:
        self._version = version
        self._is_virtual = is_virtual
        self._rounds = self._decisions = self._rollbacks = self._alarms = 0
        self._bytes_up = self._bytes_down = self._nodes = self._seed = 0
        self._clock_s = 0.0
        self._suspects: set[int] = set()
        self._best_accuracy: float | None = None
        self._figures: Mapping[str, float] = {}  # newest evaluation of the present model's line
        self._evaluated: dict[int, Mapping[str, float]] = {}  # the same, by model version

    def started(self, info: RunInfo) -> None:
        """Take note of how many nodes there are."""
        self._nodes, self._seed = info.num_nodes, info.seed

    def stepped(self, record: StepRecord) -> None:
        """Add a step."""
        self._rounds += record.kind == "train"
        self._decisions += len(record.decisions)
        self._rollbacks += record.restored is not None
        self._alarms += sum(decision.action == "alert" for decision in record.decisions)
        self._bytes_up += record.bytes_up
        self._bytes_down += record.bytes_down
        self._clock_s = record.clock_s
        self._suspects.update(flag.node for flag in record.flags if flag.is_suspect)
        if record.metrics:
            self._figures = {**self._figures, **record.metrics}
            self._evaluated[record.version] = self._figures
            while len(self._evaluated) > MAX_EVALUATED:
                del self._evaluated[next(iter(self._evaluated))]
            accuracies = (self._best_accuracy, record.metrics.get("accuracy"))
            self._best_accuracy = max((a for a in accuracies if a is not None), default=None)
        if record.restored is not None:
            # The step was evaluated before its model was given up.
            kept = {v: seen for v, seen in self._evaluated.items() if v <= record.restored}
            self._evaluated = kept
            self._figures = kept[max(kept)] if kept else {}

    def finished(self, summary: RunSummary) -> None:
        """Do nothing: the summary is made from here."""

    def state(self) -> TotalsState:
        """Return the sums so far."""
        return TotalsState(
            rounds=self._rounds,
            decisions=self._decisions,
            rollbacks=self._rollbacks,
            alarms=self._alarms,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            clock_s=self._clock_s,
            best_accuracy=self._best_accuracy,
            figures=self._figures,
            evaluated=tuple(self._evaluated.items()),
            suspects=tuple(sorted(self._suspects)),
        )

    def load(self, state: TotalsState) -> None:
        """Go on adding to earlier sums."""
        self._rounds, self._decisions = state.rounds, state.decisions
        self._rollbacks, self._alarms = state.rollbacks, state.alarms
        self._bytes_up, self._bytes_down = state.bytes_up, state.bytes_down
        self._clock_s, self._best_accuracy = state.clock_s, state.best_accuracy
        self._figures, self._evaluated = state.figures, dict(state.evaluated)
        self._suspects = set(state.suspects)

    def summary(self, status: Status, reason: str, seconds: float) -> RunSummary:
        """Return the summary of the run so far."""
        return RunSummary(
            status=status,
            reason=reason,
            rounds=self._rounds,
            final_accuracy=self._figures.get("accuracy"),
            final_loss=self._figures.get("loss"),
            best_accuracy=self._best_accuracy,
            seconds=seconds,
            virtual_seconds=self._clock_s if self._is_virtual else None,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            epsilon=None,
            delta=None,
            decisions=self._decisions,
            rollbacks=self._rollbacks,
            alarms=self._alarms,
            flagged_nodes=tuple(sorted(self._suspects)),
            nodes=self._nodes,
            seed=self._seed,
            version=self._version,
        )
