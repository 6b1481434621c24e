"""The only place that sends messages and takes replies.

Everything the coordinator asks of a node goes out under a `Ticket` and comes back as an
`Arrival`: a reply, an error, or silence until the ticket was due. `Mailbox.pump` may be entered
from within a receiver's step (a vote inside a training step): arrivals are filed by purpose, so
that training stays out meanwhile.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from daafl.strategies.clock import Clock, WallClock

Purpose = Literal["hello", "train", "probe", "evaluate"]
FORGET_AFTER: Final = 3.0  # timeouts after which a silent node may be asked again


@dataclass(frozen=True)
class Ticket:
    """One message that is out; its id makes the task it carries idempotent.

    Parameters
    ----------
    id
        Counts the tickets of a run from 1.
    purpose
        What was asked.
    node
        Logical id of the node; for ``hello`` the address, since the id is not known yet.
    branch, version
        The model that was sent; ``version`` is -1 if none was.
    draw
        How often this node was asked at this version before.
    sent_at_s, due_by_s
        On the coordinator's clock; a reply after ``due_by_s`` does not count.
    is_live
        Whether the reply still counts.
    """

    id: int
    purpose: Purpose
    node: int
    branch: str
    version: int
    draw: int
    sent_at_s: float
    due_by_s: float
    is_live: bool = True


@dataclass(frozen=True)
class Arrival:
    """What became of a ticket.

    ``content`` is the reply; ``None`` when the node reported an ``error`` or was silent until
    the ticket was due (``error`` is then ``timeout``).
    """

    ticket: Ticket
    content: RecordDict | None
    error: str | None
    at_s: float


@dataclass(frozen=True)
class Outgoing:
    """A ticket with the message it stands for; ``address`` is Flower's node id."""

    ticket: Ticket
    address: int
    message_type: str
    content: RecordDict


class Mailbox:
    """Sends tickets, files what comes back, and keeps count.

    Parameters
    ----------
    grid
        Flower's grid; this object is the only caller of its push and pull.
    clock
        Time for due dates and waiting.
    """

    def __init__(self, grid: Grid, clock: Clock) -> None:
        self._grid = grid
        self._clock = clock
        self._out: dict[str, Ticket] = {}
        self._receivers: dict[Purpose, Callable[[Arrival], None]] = {}
        self._last_id = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.late_replies: Counter[int] = Counter()

    def on(self, purpose: Purpose, receiver: Callable[[Arrival], None]) -> None:
        """Hand every arrival of ``purpose`` to ``receiver`` from now on."""
        self._receivers[purpose] = receiver

    @property
    def clock(self) -> Clock:
        """The clock that due dates are on."""
        return self._clock

    def next_id(self) -> int:
        """Return a fresh ticket id."""
        self._last_id += 1
        return self._last_id

    @property
    def last_id(self) -> int:
        """The id given out last; seeds everything that must differ from ticket to ticket."""
        return self._last_id

    def live(self, *purposes: Purpose) -> list[Ticket]:
        """Return the tickets whose replies still count, oldest first."""
        return [t for t in self._out.values() if t.is_live and t.purpose in purposes]

    def busy_nodes(self) -> set[int]:
        """Return the logical ids of nodes that have not answered yet, abandoned ones included."""
        return {t.node for t in self._out.values() if t.purpose != "hello"}

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Push messages; the order of ``outgoing`` is the order of their ids."""
        messages = [
            Message(
                item.content,
                dst_node_id=item.address,
                message_type=item.message_type,
                group_id=str(item.ticket.version),
            )
            for item in outgoing
        ]
        for item, message_id in zip(outgoing, self._grid.push_messages(messages), strict=True):
            self._out[message_id] = item.ticket
        sizes = _sizes(outgoing)
        self.bytes_down += sum(sizes)

    def abandon(self, should_abandon: Callable[[Ticket], bool]) -> int:
        """Stop counting on the live tickets that ``should_abandon`` names; return how many.

        Their nodes stay busy until they answer: a node does one thing at a time.
        """
        chosen = [k for k, t in self._out.items() if t.is_live and should_abandon(t)]
        for message_id in chosen:
            self._out[message_id] = replace(self._out[message_id], is_live=False)
        return len(chosen)

    def pump(self, until: Callable[[], bool], deadline_s: float) -> bool:
        """File arrivals until ``until()`` holds.

        Returns
        -------
        bool
            Whether ``until()`` holds; ``False`` if ``deadline_s`` came first or nothing is out
            that could change it.
        """
        while not until():
            now_s = self._clock.now_s()
            live = [t.due_by_s for t in self._out.values() if t.is_live]
            if now_s >= deadline_s or not live:
                return False
            self._clock.wait(max(min(deadline_s, *live) - now_s, 0.0))
            self._collect()
            self._expire()
        return True

    def ask(self, outgoing: Sequence[Outgoing]) -> list[Arrival]:
        """Send questions of one purpose and return what became of each, in ticket order.

        Other purposes are filed as usual meanwhile.
        """
        if not outgoing:
            return []
        arrivals: list[Arrival] = []
        asked = {item.ticket.id for item in outgoing}
        purpose = outgoing[0].ticket.purpose
        self.on(purpose, arrivals.append)
        self.send(outgoing)
        self.pump(lambda: not any(t.id in asked for t in self.live(purpose)), math.inf)
        return sorted(arrivals, key=lambda arrival: arrival.ticket.id)

    def _collect(self) -> None:
        now_s = self._clock.now_s()
        for reply in self._grid.pull_messages(list(self._out)):
            ticket = self._out.pop(reply.metadata.reply_to_message_id, None)
            if ticket is None:
                continue
            if isinstance(self._clock, WallClock):
                self._clock.heard()
            content = None if reply.has_error() else reply.content
            if content is not None:
                self.bytes_up += content_bytes(content)
            if not ticket.is_live:
                self.late_replies[ticket.node] += 1
                continue
            error = _error_reason(reply) if reply.has_error() else None
            self._receivers[ticket.purpose](Arrival(ticket, content, error, now_s))

    def _expire(self) -> None:
        now_s = self._clock.now_s()
        for message_id, ticket in list(self._out.items()):
            if ticket.is_live and now_s >= ticket.due_by_s:
                self._out[message_id] = replace(ticket, is_live=False)
                self._receivers[ticket.purpose](Arrival(ticket, None, "timeout", now_s))
            elif not ticket.is_live:
                allowed_s = FORGET_AFTER * (ticket.due_by_s - ticket.sent_at_s)
                if now_s >= ticket.sent_at_s + allowed_s:
                    del self._out[message_id]


def content_bytes(content: Mapping[str, object]) -> int:
    """Return the bytes of a message's arrays plus eight for each other value."""
    total = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        elif isinstance(record, Mapping):
            total += 8 * len(record)
    return total


def _sizes(outgoing: Sequence[Outgoing]) -> list[int]:
    """Return each message's size; messages of one cohort share their arrays, counted each."""
    known: dict[int, int] = {}
    sizes = []
    for item in outgoing:
        size = 0
        for record in item.content.values():
            if id(record) not in known:
                known[id(record)] = content_bytes({"": record})
            size += known[id(record)]
        sizes.append(size)
    return sizes


def _error_reason(reply: Message) -> str:
    """Return a short countable name for a node's error."""
    reason = (reply.error.reason or "").strip()
    for known in ("timeout", "worker_died"):
        if known in reason:
            return known
    return "node_error"
