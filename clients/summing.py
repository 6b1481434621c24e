"""What a node's answers in masked and in encrypted sums have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from daafl.decoding import decoded
from daafl.errors import MessageError
from daafl.flower import config_record
from daafl.learning.layout import Layout
from daafl.messages import ARRAYS, MAX_COUNT, SECURE, SEED, SUMMING, UNIT, Assignment
from daafl.secure.fields import Fields
from daafl.secure.hidden import SEED_BYTES
from daafl.secure.messages import Plain

_NEWEST: Final = "newest"


@dataclass(frozen=True)
class Latest:
    """The newest of what a node took part in, as a record of `Context.state`.

    Parameters
    ----------
    name
        Of the record.
    """

    name: str

    def check_new(self, context: Context, *number: int) -> None:
        """Refuse what is not newer than what was noted last, whatever the branch.

        Raises
        ------
        MessageError
            With reason ``freshness``.
        """
        record = context.state.get(self.name)
        last = record.get(_NEWEST) if isinstance(record, ConfigRecord) else None
        if isinstance(last, str) and number <= tuple(map(int, last.split())):
            shown = ", ".join(map(str, number))
            raise MessageError(
                "freshness", f"({shown}) is not newer than the last that this node answered"
            )

    def note(self, context: Context, *number: int) -> None:
        """Take down the newest."""
        context.state[self.name] = config_record({_NEWEST: " ".join(map(str, number))})


TRAINED: Final = Latest("daafl.hidden")
"""Version and draw of the last training that went into a hidden sum.

The same training in two sums, one of them without a node, would show that node's update. Every
later sum is over other batches at least; over nearly the same model, which a lying server can
always arrange, only differential privacy bounds what two sums tell.
"""


def record_of(message: Message, name: str) -> ConfigRecord:
    """Return a record of settings in a message (else *schema*)."""
    record = message.content.get(name)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"the message has no record {name!r} of settings")
    return record


def reply_of(message: Message, values: Plain) -> Message:
    """Return an answer that is one message of a protocol."""
    return Message(RecordDict({SECURE: config_record(values)}), reply_to=message)


def array_bytes(message: Message, key: str, most: int) -> bytes:
    """Return the one array of a message, bytes of which there are at most ``most``."""
    record = message.content.get(ARRAYS)
    array = record.get(key) if isinstance(record, ArrayRecord) and len(record) == 1 else None
    if not isinstance(array, Array) or len(array.shape) != 1:
        raise MessageError("schema", f"the message has no array {key!r}")
    size = array.shape[0]
    if type(size) is not int or not 0 <= size <= most:
        raise MessageError("size", f"{key!r} has {size} bytes, at most {most} are accepted")
    return decoded(array, np.dtype(np.uint8), (size,)).tobytes()


def unit_of(message: Message) -> int:
    """Return the examples that weigh 1 in a sum (else *schema*)."""
    summing = Fields.of(dict(record_of(message, SUMMING)), "the frame of a sum")
    unit = summing.integer(UNIT)
    summing.end()
    if not 1 <= unit <= MAX_COUNT:
        raise MessageError("schema", f"{UNIT} is {unit}; it must be 1 to {MAX_COUNT}")
    return unit


def seed_of(message: Message) -> bytes:
    """Return the seed of a test of norms (else *schema*)."""
    summing = Fields.of(dict(record_of(message, SUMMING)), "the frame of a proof")
    seed = summing.data(SEED, SEED_BYTES)
    summing.end()
    return seed


def check_federation(assignment: Assignment, federation: str, layout: Layout) -> None:
    """Refuse a coordinator of another federation (*federation*) or model (*layout*)."""
    if assignment.federation != federation:
        raise MessageError(
            "federation",
            f"the coordinator speaks for federation {assignment.federation!r}, this node's "
            f"roster is that of {federation!r}",
        )
    if assignment.layout != layout.digest:
        raise MessageError(
            "layout",
            f"the coordinator's model has layout {assignment.layout}, this node's has "
            f"{layout.digest}",
        )
