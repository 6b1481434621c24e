"""What attackers say about themselves, beside the updates they send."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from daafl.errors import ConfigError
from daafl.messages import (
    ACCEPTED_LOSS,
    CONFIG,
    LOG_LOSSES,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    QUERY_HELLO,
    QUERY_PROBE,
    QUERY_VOTE,
    TRAIN_LOSS,
    TRAIN_MASKED,
    Ballot,
)


@dataclass(frozen=True)
class Lies:
    """False statements of attackers.

    Parameters
    ----------
    loss_factor
        Factor on every loss they report.
    examples_factor
        Factor on every number of examples they report, when greeting too; rounded, at least 1.
    reverses_probes
        Whether the learning rate that served them best is reported as the worst one.
    inverts_votes
        Whether they vote against what they find good and for what they find harmful, with the
        losses of the two models exchanged.

    Raises
    ------
    ConfigError
        If a factor is not a positive finite number.
    """

    loss_factor: float = 1.0
    examples_factor: float = 1.0
    reverses_probes: bool = False
    inverts_votes: bool = False

    def __post_init__(self) -> None:
        """Check the factors."""
        for name in ("loss_factor", "examples_factor"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ConfigError(f"lies.{name} is {value}, but must be a positive number")

    def told(self, asked: Message, content: RecordDict) -> RecordDict:
        """Return a reply to ``asked`` with the lies in it; ``content`` stays as it is."""
        match asked.metadata.message_type:
            case MessageType.TRAIN | MessageType.EVALUATE:
                return self._with_metrics(content)
            case kind if kind == TRAIN_MASKED:
                return self._with_metrics(content)
            case kind if kind == QUERY_PROBE:
                return self._with_probes(self._with_metrics(content))
            case kind if kind == QUERY_VOTE:
                return self._with_metrics(self._with_vote(content))
            case kind if kind == QUERY_HELLO:
                return self._with_greeting(content)
        return content

    def _with_metrics(self, content: RecordDict) -> RecordDict:
        record = content.get(METRICS)
        if not isinstance(record, MetricRecord):
            return content
        metrics = MetricRecord(dict(record))
        for key in (TRAIN_LOSS, LOSS, ACCEPTED_LOSS):
            if key in metrics:
                metrics[key] = float(_number(metrics[key]) * self.loss_factor)
        if NUM_EXAMPLES in metrics:
            metrics[NUM_EXAMPLES] = self._count(metrics[NUM_EXAMPLES])
        return RecordDict({**content, METRICS: metrics})

    def _with_probes(self, content: RecordDict) -> RecordDict:
        record = content.get(METRICS)
        if not self.reverses_probes or not isinstance(record, MetricRecord):
            return content
        losses = record.get(LOG_LOSSES)
        if not isinstance(losses, list):
            return content
        # Mirrored in the middle of their range: the numbers stay credible, the order turns over.
        mirrored = [float(max(losses) + min(losses) - loss) for loss in losses]
        return RecordDict({**content, METRICS: MetricRecord({**record, LOG_LOSSES: mirrored})})

    def _with_vote(self, content: RecordDict) -> RecordDict:
        record = content.get(METRICS)
        if not self.inverts_votes or not isinstance(record, MetricRecord):
            return content
        honest = Ballot.from_record(record)
        false = replace(
            honest,
            is_in_favour=not honest.is_in_favour,
            loss=honest.accepted_loss,
            accepted_loss=honest.loss,
        )
        return RecordDict({**content, METRICS: false.to_record()})

    def _with_greeting(self, content: RecordDict) -> RecordDict:
        record = content.get(CONFIG)
        if not isinstance(record, ConfigRecord) or NUM_EXAMPLES not in record:
            return content
        greeting = ConfigRecord({**record, NUM_EXAMPLES: self._count(record[NUM_EXAMPLES])})
        return RecordDict({**content, CONFIG: greeting})

    def _count(self, value: object) -> int:
        return max(1, round(_number(value) * self.examples_factor))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
