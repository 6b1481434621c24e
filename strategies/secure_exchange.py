"""Updates that only their sums show: a cohort goes through the phases of one session per group.

::

    begin:   cohort -> groups -> a session each -> its first questions
    receive: an answer -> session; the last one of a phase -> next questions, or the group's update
    expire:  one answer fewer to wait for

A phase ends when every node that was asked has answered or has been given up. A node that fails is
not asked again in this session, and nobody takes its place: the others' masks are agreed on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from flwr.app import ArrayRecord

from daafl.errors import FederationError, MessageError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.messages import NUM_EXAMPLES, SATURATED, TRAIN_LOSS, WITHIN_CLIP
from daafl.secure.header import HeaderSum
from daafl.store.tree import Tree
from daafl.strategies.clock import Clock
from daafl.strategies.exchange import Member, Received, model_record
from daafl.strategies.groups import divided
from daafl.strategies.mailbox import Arrival, Outgoing, Ticket
from daafl.strategies.regime import Offer
from daafl.strategies.secure_session import GroupSum, Questions, Session
from daafl.strategies.validation import Sent, checked_mean

log: Final = logging.getLogger(__name__)

SESSION_FAILED: Final = "secure_sum_failed"  # counted for each member of a group without a sum

MakeSession = Callable[[Sequence[Member], Packed, ArrayRecord, int], Session]
"""Called with a group, the model, its record, and when the round began in ms since 1970."""


@dataclass
class _Open:
    """A session that runs, with the tickets it waits for."""

    session: Session
    members: dict[int, Member]
    packed: Packed
    waiting: set[int] = field(default_factory=set)

    @property
    def branch(self) -> str:
        """Name of the model's branch."""
        return next(iter(self.members.values())).ticket.branch

    @property
    def version(self) -> int:
        """Version of the model."""
        return next(iter(self.members.values())).ticket.version


class SecureExchange:
    """Runs sessions of a secure sum, one per group of a cohort.

    Parameters
    ----------
    layout
        Layout of the model.
    make_session
        Makes the coordinator's side of a group's session.
    group_size
        Fewest nodes of a group; ``None`` for the whole cohort.
    seed
        Seed of the run, for the groups.
    clock
        Time for due dates of the later phases.
    next_id
        Returns a fresh ticket id.
    """

    offers = Offer(individuals=False, losses="per_group")
    cohort_address: int | None = None
    is_joint = True

    def __init__(
        self,
        layout: Layout,
        make_session: MakeSession,
        *,
        group_size: int | None,
        seed: int,
        clock: Clock,
        next_id: Callable[[], int],
    ) -> None:
        self._layout = layout
        self._make_session = make_session
        self._group_size = group_size
        self._seed = seed
        self._clock = clock
        self._next_id = next_id
        self._open: dict[int, _Open] = {}  # by ticket
        self._sent: tuple[Packed, Sent] | None = None
        self._last_attempt = 0

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return the questions that open a session with every group of ``cohort``."""
        if not cohort:
            return []
        branch, version = cohort[0].ticket.branch, cohort[0].ticket.version
        self._forget(branch, version)
        model = model_record(packed)
        # Nodes refuse a session that is not newer than their last one, also after a restart.
        self._last_attempt = max(time.time_ns() // 1_000_000, self._last_attempt + 1)
        groups = divided(cohort, self._group_size, seed=self._seed, number=cohort[0].ticket.id)
        outgoing = []
        for group in groups:
            session = self._make_session(group, packed, model, self._last_attempt)
            members = {member.ticket.node: member for member in group}
            opened = _Open(session, members, packed)
            outgoing += self._asked(opened, session.questions(), is_first=True)
        return outgoing

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Hand an answer to its session; return what follows if it was the last of its phase.

        Raises
        ------
        MessageError
            If the session refuses it. The ticket is then to be given up with `expire`.
        """
        ticket = arrival.ticket
        found = self._open.get(ticket.id)
        if found is None or arrival.content is None:
            raise MessageError("session", "the answer belongs to no session that is open")
        found.session.receive(ticket.node, arrival.content)
        return self._after(ticket)

    def expire(self, ticket: Ticket) -> Received:
        """Go on without an answer; return what follows if it was the last of its phase."""
        return self._after(ticket)

    def state(self) -> Tree:
        """Return nothing: the secrets of a session are in memory only, and it starts anew."""
        return None

    def load(self, state: Tree) -> None:
        """Take over what `state` returned: nothing."""

    def _after(self, ticket: Ticket) -> Received:
        found = self._open.pop(ticket.id, None)
        if found is None:
            return Received()
        found.waiting.discard(ticket.id)
        if found.waiting:
            return Received()
        try:
            result = found.session.close()
            if not isinstance(result, GroupSum):
                return Received(outgoing=self._asked(found, result))
            if result.faulty:
                log.warning("nodes %s returned something false", result.faulty)
            return Received(updates=[self._update(found, result)])
        except MessageError as error:
            return Received(refused=error.reason)
        except FederationError as error:
            log.warning("a secure sum of %d nodes failed: %s", len(found.members), error)
            return Received(failures={SESSION_FAILED: len(found.members)})

    def _asked(
        self, found: _Open, questions: Questions, *, is_first: bool = False
    ) -> list[Outgoing]:
        now_s = self._clock.now_s()
        outgoing = []
        for node, question in questions.items():
            member = found.members[node]
            ticket = member.ticket
            if not is_first:
                span_s = ticket.due_by_s - ticket.sent_at_s
                ticket = replace(
                    ticket, id=self._next_id(), sent_at_s=now_s, due_by_s=now_s + span_s
                )
            found.waiting.add(ticket.id)
            self._open[ticket.id] = found
            outgoing.append(
                Outgoing(ticket, member.address, question.message_type, question.content)
            )
        return outgoing

    def _update(self, found: _Open, summed: GroupSum) -> Update:
        """Return a group's update; nobody's training diverged if it passes."""
        base = found.packed
        if not summed.header.num_examples:
            raise MessageError("finiteness", "no node of the group has a finite update")
        if self._sent is None or self._sent[0] is not base:
            self._sent = (base, Sent.of(self._layout, base))
        delta = checked_mean(summed.mean, self._sent[1], self._layout)
        return Update(
            delta=delta,
            num_examples=summed.header.num_examples,
            senders=summed.nodes,
            version=found.version,
            metrics=_metrics(summed.header),
        )

    def _forget(self, branch: str, version: int) -> None:
        """Drop sessions on older models: whatever they come to no longer counts."""
        self._open = {
            ticket: found
            for ticket, found in self._open.items()
            if found.version >= version or found.branch != branch
        }


def _metrics(header: HeaderSum) -> dict[str, float]:
    metrics: dict[str, float] = {
        NUM_EXAMPLES: header.num_examples,
        SATURATED: header.saturated_fraction,
        WITHIN_CLIP: header.within_clip_fraction,
    }
    if header.mean_loss is not None:
        metrics[TRAIN_LOSS] = header.mean_loss
    return metrics
