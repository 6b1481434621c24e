"""Trying learning rates before trusting one: a range test over the nodes' own data.

Each asked node trains throw-away copies of the model, one per rate, and reports the logarithm of
the loss that each ends at: a handful of numbers, no weights. Per rate the median over nodes counts,
so that a few nodes that lie do not choose the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from daafl.errors import MessageError
from daafl.learning.layout import Packed
from daafl.messages import ARRAYS, CONFIG, LEARNING_RATES, LOG_LOSSES, METRICS, QUERY_PROBE
from daafl.strategies.exchange import Member, model_record
from daafl.strategies.mailbox import Outgoing
from daafl.strategies.validation import as_float, check_records

PROBE_RATES: Final = tuple(float(rate) for rate in np.geomspace(1e-3, 3.0, 8))
MAX_LOG_LOSS: Final = math.log(1e3)


def probe_messages(cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
    """Return one probe question per member of ``cohort``."""
    arrays = model_record(packed)
    messages = []
    for member in cohort:
        config = ConfigRecord(dict(member.assignment.to_record()))
        config[LEARNING_RATES] = list(PROBE_RATES)
        messages.append(
            Outgoing(
                member.ticket,
                member.address,
                QUERY_PROBE,
                RecordDict({ARRAYS: arrays, CONFIG: config}),
            )
        )
    return messages


def probed_log_losses(content: RecordDict) -> tuple[float, ...]:
    """Return the log loss per rate in a node's answer, clipped to a finite range.

    Raises
    ------
    MessageError
        If the answer holds unknown or oversized records, or not one number for each rate.
    """
    check_records(content)
    record = content.get(METRICS)
    values = record.get(LOG_LOSSES) if isinstance(record, MetricRecord) else None
    if not isinstance(values, list) or len(values) != len(PROBE_RATES):
        raise MessageError("schema", f"a probe answer must hold {len(PROBE_RATES)} log losses")
    return tuple(
        MAX_LOG_LOSS if math.isnan(v) else min(max(v, -MAX_LOG_LOSS), MAX_LOG_LOSS)
        for v in map(as_float, values)
    )


def median_log_losses(answers: Sequence[tuple[float, ...]]) -> tuple[float, ...] | None:
    """Return the median over nodes for each rate; ``None`` if nobody answered."""
    if not answers:
        return None
    return tuple(float(value) for value in np.median(np.array(answers), axis=0))
