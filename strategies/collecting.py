"""Keeping assignments out and gathering updates, under one pacing rule.

A step closes when the quorum is in, the deadline has passed, or nothing that can still count is
out. What is then taken out of the branch's buffer is what the step combines. Assignments go out
only while a step waits: once the quorum is in, the next ones carry the model it leads to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from daafl.errors import MessageError
from daafl.learning.update import Update
from daafl.loops.node_failures import RETRIES
from daafl.messages import Assignment, Scalar
from daafl.strategies.assignment import Assign
from daafl.strategies.branch import Branch, Buffered
from daafl.strategies.exchange import Exchange, Member
from daafl.strategies.mailbox import UNSENT, Arrival, Mailbox, Purpose, Ticket
from daafl.strategies.pacing import Pacing
from daafl.strategies.roster import Roster
from daafl.strategies.screening import Examiner
from daafl.strategies.selection import NodeFacts, Selection
from daafl.strategies.spool import Spool
from daafl.strategies.standing import Conduct, Discipline, acquitted, barred, next_step, struck

NONFINITE_MODEL: Final = "nonfinite_model"  # counted once when a step's model is not used
_SELECTION_STREAM: Final = 1  # keeps draws of nodes apart from other seeded draws of the run


@dataclass
class Tally:
    """What happened to a step's messages, by reason."""

    rejected: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    num_replies: int = 0
    num_refused: int = 0
    sentenced: dict[int, str] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        """Count a reply that failed a check, unlike one that is merely late or surplus."""
        self.rejected[reason] += 1
        self.num_refused += 1

    @property
    def nonfinite_fraction(self) -> float:
        """Share of the replies that exploded, to NaN or beyond any credible size.

        It is 1 if what the others combine to is not finite.
        """
        if self.rejected[NONFINITE_MODEL]:
            return 1.0
        num_exploded = self.rejected["finiteness"] + self.rejected["norm"]
        return num_exploded / max(self.num_replies, 1)


@dataclass(frozen=True)
class Terms:
    """What is the same for every assignment of a run.

    Parameters
    ----------
    federation, layout, seed
        As in every `Assignment`.
    settings
        Settings of the user's own that nodes get with every assignment.
    select, assign
        Which nodes take part, and how much each is asked to do.
    """

    federation: str
    layout: str
    seed: int
    settings: Mapping[str, Scalar]
    select: Selection
    assign: Assign


@dataclass(frozen=True)
class CollectorState:
    """What a collector carries from step to step.

    Parameters
    ----------
    pacing
        As in the last step; it holds for replies that come in before the next one collects.
    conduct
        Strikes against nodes, and who is in quarantine.
    """

    pacing: Pacing
    conduct: Conduct


class Collector:
    """Sends assignments for branches and collects the updates that come back.

    Parameters
    ----------
    terms
        Settings of the run.
    mailbox, exchange, roster
        How nodes are reached, and which there are.
    examiner
        Takes down the evidence of an update when it comes in, since a large one then leaves
        memory for a file.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        mailbox: Mailbox,
        exchange: Exchange,
        roster: Roster,
        examiner: Examiner,
    ) -> None:
        self._terms = terms
        self._mailbox = mailbox
        self._exchange = exchange
        self._roster = roster
        self._examiner = examiner
        self.spool = Spool()
        self._open: dict[str, Branch] = {}
        self._pacing = Pacing()
        self._settings: dict[str, tuple[int, Mapping[str, Scalar]]] = {}
        self.tally = Tally()
        self.conduct = Conduct()
        self._replacements = 0  # that may still be sent in this step
        self._failed_now: set[int] = set()
        mailbox.on("train", self._receive)

    def collect(self, branch: Branch, pacing: Pacing) -> list[Buffered]:
        """Run one step's worth of training and return the updates to combine, in ticket order.

        Updates that are behind the branch's version are damped by 1/sqrt(1 + versions behind)
        (Nguyen et al. 2022, section 5); fresh ones are passed on untouched.
        """
        self._open[branch.name] = branch
        self._pacing = pacing
        self.conduct = next_step(self.conduct)
        self._failed_now.clear()
        self._replacements = _num_retries(branch) * pacing.quorum
        deadline_s = self._mailbox.clock.now_s() + (pacing.deadline_s or math.inf)
        self._refill(branch)
        if self._may_close(branch) and not self._has_quorum(branch):
            # Every node is still busy with something that no longer counts.
            self._mailbox.pump(lambda: bool(self._free_nodes(branch)), deadline_s)
            self._refill(branch)
        self._mailbox.pump(lambda: self._may_close(branch), deadline_s)
        self._replacements = 0
        taken = self._taken(branch)
        ordered = sorted(taken, key=lambda item: (item.update.version, item.ticket))
        return [
            replace(item, update=_damped(item.update, branch.version - item.update.version))
            for item in ordered
        ]

    def cohort(
        self, branch: Branch, count: int, purpose: Purpose, *, reply_timeout_s: float
    ) -> list[Member]:
        """Return at most ``count`` members of the branch, with tickets and assignments.

        Training goes to free nodes. Other questions may queue behind training that counts, but
        nobody waits for nodes that are late already.
        """
        is_training = purpose == "train"
        candidates = self._free_nodes(branch) if is_training else self.reachable(branch)
        chosen = self._drawn(candidates, count)
        return self.invited(branch, chosen, purpose, reply_timeout_s=reply_timeout_s)

    @property
    def seed(self) -> int:
        """Seed of the run, for draws of nodes."""
        return self._terms.seed

    def reachable(self, branch: Branch) -> list[NodeFacts]:
        """Return the members of the branch that may be asked and owe no answer that is late."""
        out = self._mailbox.late_nodes() | self.quarantined(branch)
        return self._roster.facts(node for node in branch.members if node not in out)

    def quarantined(self, branch: Branch) -> frozenset[int]:
        """Return the members of the branch that are asked for nothing, for what they did."""
        return barred(self.conduct, branch.members, least=self._roster.min_nodes)

    def troubled(self, branch: Branch) -> dict[int, str]:
        """Return the members put into quarantine since the tally began, with their last fault."""
        out = self.quarantined(branch)
        return {node: fault for node, fault in self.tally.sentenced.items() if node in out}

    def strike(self, ticket: Ticket, fault: str) -> None:
        """Hold a message that was of no use against its node, whatever it was asked."""
        if fault == UNSENT:
            return  # it never heard of it
        before, branch = self.conduct.of(ticket.node), self._open[ticket.branch]
        self.conduct = struck(self.conduct, ticket.node, fault, Discipline.of(branch.plan))
        self._failed_now.add(ticket.node)
        if self.conduct.of(ticket.node).sentences > before.sentences:
            self.tally.sentenced[ticket.node] = fault

    def invited(
        self, branch: Branch, nodes: Sequence[int], purpose: Purpose, *, reply_timeout_s: float
    ) -> list[Member]:
        """Return these members of the branch, with tickets and assignments."""
        self._open[branch.name] = branch
        due_by_s = self._mailbox.clock.now_s() + reply_timeout_s
        return [self._member(branch, node, purpose, due_by_s) for node in nodes]

    def abandon(self, branch: Branch) -> None:
        """Stop counting on the training that is out for ``branch``."""
        self._abandon(branch, lambda ticket: True)

    def abandon_stale(self, branch: Branch) -> None:
        """Stop counting on training that is too far behind, now that there is a new model.

        Where stale updates are allowed, those that are too stale are counted as rejected.
        """
        limit = self._pacing.max_staleness
        num_stale = self._abandon(branch, lambda ticket: branch.version - ticket.version > limit)
        if limit > 0 and num_stale > 0:
            self.tally.rejected["stale"] += num_stale

    def versions_out(self, branch: Branch) -> frozenset[int]:
        """Return the versions of ``branch`` whose training still counts."""
        return frozenset(ticket.version for ticket in self._training(branch))

    def state(self) -> CollectorState:
        """Return what decides later steps, apart from the mailbox and the branches."""
        return CollectorState(self._pacing, self.conduct)

    def load(self, state: CollectorState, branch: Branch) -> None:
        """Go on from an earlier `state`, collecting for ``branch``."""
        self._pacing = state.pacing
        self.conduct = state.conduct
        self._open[branch.name] = branch

    def send_again(self, branch: Branch, tickets: Sequence[Ticket]) -> None:
        """Ask for training that was out when an earlier coordinator ended, as it was asked then.

        The tickets keep their ids and have all of their time again. Nodes that are gone are left
        out: their places are free.
        """
        now_s = self._mailbox.clock.now_s()
        cohorts: dict[int, list[Member]] = {}
        for ticket in tickets:
            if ticket.assignment is None or ticket.version not in branch.bases:
                continue
            age_s = now_s - ticket.sent_at_s
            again = replace(ticket, sent_at_s=now_s, due_by_s=ticket.due_by_s + age_s)
            cohorts.setdefault(ticket.version, []).extend(
                Member(facts.address, again, ticket.assignment)
                for facts in self._roster.facts([ticket.node])
            )
        for version, cohort in cohorts.items():
            self._mailbox.send(self._exchange.begin(cohort, branch.bases[version]))

    def _abandon(self, branch: Branch, should_abandon: Callable[[Ticket], bool]) -> int:
        return self._mailbox.abandon(
            lambda t: t.purpose == "train" and t.branch == branch.name and should_abandon(t)
        )

    def _training(self, branch: Branch) -> list[Ticket]:
        return [t for t in self._mailbox.live("train") if t.branch == branch.name]

    def _free_nodes(self, branch: Branch) -> list[NodeFacts]:
        out = self._mailbox.busy_nodes() | self.quarantined(branch)
        return self._roster.facts(node for node in branch.members if node not in out)

    def _refill(self, branch: Branch) -> None:
        wanted = self._pacing.concurrency - len(self._training(branch))
        if wanted <= 0 or self._has_quorum(branch):
            return
        timeout_s = self._pacing.reply_timeout_s
        self._begin(branch, self.cohort(branch, wanted, "train", reply_timeout_s=timeout_s))

    def _replace(self, branch: Branch) -> None:
        """Ask another node in place of one that failed, if the step has a replacement left."""
        if self._replacements < 1 or self._has_quorum(branch):
            return
        others = [f for f in self._free_nodes(branch) if f.node not in self._failed_now]
        chosen = self._drawn(others, 1)
        timeout_s = self._pacing.reply_timeout_s
        self._begin(branch, self.invited(branch, chosen, "train", reply_timeout_s=timeout_s))
        self._replacements -= len(chosen)

    def _drawn(self, candidates: Sequence[NodeFacts], count: int) -> list[int]:
        stream = [self._terms.seed, _SELECTION_STREAM, self._mailbox.last_id]
        return self._terms.select(candidates, count, np.random.default_rng(stream))

    def _begin(self, branch: Branch, cohort: Sequence[Member]) -> None:
        if cohort:
            branch.bases[branch.version] = branch.packed
            self._mailbox.send(self._exchange.begin(cohort, branch.packed))

    def _member(self, branch: Branch, node: int, purpose: Purpose, due_by_s: float) -> Member:
        (facts,) = self._roster.facts([node])
        work = self._terms.assign(facts, branch.plan)
        ticket = Ticket(
            id=self._mailbox.next_id(),
            purpose=purpose,
            node=node,
            branch=branch.name,
            version=branch.version,
            draw=branch.next_draw(node) if purpose == "train" else 0,
            sent_at_s=self._mailbox.clock.now_s(),
            due_by_s=due_by_s,
            num_examples=facts.num_examples,
        )
        assignment = Assignment(
            federation=self._terms.federation,
            branch=branch.name,
            version=branch.version,
            ticket=ticket.id,
            draw=ticket.draw,
            seed=self._terms.seed,
            lr=work.lr,
            local_steps=work.local_steps,
            batch_size=work.batch_size,
            plan_hash=branch.plan.digest,
            layout=self._terms.layout,
            settings=self._node_settings(branch),
        )
        if purpose == "train":
            ticket = replace(ticket, assignment=assignment)
        return Member(facts.address, ticket, assignment)

    def _node_settings(self, branch: Branch) -> Mapping[str, Scalar]:
        """Ask the optimiser once per version: a Flower strategy takes note of being asked."""
        version, settings = self._settings.get(branch.name, (-1, {}))
        if version != branch.version:
            settings = {**self._terms.settings, **branch.optimizer.node_config()}
            self._settings[branch.name] = (branch.version, settings)
        return settings

    def _receive(self, arrival: Arrival) -> None:
        ticket = arrival.ticket
        branch = self._open[ticket.branch]
        if arrival.content is None:
            self.tally.failures[arrival.error] += 1
            self.strike(ticket, arrival.error)
            received = self._exchange.expire(ticket)
        else:
            self.tally.num_replies += 1
            try:
                received = self._exchange.receive(arrival, branch.bases[ticket.version])
            except MessageError as error:
                self.tally.refuse(error.reason)
                self.strike(ticket, error.reason)
                received = self._exchange.expire(ticket)
        self._mailbox.send(received.outgoing)
        branch.buffer.extend(self._buffered(ticket, update) for update in received.updates)
        for sender in (sender for update in received.updates for sender in update.senders):
            self.conduct = acquitted(self.conduct, sender)
        # Not after a failure: if all nodes fail, the step must come to an end.
        if self._pacing.refill == "reply" and received.updates:
            self._refill(branch)
        elif ticket.node in self._failed_now:
            self._replace(branch)

    def _buffered(self, ticket: Ticket, update: Update) -> Buffered:
        """Return an update with its evidence; one that goes to a file is no longer held whole."""
        evidence = self._examiner.evidence(update.delta)
        held = self.spool.held(update.delta)
        if held is not update.delta:
            update = replace(update, delta=held, received=None)
        return Buffered(ticket.id, update, evidence)

    def _may_close(self, branch: Branch) -> bool:
        return self._has_quorum(branch) or not self._training(branch)

    def _has_quorum(self, branch: Branch) -> bool:
        return sum(self._counts(branch, item) for item in branch.buffer) >= self._pacing.quorum

    def _counts(self, branch: Branch, item: Buffered) -> bool:
        return branch.version - item.update.version <= self._pacing.max_staleness

    def _taken(self, branch: Branch) -> Sequence[Buffered]:
        """Take the first ``quorum`` updates that still count out of the buffer."""
        usable = [item for item in branch.buffer if self._counts(branch, item)]
        self.tally.rejected.update({"stale": len(branch.buffer) - len(usable)})
        taken, rest = usable[: self._pacing.quorum], usable[self._pacing.quorum :]
        if self._pacing.max_staleness == 0:
            self.tally.rejected.update({"surplus": len(rest)})
            rest = []
        branch.buffer = list(rest)
        self.tally.rejected += Counter()  # drop zero counts
        return taken


def _damped(update: Update, staleness: int) -> Update:
    if staleness == 0:
        return update
    return replace(update, damping=1.0 / math.sqrt(1.0 + staleness), received=None)


def _num_retries(branch: Branch) -> int:
    return int(branch.plan.number(RETRIES.name)) if RETRIES.name in branch.plan else 0
