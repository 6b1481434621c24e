"""One message at one simulated node: what the ClientApp makes of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from daafl.flower import ErrorCode
from daafl.messages import MAX_COUNT, STEPS, TELEMETRY
from daafl.simulation.wire import Parcel, packed, unpacked

logger = logging.getLogger(__name__)

FIRST_NODE_ID: Final = 1000
"""Flower's id of partition 0. Flower keeps small numbers for itself: the server is node 1."""

MAX_REPLY_BYTES: Final = 2**31 - 1
"""Flower's own limit on a message, so that what runs here runs in a deployment."""

MAX_REASON: Final = 500  # characters of an error's own text


@dataclass(frozen=True)
class Answer:
    """A reply, the node's new state and the local steps it took.

    `state` is ``None`` if the message left the state as it was.
    """

    reply: Parcel
    state: Parcel | None
    steps: float


@dataclass(frozen=True)
class Failure:
    """Why there is no reply: one of Flower's error codes and a sentence."""

    code: int
    reason: str


Outcome = Answer | Failure


@dataclass(frozen=True)
class Nodes:
    """All nodes of a simulated federation: one ClientApp, told apart by their `Context`."""

    client_app: ClientApp
    num_nodes: int
    run_id: int
    run_config: Mapping[str, bool | float | int | str]

    def answer(self, partition: int, instruction: Parcel, state: Parcel | None) -> Outcome:
        """Return what the node of `partition` makes of a message.

        The message and the state are unpacked anew, so nothing the ClientApp does to them, or to
        its configuration, reaches another message. On failure the state stays as it was.

        Parameters
        ----------
        partition
            Index of the node, from 0.
        instruction
            A packed `Message`.
        state
            The node's packed `Context.state`; ``None`` for an empty one.
        """
        context = Context(
            run_id=self.run_id,
            node_id=FIRST_NODE_ID + partition,
            node_config={"partition-id": partition, "num-partitions": self.num_nodes},
            state=_records(state),
            run_config=dict(self.run_config),
        )
        try:
            message = unpacked(instruction)
            if not isinstance(message, Message):
                raise TypeError(f"a {type(message).__name__} was sent, not a Message")
            reply = self.client_app(message, context)
            fault = _fault(message, reply)
            if fault is not None:
                return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, fault)
            answer = Answer(
                reply=packed(reply),
                state=_changed(state, context.state),
                steps=_reported_steps(reply),
            )
        except (Exception, SystemExit) as error:
            logger.debug("node %d failed", partition, exc_info=True)
            return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _described(error))
        if answer.reply.num_bytes > MAX_REPLY_BYTES:
            size = f"{answer.reply.num_bytes / 2**20:.0f} MiB"
            limit = f"{MAX_REPLY_BYTES / 2**20:.0f} MiB"
            return Failure(
                ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
                f"the reply has {size}, more than the {limit} a Flower message may have",
            )
        return answer


def _records(state: Parcel | None) -> RecordDict:
    records = RecordDict() if state is None else unpacked(state)
    if not isinstance(records, RecordDict):
        raise TypeError(f"Context.state is a {type(records).__name__}, not a RecordDict")
    return records


def _changed(before: Parcel | None, state: RecordDict) -> Parcel | None:
    """Return the packed state if it differs from the one before."""
    if not isinstance(state, RecordDict):
        raise TypeError(f"Context.state became a {type(state).__name__}, not a RecordDict")
    if before is None and len(state) == 0:
        return None
    after = packed(state)
    return None if after == before else after


def _fault(message: Message, reply: object) -> str | None:
    """Return why `reply` does not answer `message`, or ``None`` if it does."""
    if not isinstance(reply, Message):
        return f"the ClientApp returned a {type(reply).__name__}, not a Message"
    asked, told = message.metadata, reply.metadata
    if told.reply_to_message_id != asked.message_id or told.src_node_id != asked.dst_node_id:
        return "the ClientApp returned a Message that was not made with reply_to=message"
    if reply.has_content() == reply.has_error():
        return "the ClientApp returned a Message that has not exactly one of content and error"
    if reply.has_content() and not isinstance(reply.content, RecordDict):
        return f"the reply's content is a {type(reply.content).__name__}, not a RecordDict"
    return None


def _reported_steps(reply: Message) -> float:
    """Return the local steps a reply reports; nothing sensible counts as none."""
    telemetry = reply.content.get(TELEMETRY) if reply.has_content() else None
    steps = telemetry.get(STEPS) if isinstance(telemetry, ConfigRecord) else None
    if isinstance(steps, bool) or not isinstance(steps, int | float):
        return 0.0
    return float(steps) if 0 < steps <= MAX_COUNT else 0.0


def _described(error: BaseException) -> str:
    """Return the error and the place it comes from, in one bounded line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = ""
    if frames:
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})"
    return f"{type(error).__name__}: {error}"[:MAX_REASON] + place
