"""Named checks that every update passes before it is combined.

A bad update costs its sender that update, with a reason that is counted; the step goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from daafl.decoding import decoded
from daafl.errors import MessageError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.messages import (
    ARRAYS,
    ENVELOPE,
    MAX_COUNT,
    MAX_TEXT,
    METRICS,
    NUM_EXAMPLES,
    PACKED,
    TRAIN_LOSS,
    Envelope,
)
from daafl.strategies.mailbox import Ticket

MAX_METRICS: Final = 64


def checked_envelope(content: RecordDict, ticket: Ticket, federation: str) -> Envelope:
    """Return the update's envelope (checks *schema* and *freshness*).

    Raises
    ------
    MessageError
        If the envelope is missing or malformed, or is about another model or node than the
        ticket it answers.
    """
    record = content.get(ENVELOPE)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", "the update has no envelope")
    envelope = Envelope.from_record(record)
    expected = (federation, ticket.branch, ticket.version, ticket.node)
    if (envelope.federation, envelope.branch, envelope.base_version, envelope.node) != expected:
        raise MessageError(
            "freshness",
            f"the envelope speaks of {envelope.key[:4]}, the assignment was {expected}",
        )
    if envelope.codec is not None:
        raise MessageError("schema", f"codec {envelope.codec!r} was not agreed on")
    return envelope


def checked_model(content: RecordDict, layout: Layout) -> Packed:
    """Return the packed model in ``content`` (checks *schema*, *dtype*, *shape*, *size*).

    Raises
    ------
    MessageError
        If there is not exactly one packed array of the layout's size.
    """
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord) or list(record) != [PACKED]:
        raise MessageError("schema", f"the update has no record {ARRAYS!r} with one packed array")
    return decoded(record[PACKED], np.dtype(np.uint8), (layout.num_bytes,))


def check_finite(delta: Vector) -> None:
    """Refuse an update that holds NaN or infinity (check *finiteness*).

    Raises
    ------
    MessageError
        With reason ``finiteness``.
    """
    if not np.isfinite(delta).all():
        raise MessageError("finiteness", "the update holds NaN or infinity")


def checked_metrics(content: RecordDict) -> dict[str, float]:
    """Return the scalar metrics in ``content`` (checks *schema* and *sample_count*).

    A training loss may be infinite, because a model that diverged has one; it is never NaN.

    Raises
    ------
    MessageError
        If there are too many metrics, a name is too long, or ``num-examples`` is missing or not a
        positive number of a credible size.
    """
    record = content.get(METRICS)
    if not isinstance(record, MetricRecord) or len(record) > MAX_METRICS:
        raise MessageError(
            "schema", f"the reply has no record {METRICS!r} of at most {MAX_METRICS} numbers"
        )
    if any(len(key) > MAX_TEXT for key in record):
        raise MessageError("schema", f"a metric's name is longer than {MAX_TEXT} characters")
    metrics = {key: as_float(value) for key, value in record.items() if not isinstance(value, list)}
    count = metrics.get(NUM_EXAMPLES, math.nan)
    if not 0 < count <= MAX_COUNT:
        raise MessageError("sample_count", f"{NUM_EXAMPLES} is {count}, not a positive number")
    if not math.isfinite(metrics.get(TRAIN_LOSS, 0.0)):
        metrics[TRAIN_LOSS] = math.inf
    return metrics


def as_float(value: int | float) -> float:
    """Return a reported number as a float; an integer beyond any float is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are finite numbers."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}
