"""What a node's answers in masked and in encrypted sums have in common."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Latest:
    """The last round and attempt on each branch, in a record of `Context.state`.

    Parameters
    ----------
    name
        Of the record.
    """

    name: str

    def check_new(self, context: Context, branch: str, version: int, attempt: int) -> None:
        """Refuse what is not newer than what was noted last.

        Two sums over the same update with one member more or less would show that member's.

        Raises
        ------
        MessageError
            With reason ``freshness``.
        """
        record = context.state.get(self.name)
        last = record.get(branch) if isinstance(record, ConfigRecord) else None
        if isinstance(last, str) and (version, attempt) <= _numbers(last):
            raise MessageError(
                "freshness",
                f"{attempt} at version {version} is not newer than the last that this node "
                "answered on this branch",
            )

    def note(self, context: Context, branch: str, version: int, attempt: int) -> None:
        """Take down the newest."""
        record = context.state.get(self.name)
        latest = dict(record) if isinstance(record, ConfigRecord) else {}
        latest[branch] = f"{version} {attempt}"
        context.state[self.name] = ConfigRecord(latest)


def _numbers(text: str) -> tuple[int, int]:
    version, attempt = text.split()
    return int(version), int(attempt)


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
