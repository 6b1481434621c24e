"""The only place that sends messages and takes replies.

Everything the coordinator asks of a node goes out under a `Ticket` and comes back as an
`Arrival`: a reply, an error, or silence until the ticket was due. A ticket that was due, or that
was abandoned, no longer counts, but its node is taken to be busy with it until it answers or is
given up. `Mailbox.pump` may be entered from within a receiver's step (a vote inside a training
step): arrivals are filed by purpose, so that training stays out meanwhile.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Final, Literal, get_args

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from daafl.errors import FederationError
from daafl.flower import failure_name
from daafl.messages import Assignment
from daafl.payload import cohort_bytes, content_bytes
from daafl.strategies.clock import Announcing, Clock, WallClock

log: Final = logging.getLogger(__name__)

Purpose = Literal["hello", "train", "probe", "evaluate", "vote"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
FORGET_AFTER: Final = 3.0  # timeouts after which a silent node may be asked again
TIMEOUT: Final = "timeout"  # why a ticket failed: its node was silent until it was due
UNSENT: Final = "unsent"  # ... or the grid did not take the message


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
        Logical id of the node; for ``hello`` the address, since the id is not known yet, and for a
        whole cohort `daafl.messages.COHORT_NODE`.
    branch, version
        The model that was sent; ``version`` is -1 if none was.
    draw
        How often this node was asked at this version before.
    sent_at_s, due_by_s
        On the coordinator's clock; a reply after ``due_by_s`` does not count.
    is_live
        Whether the reply still counts.
    assignment
        What a node was asked, if it was asked to train; it is asked the same again after a restart.
    num_examples
        Training examples the node says it holds; a report of many more is refused.
    nodes, draws
        Logical ids of the members of a cohort that is asked as a whole, ascending, and the draw of
        each; empty for a single node.
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
    assignment: Assignment | None = None
    num_examples: int = 0
    nodes: tuple[int, ...] = ()
    draws: tuple[int, ...] = ()

    @property
    def num_asked(self) -> int:
        """How many nodes were asked."""
        return len(self.nodes) or 1

    @property
    def asked(self) -> tuple[int, ...]:
        """Logical ids of all nodes that were asked."""
        return self.nodes or (self.node,)

    @property
    def forget_at_s(self) -> float:
        """When a node that never answered is taken to be free again."""
        return self.sent_at_s + FORGET_AFTER * (self.due_by_s - self.sent_at_s)


@dataclass(frozen=True)
class Arrival:
    """What became of a ticket.

    ``content`` is the reply; ``None`` when there is none, and ``error`` then says why in a word:
    ``timeout``, ``unsent``, or one of `daafl.flower.FAILURE_NAMES`. It is empty otherwise.
    ``num_bytes`` is the size of the reply, where it has been counted.
    """

    ticket: Ticket
    content: RecordDict | None
    error: str
    at_s: float
    num_bytes: int | None = None


@dataclass(frozen=True)
class Outgoing:
    """A ticket with the message it stands for; ``address`` is Flower's node id."""

    ticket: Ticket
    address: int
    message_type: str
    content: RecordDict


@dataclass(frozen=True)
class MailboxState:
    """What a mailbox holds between two steps.

    Parameters
    ----------
    out
        Tickets that are out, oldest first, each with the id of its message.
    unsent
        Those of the ids that stand for messages which the grid did not take.
    last_id, bytes_up, bytes_down
        Tickets given out, and bytes so far.
    last_failure, told
        As the mailbox knows them.
    """

    out: tuple[tuple[str, Ticket], ...]
    unsent: tuple[str, ...]
    last_id: int
    bytes_up: int
    bytes_down: int
    last_failure: str
    told: tuple[str, ...]


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
        self._out: dict[str, Ticket] = {}  # by Flower's message id, in the order of sending
        self._unsent: set[str] = set()
        self._num_live: Counter[tuple[Purpose, str]] = Counter()  # nodes, by purpose and branch
        self._due: list[tuple[float, str]] = []  # a heap; also holds dates that were overtaken
        self._receivers: dict[Purpose, Callable[[Arrival], None]] = {}
        self._asked: dict[int, list[Arrival]] = {}  # by ticket: where `ask` waits for it
        self._last_id = 0
        self.last_failure = ""  # what the node that failed last said, for people
        self._told: set[str] = set()
        self.bytes_up = 0
        self.bytes_down = 0

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

    def skip_ids(self, count: int) -> None:
        """Count so many tickets as given out."""
        self._last_id += count

    @property
    def last_id(self) -> int:
        """The id given out last; seeds everything that must differ from ticket to ticket."""
        return self._last_id

    def live(self, *purposes: Purpose) -> list[Ticket]:
        """Return the tickets whose replies still count, oldest first."""
        return [t for t in self._out.values() if t.is_live and t.purpose in purposes]

    def num_live(self, purpose: Purpose, branch: str) -> int:
        """Return how many nodes were asked for a branch whose replies still count."""
        return self._num_live[purpose, branch]

    def busy_nodes(self) -> set[int]:
        """Return the logical ids of nodes that have not answered yet, late ones included."""
        asked = [t.asked for t in self._out.values() if t.purpose != "hello"]
        return set(chain.from_iterable(asked))

    def late_nodes(self) -> set[int]:
        """Return the logical ids of nodes that still owe an answer which no longer counts."""
        asked = [t.asked for t in self._out.values() if t.purpose != "hello" and not t.is_live]
        return set(chain.from_iterable(asked))

    def send(self, outgoing: Sequence[Outgoing]) -> None:
        """Push messages; the order of ``outgoing`` is the order of their ids.

        Raises
        ------
        FederationError
            If the grid takes none of them, which Flower's does when they are too large.
        """
        if not outgoing:
            return
        messages = [
            Message(
                item.content,
                dst_node_id=item.address,
                message_type=item.message_type,
                group_id=str(item.ticket.version),
            )
            for item in outgoing
        ]
        message_ids = list(self._grid.push_messages(messages))
        sizes = cohort_bytes([item.content for item in outgoing])
        if len(message_ids) != len(outgoing):
            raise FederationError(
                f"the grid took {len(message_ids)} of {len(outgoing)} messages of up to "
                f"{max(sizes)} bytes; the model may be too large for it"
            )
        for item, message_id in zip(outgoing, message_ids, strict=True):
            # A SuperLink gives no id to a message it cannot pass on.
            key = message_id or f"{UNSENT}-{item.ticket.id}"
            if not message_id:
                self._unsent.add(key)
            self._out[key] = item.ticket
            self._num_live[item.ticket.purpose, item.ticket.branch] += item.ticket.num_asked
            heappush(self._due, (self._next_s(key, item.ticket), key))
        self.bytes_down += sum(sizes)

    def state(self) -> MailboxState:
        """Return what is out, and the counts; only between steps, when nobody waits for answers."""
        return MailboxState(
            out=tuple(self._out.items()),
            unsent=tuple(sorted(self._unsent)),
            last_id=self._last_id,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            last_failure=self.last_failure,
            told=tuple(sorted(self._told)),
        )

    def load(self, state: MailboxState, *, is_still_out: bool) -> None:
        """Go on from an earlier `state`.

        Parameters
        ----------
        state
            From `state`.
        is_still_out
            Whether the grid still has the messages; else nothing is out, and whoever sent them is
            to send them again.
        """
        self._out = dict(state.out) if is_still_out else {}
        self._unsent = set(state.unsent) if is_still_out else set()
        self._num_live = Counter()
        for ticket in self.live(*PURPOSES):
            self._num_live[ticket.purpose, ticket.branch] += ticket.num_asked
        self._due = [(self._next_s(*item), item[0]) for item in self._out.items()]
        heapify(self._due)
        self._last_id = state.last_id
        self.bytes_up, self.bytes_down = state.bytes_up, state.bytes_down
        self.last_failure, self._told = state.last_failure, set(state.told)

    def abandon(self, should_abandon: Callable[[Ticket], bool]) -> int:
        """Stop counting on the live tickets that ``should_abandon`` names; return how many.

        Their nodes stay busy until they answer or are given up: a node does one thing at a time.
        """
        chosen = [item for item in self._out.items() if item[1].is_live and should_abandon(item[1])]
        for key, ticket in chosen:
            self._give_up_on(key, ticket)
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
            if now_s >= deadline_s or not self._out:
                return False
            next_s = min(deadline_s, self._next_due_s())
            self._clock.wait(max(next_s - now_s, 0.0))
            self._collect()
            self._expire()
        return True

    def ask(
        self,
        outgoing: Sequence[Outgoing],
        *,
        is_settled: Callable[[Sequence[Arrival]], bool] | None = None,
    ) -> list[Arrival]:
        """Send questions and return what became of each, in ticket order.

        Everything else is filed as usual meanwhile, and a receiver may ask in turn.

        Parameters
        ----------
        outgoing
            The questions.
        is_settled
            Whether the arrivals so far settle the matter. The others are then waited for as long
            again as it took, and abandoned, so that one silent node does not hold up everybody.
        """
        if not outgoing:
            return []
        arrivals: list[Arrival] = []
        asked = {item.ticket.id for item in outgoing}
        start_s = self._clock.now_s()
        self._asked.update((ticket_id, arrivals) for ticket_id in asked)
        self.send(outgoing)

        def are_all_in() -> bool:
            return len(arrivals) == len(asked)

        if is_settled is None:
            self.pump(are_all_in, math.inf)
        else:
            self.pump(lambda: are_all_in() or is_settled(arrivals), math.inf)
            now_s = self._clock.now_s()
            self.pump(are_all_in, now_s + (now_s - start_s))
            self.abandon(lambda ticket: ticket.id in asked)
            for ticket_id in asked:
                self._asked.pop(ticket_id, None)
        return sorted(arrivals, key=lambda arrival: arrival.ticket.id)

    def _next_s(self, key: str, ticket: Ticket) -> float:
        """Return when something happens to a ticket by itself."""
        if not ticket.is_live:
            return ticket.forget_at_s
        return -math.inf if key in self._unsent else ticket.due_by_s

    def _next_due_s(self) -> float:
        """Return when something happens to any ticket by itself."""
        while self._due and not self._is_due(*self._due[0]):
            heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def _is_due(self, at_s: float, key: str) -> bool:
        """Return whether a due date is that of the ticket as it is now."""
        ticket = self._out.get(key)
        return ticket is not None and at_s == self._next_s(key, ticket)

    def _give_up_on(self, key: str, ticket: Ticket) -> None:
        """Stop counting on a live ticket; its node stays busy."""
        self._out[key] = late = replace(ticket, is_live=False)
        self._num_live[ticket.purpose, ticket.branch] -= ticket.num_asked
        heappush(self._due, (late.forget_at_s, key))

    def _pullable(self) -> list[str]:
        """Return the ids of messages to ask the grid about."""
        if isinstance(self._grid, Announcing):
            return [key for key in self._grid.arrived() if key in self._out]
        return [key for key in self._out if key not in self._unsent]

    def _collect(self) -> None:
        now_s = self._clock.now_s()
        keys = self._pullable()
        for reply in self._grid.pull_messages(keys) if keys else ():
            ticket = self._out.pop(reply.metadata.reply_to_message_id, None)
            if ticket is None:
                continue
            if ticket.is_live:
                self._num_live[ticket.purpose, ticket.branch] -= ticket.num_asked
            if isinstance(self._clock, WallClock):
                self._clock.heard()
            if reply.has_error():
                self._take_note(ticket, reply.error)
                arrival = Arrival(ticket, None, failure_name(reply.error), now_s)
            else:
                num_bytes = content_bytes(reply.content)
                self.bytes_up += num_bytes
                arrival = Arrival(ticket, reply.content, "", now_s, num_bytes)
            if ticket.is_live:
                self._file(arrival)

    def _take_note(self, ticket: Ticket, error: Error) -> None:
        """Remember what a failing node said; people are told once for each kind of failure."""
        self.last_failure = f"node {ticket.node}: {_shown(error.reason)}"
        name = failure_name(error)
        if name not in self._told:
            self._told.add(name)
            log.warning("%s (%s; later ones are only counted)", self.last_failure, name)

    def _file(self, arrival: Arrival) -> None:
        """Hand an arrival to who asked for it, or else to the receiver of its purpose."""
        arrivals = self._asked.pop(arrival.ticket.id, None)
        receive = self._receivers[arrival.ticket.purpose] if arrivals is None else arrivals.append
        receive(arrival)

    def _expire(self) -> None:
        now_s = self._clock.now_s()
        due: dict[str, float] = {}
        while self._next_due_s() <= now_s:
            at_s, key = heappop(self._due)
            due[key] = at_s
        if not due:
            return
        for key, at_s in due.items():  # a receiver that waits is to find them as well
            heappush(self._due, (at_s, key))
        for key, ticket in [item for item in self._out.items() if item[0] in due]:
            if self._out.get(key) is not ticket:
                continue  # answered meanwhile, if a receiver before has waited for something
            if ticket.is_live:
                self._give_up_on(key, ticket)
                error = UNSENT if key in self._unsent else TIMEOUT
                self._file(Arrival(ticket, None, error, now_s))
            else:
                del self._out[key]
                self._unsent.discard(key)


def _shown(reason: str | None) -> str:
    """Return a node's own words on one line of at most 300 printable characters."""
    text = " ".join((reason or "no reason given").split())
    return "".join(c for c in text if c.isprintable())[:300]
