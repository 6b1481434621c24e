"""Committees: nodes that had no part in a model vote on it before it is built upon.

Voters compare the candidate with the model accepted last, on examples of their own, and vote no
only on material harm (`daafl.learning.ballot`). It is adopted when the share in favour, of those
who voted, reaches a threshold. With a share f of the voters lying and (1 + f) / 2 as the threshold,
the liars can neither adopt what all honest voters refuse (they are f) nor reject what all of them
favour (1 - f >= (1 + f) / 2) as long as f <= 1/3. Seats are drawn at random, so that with f close
to 1/3 a committee may hold more liars than that: with nine unknown liars among thirty nodes, about
one vote in four gives up a good model, which costs the steps since the last vote.

A committee sees what honest data shows. It is blind to a backdoor, which leaves honest examples
alone, and to harm done to classes that few voters hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from daafl.errors import MessageError
from daafl.learning.layout import Packed
from daafl.messages import ACCEPTED, ARRAYS, CONFIG, METRICS, PACKED, QUERY_VOTE, Ballot
from daafl.observability.events import Outcome, Vote
from daafl.strategies.branch import Branch
from daafl.strategies.collecting import Collector, Tally
from daafl.strategies.mailbox import Arrival, Mailbox, Outgoing
from daafl.strategies.selection import uniform
from daafl.strategies.validation import check_records

COMMITTEE_SIZE: Final = 15
MIN_VOTERS: Final = 3  # fewer cannot outvote a single liar
QUORUM: Final = 2 / 3  # share of the seats that must vote
SITTINGS: Final = 2  # the second one replaces those who were silent in the first
ROUNDING: Final = 1e-9  # votes: two thirds of 15 seats are 10
_SEATS_STREAM: Final = 2  # keeps draws of seats apart from other seeded draws of the run

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Poll:
    """Votes so far, and what they amount to."""

    num_seats: int
    threshold: float
    in_favour: int = 0
    against: int = 0

    @property
    def has_quorum(self) -> bool:
        """Whether two thirds of the seats have voted, and three voters at least."""
        needed = max(math.ceil(QUORUM * self.num_seats - ROUNDING), MIN_VOTERS)
        return self.in_favour + self.against >= needed

    def after(self, ballots: Sequence[Ballot]) -> _Poll:
        """Return the poll with further ballots counted."""
        in_favour = sum(ballot.is_in_favour for ballot in ballots)
        return replace(
            self,
            in_favour=self.in_favour + in_favour,
            against=self.against + len(ballots) - in_favour,
        )

    def outcome(self, num_open: int) -> Outcome | None:
        """Return the outcome; ``None`` while ``num_open`` further votes could still change it."""
        if not self.has_quorum:
            return None if num_open else "no_quorum"
        needed = self.threshold * (self.in_favour + self.against + num_open) - ROUNDING
        if self.in_favour >= needed:
            return "adopted"
        return "rejected" if self.in_favour + num_open < needed else None


class Committee:
    """Draws voters, asks them, and counts.

    Parameters
    ----------
    mailbox, collector
        How nodes are reached.
    size
        Seats; fewer if there are not as many nodes that may vote.
    """

    def __init__(
        self, mailbox: Mailbox, collector: Collector, *, size: int = COMMITTEE_SIZE
    ) -> None:
        self._mailbox = mailbox
        self._collector = collector
        self._size = size
        self._has_told = False

    def vote(
        self,
        branch: Branch,
        candidate: Packed,
        accepted: Packed,
        *,
        accepted_version: int,
        excluded: frozenset[int],
        threshold: float,
        tally: Tally,
        reply_timeout_s: float,
    ) -> Vote | None:
        """Return what a committee says about a branch's model.

        It waits until the outcome is certain, and as long again for the others, at most
        ``reply_timeout_s``. If too few vote, those who were silent are replaced, once. Training
        that is out goes on meanwhile and is filed as usual.

        Parameters
        ----------
        branch
            Whose members vote; its version is the candidate's.
        candidate, accepted
            The model to vote on, and the one it is compared with.
        accepted_version
            Version of the latter.
        excluded
            Nodes that get no seat: those that had a part in the candidate, and those under
            suspicion. Nodes in quarantine, or that owe a late answer, get none either.
        threshold
            Share in favour, of those who vote, from which the candidate is adopted.
        tally
            Counts silent nodes, and ballots that could not be read.
        reply_timeout_s
            Seconds a voter has.

        Returns
        -------
        Vote or None
            ``None`` if there are fewer than three nodes to ask.
        """
        seats = self._drawn(branch, excluded, self._size)
        num_seats = len(seats)
        if num_seats < MIN_VOTERS:
            self._tell(num_seats)
            return None
        arrays = ArrayRecord({PACKED: Array(candidate), ACCEPTED: Array(accepted)})
        poll = _Poll(num_seats, threshold)
        asked = excluded
        for _ in range(SITTINGS):
            arrivals = self._mailbox.ask(
                self._questions(branch, seats, arrays, reply_timeout_s),
                is_settled=partial(_is_settled, poll, len(seats)),
            )
            poll = poll.after(self._counted(arrivals, tally))
            asked |= frozenset(seats)
            if poll.has_quorum:
                break
            seats = self._drawn(branch, asked, num_seats - poll.in_favour - poll.against)
        return Vote(
            version=branch.version,
            accepted=accepted_version,
            seated=num_seats,
            in_favour=poll.in_favour,
            against=poll.against,
            threshold=threshold,
            outcome=poll.outcome(num_open=0) or "no_quorum",
        )

    def _drawn(self, branch: Branch, excluded: frozenset[int], count: int) -> list[int]:
        """Return at most ``count`` nodes, drawn uniformly; busy ones only if too few are idle.

        A question to a busy node waits behind its training.
        """
        busy = self._mailbox.busy_nodes()
        rng = np.random.default_rng([self._collector.seed, _SEATS_STREAM, self._mailbox.last_id])
        idle = uniform(self._collector.reachable(branch, excluded | busy), count, rng)
        if len(idle) == count:
            return idle
        others = self._collector.reachable(branch, excluded, among=sorted(busy))
        return idle + uniform(others, count - len(idle), rng)

    def _questions(
        self, branch: Branch, seats: Sequence[int], arrays: ArrayRecord, reply_timeout_s: float
    ) -> list[Outgoing]:
        return [
            Outgoing(
                member.ticket,
                member.address,
                QUERY_VOTE,
                RecordDict({ARRAYS: arrays, CONFIG: member.assignment.to_record()}),
            )
            for member in self._collector.invited(
                branch, seats, "vote", reply_timeout_s=reply_timeout_s
            )
        ]

    def _counted(self, arrivals: Sequence[Arrival], tally: Tally) -> list[Ballot]:
        """Return the ballots; what is none is counted against its sender, as silence is."""
        ballots = []
        for arrival in arrivals:
            if arrival.content is None:
                tally.failures[arrival.error] += 1
                self._collector.strike(arrival.ticket, arrival.error)
                continue
            try:
                ballots.append(ballot_of(arrival.content))
            except MessageError as error:
                tally.refuse(error.reason)
                self._collector.strike(arrival.ticket, error.reason)
        return ballots

    def _tell(self, num_seats: int) -> None:
        """Say once why nobody votes."""
        if not self._has_told:
            self._has_told = True
            log.warning(
                "no committee votes on the model: %d nodes may vote, but %d are needed; ask fewer "
                "nodes to train at a time (pacing.concurrency)",
                num_seats,
                MIN_VOTERS,
            )


def ballot_of(content: RecordDict) -> Ballot:
    """Return the ballot in a node's answer.

    Raises
    ------
    MessageError
        If there is none, or one that is malformed.
    """
    check_records(content)
    record = content.get(METRICS)
    if not isinstance(record, MetricRecord):
        raise MessageError("schema", f"an answer to a vote has no record {METRICS!r} of numbers")
    return Ballot.from_record(record)


def _is_settled(poll: _Poll, num_asked: int, arrivals: Sequence[Arrival]) -> bool:
    """Return whether those who were asked and have not answered cannot change the outcome."""
    poll = poll.after([ballot for ballot in map(_readable, arrivals) if ballot is not None])
    return poll.outcome(num_open=num_asked - len(arrivals)) is not None


def _readable(arrival: Arrival) -> Ballot | None:
    if arrival.content is None:
        return None
    try:
        return ballot_of(arrival.content)
    except MessageError:
        return None  # counted against its sender once the committee has voted
