"""Messages as the grid remembers them, and the replies to them."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import Message, Metadata, RecordDict

from daafl.errors import WorkerError
from daafl.flower import error_reply, named, rebuild
from daafl.simulation.flight import Event, Gathering
from daafl.simulation.node import Answer
from daafl.simulation.snapshot import Held
from daafl.simulation.wire import unpacked


@dataclass(frozen=True, eq=False)
class Pushed:
    """A message on its way, without its content: what an answer to it needs."""

    metadata: Metadata
    event: Event | Held

    @property
    def message_id(self) -> str:
        """Id of the message, the same in every run."""
        return self.metadata.message_id

    @property
    def asked(self) -> Message:
        """The message without its content."""
        return rebuild(self.metadata, RecordDict())


def metadata_of(event: Event) -> Metadata:
    """Return the metadata of a message that is under way."""
    if isinstance(event, Gathering):
        return event.call.message.metadata
    message = event.instruction
    whole = message if isinstance(message, Message) else unpacked(message)
    if not isinstance(whole, Message):
        raise WorkerError(f"message {event.number} is out as a {type(whole).__name__}")
    return whole.metadata


def reply_of(pushed: Pushed) -> Message:
    """Return the reply that has arrived, under an id that any run gives it."""
    outcome = pushed.event.outcome
    if outcome is None:
        raise WorkerError(f"{pushed.message_id} was delivered without a reply")
    if not isinstance(outcome, Answer):
        reply: object = error_reply(pushed.asked, code=outcome.code, reason=outcome.reason)
    elif isinstance(outcome.reply, Message):
        reply = outcome.reply
    else:
        reply = unpacked(outcome.reply)
    if not isinstance(reply, Message):
        raise WorkerError(f"the reply to {pushed.message_id} is a {type(reply).__name__}")
    return named(reply, f"reply-{pushed.event.number}")
