"""How the updates of a cohort are obtained.

Plain, masked and encrypted exchanges differ in what travels and in how many messages it takes;
the step sees only cohorts that go out and `Update` objects that come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, MessageType, RecordDict

from daafl.errors import MessageError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.messages import ARRAYS, CONFIG, PACKED, Assignment
from daafl.strategies.mailbox import Arrival, Outgoing, Ticket
from daafl.strategies.regime import Offer
from daafl.strategies.validation import (
    check_finite,
    checked_envelope,
    checked_metrics,
    checked_model,
)


@dataclass(frozen=True)
class Member:
    """One node of a cohort with what it is asked to do."""

    address: int
    ticket: Ticket
    assignment: Assignment


@dataclass(frozen=True)
class Received:
    """What an arrival amounts to: messages to send next, and updates that are ready."""

    outgoing: Sequence[Outgoing] = ()
    updates: Sequence[Update] = ()


class Exchange(Protocol):
    """A protocol for obtaining the updates of a cohort."""

    offers: Offer

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return the messages that open the exchange with ``cohort`` over a model."""

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Open a reply to a model ``base``; raise `MessageError` if it must not be used."""

    def expire(self, ticket: Ticket) -> Received:
        """Take note that ``ticket`` will not be answered."""


class PlainExchange:
    """Every node sends its trained model in the clear.

    Parameters
    ----------
    federation
        Name of the federation that envelopes must carry.
    layout
        Layout of the model.
    memory
        Identities of accepted updates that are remembered to refuse repeated ones.
    """

    offers = Offer(individuals=True, losses="per_node")

    def __init__(self, federation: str, layout: Layout, memory: int = 100_000) -> None:
        self._federation = federation
        self._layout = layout
        self._memory = memory
        self._accepted: dict[tuple[str, str, int, int, int], None] = {}

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return one TRAIN message per member; all share one copy of the model."""
        arrays = model_record(packed)
        return [
            Outgoing(
                member.ticket,
                member.address,
                MessageType.TRAIN,
                RecordDict({ARRAYS: arrays, CONFIG: member.assignment.to_record()}),
            )
            for member in cohort
        ]

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Return the one update in a reply.

        Raises
        ------
        MessageError
            If the update fails a check or was accepted before (reason ``duplicate``).
        """
        content = arrival.content
        if content is None:
            raise MessageError("schema", "the reply is empty")
        envelope = checked_envelope(content, arrival.ticket, self._federation)
        if envelope.key in self._accepted:
            raise MessageError("duplicate", f"update {envelope.key} was accepted before")
        metrics = checked_metrics(content)
        packed = checked_model(content, self._layout)
        with np.errstate(over="ignore", invalid="ignore"):  # refused in the next line
            delta = self._layout.vector(packed) - self._layout.vector(base)
        check_finite(delta)
        self._remember(envelope.key)
        update = Update(
            delta=delta,
            num_examples=metrics["num-examples"],
            senders=(arrival.ticket.node,),
            version=arrival.ticket.version,
            metrics=metrics,
            received=packed,
        )
        return Received(updates=[update])

    def expire(self, ticket: Ticket) -> Received:
        """Return nothing: in the clear, nobody else depends on a missing update."""
        return Received()

    def _remember(self, key: tuple[str, str, int, int, int]) -> None:
        self._accepted[key] = None
        while len(self._accepted) > self._memory:
            del self._accepted[next(iter(self._accepted))]


def model_record(packed: Packed) -> ArrayRecord:
    """Return the record in which a packed model travels."""
    return ArrayRecord({PACKED: Array(packed)})
