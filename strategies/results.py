"""What Flower's result holds besides the final arrays: the metrics of every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import MetricRecord
from flwr.serverapp.strategy import Result

from daafl.messages import TRAIN_LOSS
from daafl.observability.events import RunInfo, RunSummary, StepRecord


@dataclass(frozen=True)
class ResultsState:
    """Per step the loss that nodes reported, and the evaluation of the model."""

    trained: tuple[tuple[int, float], ...]
    evaluated: tuple[tuple[int, Mapping[str, float]], ...]


class Results:
    """Keeps the metrics of every training step; an `Observer`."""

    def __init__(self) -> None:
        self._trained: dict[int, float] = {}
        self._evaluated: dict[int, Mapping[str, float]] = {}

    def started(self, info: RunInfo) -> None:
        """Do nothing: there are no metrics yet."""

    def stepped(self, record: StepRecord) -> None:
        """Keep the metrics of a step that trained."""
        if record.kind != "train":
            return
        if record.train_loss is not None:
            self._trained[record.step] = record.train_loss
        if record.metrics:
            self._evaluated[record.step] = record.metrics

    def finished(self, summary: RunSummary) -> None:
        """Do nothing: Flower's result is made from here."""

    def state(self) -> ResultsState:
        """Return the metrics so far."""
        return ResultsState(tuple(self._trained.items()), tuple(self._evaluated.items()))

    def load(self, state: ResultsState) -> None:
        """Go on from an earlier `state`."""
        self._trained, self._evaluated = dict(state.trained), dict(state.evaluated)

    def flower_result(self, *, is_federated: bool) -> Result:
        """Return Flower's result, without the arrays.

        Parameters
        ----------
        is_federated
            Whether the nodes evaluate, and not the server.
        """
        result = Result()
        evaluated = (
            result.evaluate_metrics_clientapp if is_federated else result.evaluate_metrics_serverapp
        )
        for step, loss in self._trained.items():
            result.train_metrics_clientapp[step] = MetricRecord({TRAIN_LOSS: loss})
        for step, metrics in self._evaluated.items():
            evaluated[step] = MetricRecord(dict(metrics))
        return result
