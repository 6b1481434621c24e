"""An exchange that writes down, for others to check, what was accepted of whom and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from flwr.app import ConfigRecord

from daafl.errors import MessageError
from daafl.learning.layout import Packed
from daafl.learning.update import Update
from daafl.messages import ENVELOPE
from daafl.secure.trail import Trail
from daafl.store.tree import Tree
from daafl.strategies.exchange import Exchange, Member, Received
from daafl.strategies.mailbox import Arrival, Outgoing, Ticket

_MOST_LISTED: Final = 1000  # senders written out; of more, the number and a digest


class AuditedExchange:
    """Passes everything on, and notes updates and refusals in an audit log.

    Parameters
    ----------
    inner
        The exchange itself.
    trail
        The log.
    """

    def __init__(self, inner: Exchange, trail: Trail) -> None:
        self._inner = inner
        self._trail = trail
        self.offers = inner.offers
        self.is_joint = inner.is_joint

    @property
    def cohort_address(self) -> int | None:
        """As the inner exchange has it."""
        return self._inner.cohort_address

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return the messages that open an exchange; the model that was sent is noted."""
        if cohort:
            ticket = cohort[0].ticket
            self._trail.note(
                "model_sent",
                branch=ticket.branch,
                version=ticket.version,
                nodes=len(cohort),
                model=sha256(packed.data).hexdigest(),
            )
        return self._inner.begin(cohort, packed)

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Open a reply; its updates, or why it must not be used, are noted.

        Raises
        ------
        MessageError
            As the inner exchange.
        """
        try:
            received = self._inner.receive(arrival, base)
        except MessageError as error:
            self._note_refused(arrival.ticket, error.reason)
            raise
        self._note(arrival.ticket, received, _signature(arrival))
        return received

    def expire(self, ticket: Ticket) -> Received:
        """Take note that a ticket will not be answered."""
        received = self._inner.expire(ticket)
        self._note(ticket, received, None)
        return received

    def state(self) -> Tree:
        """Return the inner exchange's."""
        return self._inner.state()

    def load(self, state: Tree) -> None:
        """Take over what `state` returned."""
        self._inner.load(state)

    def _note(self, ticket: Ticket, received: Received, signature: str | None) -> None:
        for update in received.updates:
            self._trail.note(
                "update_accepted",
                branch=ticket.branch,
                version=update.version,
                senders=_senders(update),
                examples=int(update.num_examples),
                update=sha256(update.delta.data).hexdigest(),
                signature=signature,
            )
        if received.refused:
            self._note_refused(ticket, received.refused)
        for reason, count in received.failures.items():
            self._trail.note(
                "sum_failed",
                branch=ticket.branch,
                version=ticket.version,
                nodes=count,
                reason=reason,
            )

    def _note_refused(self, ticket: Ticket, reason: str) -> None:
        self._trail.note(
            "message_refused",
            branch=ticket.branch,
            version=ticket.version,
            node=ticket.node,
            reason=reason,
        )


def _signature(arrival: Arrival) -> str | None:
    record = arrival.content.get(ENVELOPE) if arrival.content is not None else None
    found = record.get("signature") if isinstance(record, ConfigRecord) else None
    return found.hex() if isinstance(found, bytes) else None


def _senders(update: Update) -> str:
    text = " ".join(map(str, update.senders))
    if len(update.senders) <= _MOST_LISTED:
        return text
    return f"{len(update.senders)} nodes, sha256 {sha256(text.encode()).hexdigest()}"
