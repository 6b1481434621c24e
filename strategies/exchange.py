"""How the updates of a cohort are obtained.

Plain, masked and encrypted exchanges differ in what travels and in how many messages it takes;
the step sees only cohorts that go out and `Update` objects that come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Array, ArrayRecord, MessageType

from daafl.errors import MessageError, StoreError
from daafl.flower import record_dict
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.messages import ARRAYS, CONFIG, NUM_EXAMPLES, PACKED, Assignment
from daafl.secure.roster import Roster as Keys
from daafl.secure.signing import Signer
from daafl.secure.work import bytes_hash
from daafl.store.tree import Tree
from daafl.strategies.mailbox import Arrival, Outgoing, Ticket
from daafl.strategies.regime import Offer
from daafl.strategies.validation import Accepted, Sent, Terms, validated


@dataclass(frozen=True)
class Member:
    """One node of a cohort with what it is asked to do."""

    address: int
    ticket: Ticket
    assignment: Assignment


@dataclass(frozen=True)
class Received:
    """What an arrival amounts to.

    Parameters
    ----------
    outgoing
        Messages to send next.
    updates
        Updates that are ready.
    refused
        Why a sum is of no use, by the name of a check; empty if there is none, or it is.
    failures
        Nodes that nothing will come of, by reason, other than the one that was answering.
    """

    outgoing: Sequence[Outgoing] = ()
    updates: Sequence[Update] = ()
    refused: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)


class Exchange(Protocol):
    """A protocol for obtaining the updates of a cohort."""

    offers: Offer
    is_joint: bool
    """Whether members of a cohort depend on each other: then nobody takes the place of another."""

    @property
    def cohort_address(self) -> int | None:
        """Where a whole cohort is asked at once; ``None`` if each node is asked by itself."""

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return the messages that open the exchange with ``cohort`` over a model."""

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Open a reply to a model ``base``; raise `MessageError` if it must not be used."""

    def expire(self, ticket: Ticket) -> Received:
        """Take note that ``ticket`` will not be answered."""

    def state(self) -> Tree:
        """Return what it must remember over a restart of the coordinator."""

    def load(self, state: Tree) -> None:
        """Take over what `state` returned."""


class PlainExchange:
    """Every node sends its trained model in the clear.

    Parameters
    ----------
    federation
        Name of the federation that envelopes must carry.
    layout
        Layout of the model.
    memory
        Nodes and branches of which the last accepted update is remembered at most, so that it is
        not accepted again; beyond it, the one that was silent longest is forgotten.
    """

    offers = Offer(individuals=True, losses="per_node")
    cohort_address: int | None = None
    is_joint = False

    def __init__(
        self,
        federation: str,
        layout: Layout,
        memory: int = 1_000_000,
        *,
        roster: Keys | None = None,
        claim: str | None = None,
    ) -> None:
        self._federation = federation
        self._layout = layout
        self._memory = memory
        self._roster = roster
        self._claim = claim
        self._last: dict[tuple[str, int], Accepted] = {}  # by branch and node, oldest first
        self._sent: tuple[Packed, Sent] | None = None  # the base that was last compared with
        self._model_hash = b""  # of that base, where updates are signed
        self._newest: dict[str, int] = {}  # version that was asked about last, by branch

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return one TRAIN message per member; all share one copy of the model.

        What was accepted at versions before theirs is forgotten: nobody is asked about them again,
        and an update that names another version than its ticket is refused in any case.
        """
        self._forget(cohort)
        arrays = model_record(packed)
        return [
            Outgoing(
                member.ticket,
                member.address,
                MessageType.TRAIN,
                record_dict({ARRAYS: arrays, CONFIG: member.assignment.to_record()}),
            )
            for member in cohort
        ]

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Return the one update in a reply.

        Raises
        ------
        MessageError
            If the update fails one of the checks of `daafl.strategies.validation`.
        """
        if arrival.content is None:
            raise MessageError("schema", "the reply is empty")
        ticket = arrival.ticket
        sender = (ticket.branch, ticket.node)
        if self._sent is None or self._sent[0] is not base:
            self._sent = (base, Sent.of(self._layout, base))
            self._model_hash = b"" if self._roster is None else bytes_hash(base.data)
        terms = Terms(
            self._federation,
            ticket,
            self._layout,
            base,
            last=self._last.get(sender),
            num_bytes=arrival.num_bytes,
            sent=self._sent[1],
            signer=self._signer(ticket.node),
            claim=self._claim,
        )
        checked = validated(arrival.content, terms)
        self._remember(sender, Accepted(ticket.version, checked.envelope.sequence))
        update = Update(
            delta=checked.delta,
            num_examples=checked.metrics[NUM_EXAMPLES],
            senders=(ticket.node,),
            version=ticket.version,
            metrics=checked.metrics,
            received=checked.packed,
        )
        return Received(updates=[update])

    def expire(self, ticket: Ticket) -> Received:
        """Return nothing: in the clear, nobody else depends on a missing update."""
        return Received()

    def state(self) -> Tree:
        """Return per branch and node the version and sequence of the last accepted update."""
        return [[*sender, last.version, last.sequence] for sender, last in self._last.items()]

    def load(self, state: Tree) -> None:
        """Take over what `state` returned.

        Raises
        ------
        StoreError
            If it is something else.
        """
        last: dict[tuple[str, int], Accepted] = {}
        for row in state if isinstance(state, list | tuple) else [state]:
            match row:
                case [str(branch), int(node), int(version), int(sequence)]:
                    last[branch, node] = Accepted(version, sequence)
                case _:
                    raise StoreError(
                        f"the state of an exchange holds {str(row)[:80]!r}, not a branch, a node, "
                        "a version and a sequence; use another checkpoint"
                    )
        self._last = last

    def _signer(self, node: int) -> Signer | None:
        """Return who must have signed a node's update; raise `MessageError` if nobody can have."""
        if self._roster is None:
            return None
        return Signer(self._roster.key_of(node), self._model_hash)

    def _forget(self, cohort: Sequence[Member]) -> None:
        newest: dict[str, int] = {}
        for ticket in (member.ticket for member in cohort):
            newest[ticket.branch] = max(ticket.version, newest.get(ticket.branch, 0))
        for branch, version in newest.items():
            if version > self._newest.get(branch, -1):
                self._newest[branch] = version
                self._last = {
                    sender: last
                    for sender, last in self._last.items()
                    if sender[0] != branch or last.version >= version
                }

    def _remember(self, sender: tuple[str, int], accepted: Accepted) -> None:
        self._last.pop(sender, None)
        self._last[sender] = accepted
        while len(self._last) > self._memory:
            del self._last[next(iter(self._last))]


def model_record(packed: Packed) -> ArrayRecord:
    """Return the record in which a packed model travels."""
    return ArrayRecord({PACKED: Array(packed)})
