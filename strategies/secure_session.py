"""What a secure exchange runs for each group: questions to its nodes, until there is a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from daafl.errors import MessageError
from daafl.flower import config_record
from daafl.learning.layout import Layout, Packed
from daafl.messages import ENVELOPE, SECURE, USERS_ALIKE, Envelope
from daafl.secure.header import HeaderSum
from daafl.secure.messages import Plain
from daafl.secure.roster import Roster
from daafl.strategies.exchange import Member
from daafl.strategies.validation import check_envelope, check_telemetry

MOST_BESIDE: Final = 4096  # bytes of a message of a protocol beside its boxes or words


@dataclass(frozen=True)
class Question:
    """A message of a session to one of its nodes."""

    message_type: str
    content: RecordDict


@dataclass(frozen=True)
class GroupSum:
    """What comes out of a session.

    Parameters
    ----------
    nodes
        Logical ids of those whose updates are in it, ascending.
    mean
        Mean change of the model, weighted by examples.
    header
        The sum of what they report.
    faulty
        Nodes that were found to have broken the protocol without spoiling the sum.
    """

    nodes: tuple[int, ...]
    mean: npt.NDArray[np.float64] = field(repr=False)
    header: HeaderSum
    faulty: tuple[int, ...] = ()


Questions = Mapping[int, Question]
"""By node."""


@dataclass(frozen=True, eq=False)
class Round:
    """What the sessions of one cohort have in common.

    Parameters
    ----------
    roster
        Who belongs to the federation.
    layout, packed
        The model that is sent, with its layout.
    model
        The record in which it travels.
    attempt
        When the round began, in ms since 1970.
    claim
        Guarantee that every update must come with; ``None`` for none.
    """

    roster: Roster
    layout: Layout
    packed: Packed = field(repr=False)
    model: ArrayRecord = field(repr=False)
    attempt: int
    claim: str | None = None


class Session(Protocol):
    """One secure sum over a group of nodes, phase by phase."""

    def questions(self) -> Questions:
        """Return what opens the session."""

    def receive(self, node: int, content: RecordDict) -> None:
        """Take a node's answer to the present phase; raise `MessageError` if it is none."""

    def close(self) -> Questions | GroupSum:
        """End the present phase, now that every node has answered or never will.

        Returns
        -------
        Questions or GroupSum
            What to ask next, or the sum.

        Raises
        ------
        FederationError
            If the session cannot go on; it is then over, and nothing is known of any update.
        """


class FromNode(Protocol):
    """A message that names its sender."""

    @property
    def node(self) -> int:
        """Logical id of the node."""


M = TypeVar("M", bound=FromNode)


def own(node: int, message: M) -> M:
    """Return a message that its sender wrote in its own name (else *signature*)."""
    if message.node != node:
        raise MessageError("signature", f"node {node} answers in the name of another")
    return message


def question_of(message_type: str, values: Plain) -> Question:
    """Return a question that is one message of a protocol."""
    return Question(message_type, RecordDict({SECURE: config_record(values)}))


def to_all(nodes: Sequence[int], message_type: str, values: Plain) -> Questions:
    """Return the same question for all nodes."""
    return dict.fromkeys(nodes, question_of(message_type, values))


def values_of(content: RecordDict, most: int = 0) -> dict[str, object]:
    """Return the message of a protocol that an answer is, with up to ``most`` bytes of rows."""
    check_names(content, SECURE)
    return secure_record(content, SECURE, MOST_BESIDE + 2 * most)


def unit_of(members: Sequence[Member]) -> int:
    """Return how many examples weigh 1: the most of a member, or 1 where all weigh alike."""
    if members[0].assignment.settings.get(USERS_ALIKE) is True:
        return 1
    return max(1, *(member.ticket.num_examples for member in members))


def check_work(content: RecordDict, member: Member, claim: str | None) -> None:
    """Refuse a trained update whose envelope or telemetry is not what was asked of its node.

    Parameters
    ----------
    claim
        Guarantee that it must come with; ``None`` for none.
    """
    assignment = member.assignment
    check_envelope(
        Envelope.from_record(secure_record(content, ENVELOPE, MOST_BESIDE)),
        federation=assignment.federation,
        ticket=member.ticket,
        plan_hash=assignment.plan_hash,
        claim=claim,
    )
    check_telemetry(content, assignment.local_steps)


def secure_record(content: RecordDict, name: str, most: int) -> dict[str, object]:
    """Return a record of settings in an answer, of at most ``most`` bytes of text and bytes.

    Raises
    ------
    MessageError
        *schema* if it is not there, *size* if it is larger.
    """
    record = content.get(name)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"the answer has no record {name!r}")
    values: dict[str, object] = dict(record.items())
    size = sum(_size(value) for value in values.values())
    if size > most:
        raise MessageError("size", f"record {name!r} has {size} bytes, at most {most} are accepted")
    return values


def check_names(content: RecordDict, *names: str) -> None:
    """Refuse an answer with records that nobody asked for (*schema*)."""
    for name in content:
        if name not in names:
            raise MessageError("schema", f"the answer has an unknown record {name[:40]!r}")


def arrays_of(content: RecordDict, name: str, keys: Sequence[str]) -> Mapping[str, Array]:
    """Return the arrays of a record, which must be exactly those asked for (*schema*)."""
    record = content.get(name)
    if not isinstance(record, ArrayRecord) or sorted(record) != sorted(keys):
        raise MessageError("schema", f"the answer has no record {name!r} of {', '.join(keys)}")
    return dict(record.items())


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return 8 * len(value) if isinstance(value, list) else 8
