"""What nodes make of messages: one at one node, or many that carry one model."""

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
from daafl.messages import MAX_COUNT, SENSOR, STEPS, TELEMETRY, TIME_S
from daafl.payload import content_bytes
from daafl.simulation.cohorts import CohortApp
from daafl.simulation.jobs import Batch, Job, Sum, Surroundings, Task
from daafl.simulation.memory import Memory, kept, recalled
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

    A reply is packed where it has been made apart, and the message itself where it was made
    together with others. `state` is ``None`` if the message left the state as it was. `num_bytes`
    is what the reply carries.
    """

    reply: Parcel | Message
    state: Memory | None
    steps: float
    num_bytes: int


@dataclass(frozen=True)
class Failure:
    """Why there is no reply: one of Flower's error codes and a sentence."""

    code: int
    reason: str


Outcome = Answer | Failure


@dataclass(frozen=True)
class Nodes:
    """All nodes of a simulated federation: one ClientApp, told apart by their `Context`.

    `cohorts` answers messages that carry one model together; without it there are no such jobs.
    """

    client_app: ClientApp
    num_nodes: int
    run_id: int
    run_config: Mapping[str, bool | float | int | str]
    cohorts: CohortApp | None = None

    def run(self, job: Job) -> list[tuple[int, Outcome]]:
        """Return what became of each message of a job, by its number."""
        match job:
            case Task():
                return [(job.number, self._answer(job))]
            case Batch():
                return self._together(job)
            case Sum():
                return [(job.number, self._summed(job))]

    def _answer(self, task: Task) -> Outcome:
        """Return what a node makes of a message.

        The message and the state are unpacked anew, so nothing the ClientApp does to them, or to
        its configuration, reaches another message. On failure the state stays as it was.
        """
        try:
            context = self._context(task.partition, task.state, task.around)
            message = unpacked(task.message)
            if not isinstance(message, Message):
                raise TypeError(f"a {type(message).__name__} was sent, not a Message")
            reply = self.client_app(message, context)
            fault = _fault(message, reply)
            if fault is not None:
                return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, fault)
            parcel = packed(reply)
            answer = Answer(
                reply=parcel,
                state=_changed(task.state, context.state),
                steps=_reported_steps(reply),
                num_bytes=_reply_bytes(reply),
            )
        except (Exception, SystemExit) as error:
            logger.debug("node %d failed", task.partition, exc_info=True)
            return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _described(error))
        return _within_limit(answer, parcel.num_bytes)

    def _together(self, batch: Batch) -> list[tuple[int, Outcome]]:
        """Return what nodes make of messages with one model; one by one if that fails."""
        if self.cohorts is None:
            return self._singly(batch)

        def contexts() -> list[Context]:
            columns = zip(batch.partitions, batch.states, batch.arounds, strict=True)
            return [self._context(*column) for column in columns]

        try:
            answered = self.cohorts.answers(batch.messages, contexts)
            rows = zip(batch.numbers, batch.messages, batch.states, answered, strict=True)
            return [
                (number, _checked(message, state, *answer))
                for number, message, state, answer in rows
            ]
        except (Exception, SystemExit):
            logger.debug("a cohort failed and is run one by one", exc_info=True)
            return self._singly(batch)

    def _singly(self, batch: Batch) -> list[tuple[int, Outcome]]:
        return [outcome for task in batch.singly() for outcome in self.run(task)]

    def _summed(self, job: Sum) -> Outcome:
        try:
            if self.cohorts is None:
                raise TypeError("these nodes cannot be trained as a cohort")
            reply = self.cohorts.summed(job.message, job.partitions, job.time_s)
            return _checked(job.message, None, reply, None)
        except (Exception, SystemExit) as error:
            logger.debug("a cohort failed", exc_info=True)
            return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _described(error))

    def _context(self, partition: int, state: Memory | None, around: Surroundings) -> Context:
        node_config: dict[str, bool | float | int | str] = {
            "partition-id": partition,
            "num-partitions": self.num_nodes,
            TIME_S: around.time_s,
        }
        node_config.update((SENSOR + name, value) for name, value in around.readings.items())
        return Context(
            run_id=self.run_id,
            node_id=FIRST_NODE_ID + partition,
            node_config=node_config,
            state=recalled(state),
            run_config=dict(self.run_config),
        )


def _checked(
    message: Message, state: Memory | None, reply: object, context: Context | None
) -> Outcome:
    """Return a reply that was made together with others, as a node's answer."""
    fault = _fault(message, reply)
    if fault is not None or not isinstance(reply, Message):
        return Failure(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, fault or "there is no reply")
    num_bytes = _reply_bytes(reply)
    after = None if context is None else _changed(state, context.state)
    return _within_limit(Answer(reply, after, _reported_steps(reply), num_bytes), num_bytes)


def _within_limit(answer: Answer, num_bytes: int) -> Outcome:
    if num_bytes <= MAX_REPLY_BYTES:
        return answer
    size, limit = f"{num_bytes / 2**20:.0f} MiB", f"{MAX_REPLY_BYTES / 2**20:.0f} MiB"
    return Failure(
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        f"the reply has {size}, more than the {limit} a Flower message may have",
    )


def _changed(before: Memory | None, state: RecordDict) -> Memory | None:
    """Return what a node keeps if it differs from what it kept before."""
    if not isinstance(state, RecordDict):
        raise TypeError(f"Context.state became a {type(state).__name__}, not a RecordDict")
    if before is None and len(state) == 0:
        return None
    after = kept(state)
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


def _reply_bytes(reply: Message) -> int:
    return content_bytes(reply.content) if reply.has_content() else 0


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
