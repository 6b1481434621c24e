"""What nodes read from a message, and what they report of a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from flwr.app import ArrayRecord, ConfigRecord, Context, Message

from daafl.clients.identity import Identity
from daafl.clients.memory import next_sequence
from daafl.clients.sensors import SIMULATED, Sensors, measured
from daafl.errors import MessageError
from daafl.flower import config_record, metric_record, record_dict
from daafl.messages import (
    ARRAYS,
    CONFIG,
    ENVELOPE,
    METRICS,
    NUM_EXAMPLES,
    SECONDS,
    STEPS,
    TELEMETRY,
    TRAIN_LOSS,
    Assignment,
    Envelope,
)
from daafl.secure.signing import Record
from daafl.store.node_store import NodeStore

Sign = Callable[[Envelope, Mapping[str, Record]], bytes]


def assignment_of(message: Message, layout: str) -> Assignment:
    """Return what a message asks for, if it is about the model that this node has.

    Parameters
    ----------
    message
        From a coordinator.
    layout
        Digest of the layout of the node's model.

    Raises
    ------
    MessageError
        ``schema`` if there are no settings, ``layout`` if they are for another model.
    """
    record = message.content.get(CONFIG)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"the message has no record {CONFIG!r} of settings")
    assignment = Assignment.from_record(record)
    if assignment.layout and assignment.layout != layout:
        raise MessageError(
            "layout",
            f"the coordinator's model has layout {assignment.layout}, this node's has "
            f"{layout}; both must run the same task with the same settings",
        )
    return assignment


def training_reply(
    message: Message,
    assignment: Assignment,
    context: Context,
    who: Identity,
    *,
    arrays: ArrayRecord,
    num_examples: int,
    loss: float,
    steps: int,
    start_s: float,
    store: NodeStore | None = None,
    sensors: Sensors = SIMULATED,
    sign: Sign | None = None,
    claim: str | None = None,
) -> Message:
    """Return the reply of a node that has trained; it takes a number for its update.

    Parameters
    ----------
    message, assignment, context, who
        What was asked, and of whom.
    arrays
        The trained model.
    num_examples, loss, steps
        Examples the node holds, its loss on them before the training, and local steps done. Under
        a guarantee no loss is reported, since it would tell about the examples.
    start_s
        When the work began, by `time.perf_counter`.
    store
        Durable memory of the node, if it has one.
    sensors
        What the node measures about itself.
    sign
        Returns the node's signature under an envelope and the content; ``None`` for none.
    claim
        Guarantee that holds for the update; ``None`` for none.

    Raises
    ------
    StoreError
        If the store is damaged or cannot be written.
    MessageError
        If a sensor shows what no such sensor can.
    """
    envelope = Envelope(
        federation=assignment.federation,
        branch=assignment.branch,
        base_version=assignment.version,
        node=who.node,
        sequence=next_sequence(context, store, assignment.federation, who.node),
        plan_hash=assignment.plan_hash,
        privacy_claim=claim,
    )
    content: dict[str, Record] = {
        ARRAYS: arrays,
        METRICS: metric_record(
            {NUM_EXAMPLES: num_examples} | ({TRAIN_LOSS: reportable(loss)} if claim is None else {})
        ),
        TELEMETRY: telemetry(steps, start_s, measured(sensors, context)),
    }
    if sign is not None:
        envelope = replace(envelope, signature=sign(envelope, content))
    content[ENVELOPE] = envelope.to_record()
    return Message(record_dict(content), reply_to=message)


def reportable(loss: float) -> float:
    """Return the loss; one that is not a number, as after a division by zero, is infinite."""
    return math.inf if math.isnan(loss) else loss


def telemetry(
    steps: int, start_s: float, readings: Mapping[str, float] = MappingProxyType({})
) -> ConfigRecord:
    """Return what a node reports of its work besides the result.

    Parameters
    ----------
    steps
        Local steps done.
    start_s
        When the work began, by `time.perf_counter`.
    readings
        What its sensors show; names of `daafl.sensing`.
    """
    return config_record({STEPS: steps, SECONDS: time.perf_counter() - start_s, **readings})
