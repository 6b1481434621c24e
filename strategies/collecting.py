"""Keeping assignments out and gathering updates, under one pacing rule.

A step closes when the quorum is in, the deadline has passed, or nothing that can still count is
out. What is then taken out of the branch's buffer is what the step combines. Assignments go out
only while a step waits: once the quorum is in, the next ones carry the model it leads to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from daafl.autonomy.plan import Plan
from daafl.errors import MessageError
from daafl.learning.update import Update
from daafl.loops.group_quality import BOUND
from daafl.loops.node_failures import RETRIES
from daafl.messages import BUDGET_SPENT, CLIP_BOUND, COHORT_NODE, Assignment, Scalar
from daafl.strategies.assignment import Assign
from daafl.strategies.branch import Branch, Buffered
from daafl.strategies.declining import has_declined
from daafl.strategies.exchange import Exchange, Member
from daafl.strategies.mailbox import UNSENT, Arrival, Mailbox, Purpose, Ticket
from daafl.strategies.pacing import Pacing
from daafl.strategies.poisson import PoissonSelection
from daafl.strategies.pool import Pool
from daafl.strategies.registered import RegisteredRoster
from daafl.strategies.roster import Roster
from daafl.strategies.screening import Examiner
from daafl.strategies.selection import NodeFacts, Selection
from daafl.strategies.spool import Spool
from daafl.strategies.standing import Conduct, Discipline, acquitted, barred, next_step, struck

NONFINITE_MODEL: Final = "nonfinite_model"  # counted once when a step's model is not used
DROPPED_OUT: Final = "dropped_out"  # members of a cohort that its update is not about
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
    spent
        Nodes whose privacy budget is spent, ascending.
    """

    pacing: Pacing
    conduct: Conduct
    spent: tuple[int, ...] = ()


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
        roster: Roster | RegisteredRoster,
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
        self._hashed: tuple[Plan, str] | None = None  # the plan in force with its digest
        self._settings: dict[str, tuple[int, Mapping[str, Scalar]]] = {}
        self.tally = Tally()
        self.conduct = Conduct()
        self.spent: set[int] = set()  # nodes whose privacy budget is, for good
        # Drawn by independent coins, a cohort is what it is: once per step, all of it awaited.
        self._is_poisson = isinstance(terms.select, PoissonSelection)
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
        if self._is_poisson:
            self._replacements = 0  # nobody takes the place of a node that was drawn by itself
            self._mailbox.skip_ids(1)  # draws hang on the last id, and nobody may have been drawn
        self._refill(branch)
        if not self._is_poisson and self._may_close(branch) and not self._has_quorum(branch):
            # Every node is still busy with something that no longer counts.
            self._mailbox.pump(lambda: bool(self._free_nodes(branch)), deadline_s)
            self._refill(branch)
        self._mailbox.pump(lambda: self._may_close(branch), deadline_s)
        self._replacements = 0
        taken = self._taken(branch)
        ordered = sorted(taken, key=lambda item: (item.update.version, item.ticket))
        return [_damped(item, branch.version - item.update.version) for item in ordered]

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

    def reachable(
        self,
        branch: Branch,
        but: Set[int] = frozenset(),
        *,
        among: Sequence[int] | None = None,
    ) -> Pool:
        """Return the members of the branch that may be asked and owe no answer that is late.

        Those in ``but`` are left out; ``among`` are the nodes to look at, ascending, if not all.
        """
        out = self._mailbox.late_nodes() | self.quarantined(branch) | but
        members = branch.members
        if among is not None:
            known = members if isinstance(members, range) else frozenset(members)
            members = [node for node in among if node in known]
        return self._roster.pool(members, out)

    def quarantined(self, branch: Branch) -> frozenset[int]:
        """Return the members of the branch that are asked for nothing, for what they did."""
        return barred(self.conduct, branch.members, least=self._roster.min_nodes)

    def troubled(self, branch: Branch) -> dict[int, str]:
        """Return the members put into quarantine since the tally began, with their last fault."""
        out = self.quarantined(branch)
        return {node: fault for node, fault in self.tally.sentenced.items() if node in out}

    def exhausted(self, branch: Branch) -> str | None:
        """Return that no member has any budget left, in words; ``None`` while one may have."""
        if self.spent and self.spent.issuperset(branch.members):
            return f"all {len(branch.members)} nodes have spent their privacy budgets"
        return None

    def strike(self, ticket: Ticket, fault: str) -> None:
        """Hold a message that was of no use against its node, whatever it was asked."""
        if fault == UNSENT or ticket.nodes:
            return  # it never heard of it, or nobody knows which node of a cohort it was
        before, branch = self.conduct.of(ticket.node), self._open[ticket.branch]
        self.conduct = struck(self.conduct, ticket.node, fault, Discipline.of(branch.plan))
        self._failed_now.add(ticket.node)
        if self.conduct.of(ticket.node).sentences > before.sentences:
            self.tally.sentenced[ticket.node] = fault

    def invited(
        self, branch: Branch, nodes: Sequence[int], purpose: Purpose, *, reply_timeout_s: float
    ) -> list[Member]:
        """Return these members of the branch, with tickets and assignments.

        Where the exchange asks cohorts as a whole, those that train are one member.
        """
        self._open[branch.name] = branch
        due_by_s = self._mailbox.clock.now_s() + reply_timeout_s
        address = self._exchange.cohort_address
        if purpose == "train" and address is not None:
            return [self._whole(branch, nodes, address, due_by_s)] if nodes else []
        return [
            self._member(branch, facts, purpose, due_by_s) for facts in self._roster.facts(nodes)
        ]

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
        training = self._mailbox.live("train")
        return frozenset(ticket.version for ticket in training if ticket.branch == branch.name)

    def state(self) -> CollectorState:
        """Return what decides later steps, apart from the mailbox and the branches."""
        return CollectorState(self._pacing, self.conduct, tuple(sorted(self.spent)))

    def load(self, state: CollectorState, branch: Branch) -> None:
        """Go on from an earlier `state`, collecting for ``branch``."""
        self._pacing = state.pacing
        self.conduct = state.conduct
        self.spent = set(state.spent)
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
            addresses = [facts.address for facts in self._roster.facts([ticket.node])]
            if ticket.nodes and self._exchange.cohort_address is not None:
                addresses = [self._exchange.cohort_address]
            cohorts.setdefault(ticket.version, []).extend(
                Member(address, again, ticket.assignment) for address in addresses
            )
        for version, cohort in cohorts.items():
            self._mailbox.send(self._exchange.begin(cohort, branch.bases[version]))

    def _abandon(self, branch: Branch, should_abandon: Callable[[Ticket], bool]) -> int:
        return self._mailbox.abandon(
            lambda t: t.purpose == "train" and t.branch == branch.name and should_abandon(t)
        )

    def _num_training(self, branch: Branch) -> int:
        return self._mailbox.num_live("train", branch.name)

    def _free_nodes(self, branch: Branch, but: Set[int] = frozenset()) -> Pool:
        out = self._mailbox.busy_nodes() | self.quarantined(branch) | self.spent | but
        return self._roster.pool(branch.members, out)

    def _refill(self, branch: Branch) -> None:
        wanted = self._pacing.concurrency - self._num_training(branch)
        if not self._is_poisson and (wanted <= 0 or self._has_quorum(branch)):
            return
        timeout_s = self._pacing.reply_timeout_s
        self._begin(branch, self.cohort(branch, wanted, "train", reply_timeout_s=timeout_s))

    def _replace(self, branch: Branch) -> None:
        """Ask another node in place of one that failed, if the step has a replacement left."""
        if self._replacements < 1 or self._exchange.is_joint or self._has_quorum(branch):
            return
        if self._is_poisson:  # who is in a step depends on nobody else
            return
        chosen = self._drawn(self._free_nodes(branch, self._failed_now), 1)
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

    def _member(
        self, branch: Branch, facts: NodeFacts, purpose: Purpose, due_by_s: float
    ) -> Member:
        ticket_id, is_training = self._mailbox.next_id(), purpose == "train"
        draw = branch.next_draw(facts.node) if is_training else 0
        assignment = self._assignment(branch, facts, ticket_id, draw)
        ticket = Ticket(
            id=ticket_id,
            purpose=purpose,
            node=facts.node,
            branch=branch.name,
            version=branch.version,
            draw=draw,
            sent_at_s=self._mailbox.clock.now_s(),
            due_by_s=due_by_s,
            assignment=assignment if is_training else None,
            num_examples=facts.num_examples,
        )
        return Member(facts.address, ticket, assignment)

    def _whole(self, branch: Branch, nodes: Sequence[int], address: int, due_by_s: float) -> Member:
        """Return a cohort that trains as one member: all of them are asked for the same."""
        ticket_id = self._mailbox.next_id()
        # Later draws hang on the ids given out, and are to be those of nodes asked one by one.
        self._mailbox.skip_ids(len(nodes) - 1)
        assignment = self._assignment(branch, self._roster.facts(nodes[:1])[0], ticket_id, 0)
        ticket = Ticket(
            id=ticket_id,
            purpose="train",
            node=COHORT_NODE,
            branch=branch.name,
            version=branch.version,
            draw=0,
            sent_at_s=self._mailbox.clock.now_s(),
            due_by_s=due_by_s,
            assignment=assignment,
            num_examples=self._roster.num_examples(nodes),
            nodes=tuple(nodes),
            draws=branch.next_draws(nodes),
        )
        return Member(address, ticket, assignment)

    def _assignment(
        self, branch: Branch, facts: NodeFacts, ticket_id: int, draw: int
    ) -> Assignment:
        work = self._terms.assign(facts, branch.plan)
        return Assignment(
            federation=self._terms.federation,
            branch=branch.name,
            version=branch.version,
            ticket=ticket_id,
            draw=draw,
            seed=self._terms.seed,
            lr=work.lr,
            local_steps=work.local_steps,
            batch_size=work.batch_size,
            plan_hash=self._plan_hash(branch.plan),
            layout=self._terms.layout,
            settings=self._node_settings(branch),
        )

    def _plan_hash(self, plan: Plan) -> str:
        """Return a plan's digest, worked out once for all nodes that are asked under it."""
        if self._hashed is None or self._hashed[0] is not plan:
            self._hashed = (plan, plan.digest)
        return self._hashed[1]

    def _node_settings(self, branch: Branch) -> Mapping[str, Scalar]:
        """Ask the optimiser once per version: a Flower strategy takes note of being asked."""
        version, settings = self._settings.get(branch.name, (-1, {}))
        if version != branch.version:
            settings = {**self._terms.settings, **branch.optimizer.node_config()}
            self._settings[branch.name] = (branch.version, settings)
        bound = branch.plan.number(BOUND) if BOUND in branch.plan else 0.0
        # An optimiser that clips as well has its own bound, and its guarantee hangs on it.
        return settings if bound == 0 or CLIP_BOUND in settings else {**settings, CLIP_BOUND: bound}

    def _receive(self, arrival: Arrival) -> None:
        ticket = arrival.ticket
        branch = self._open[ticket.branch]
        if arrival.content is None:
            self.tally.failures[arrival.error] += ticket.num_asked
            self.strike(ticket, arrival.error)
            received = self._exchange.expire(ticket)
        elif has_declined(arrival.content):
            self._let_go(ticket)
            received = self._exchange.expire(ticket)
        else:
            self.tally.num_replies += not self._exchange.is_joint
            try:
                received = self._exchange.receive(arrival, branch.bases[ticket.version])
            except MessageError as error:
                self.tally.refuse(error.reason)
                self.strike(ticket, error.reason)
                received = self._exchange.expire(ticket)
        self._mailbox.send(received.outgoing)
        self.tally.failures.update(received.failures)
        if received.refused:
            self.tally.refuse(received.refused)
        if self._exchange.is_joint:  # each answer is part of a sum, and a sum is what counts
            self.tally.num_replies += len(received.updates) + bool(received.refused)
        for update in received.updates:
            branch.buffer.append(self._buffered(branch, ticket, update))
            if len(update.senders) < len(ticket.nodes):
                self.tally.failures[DROPPED_OUT] += len(ticket.nodes) - len(update.senders)
            for sender in update.senders if self.conduct.records else ():
                self.conduct = acquitted(self.conduct, sender)
        # Not after a failure: if all nodes fail, the step must come to an end.
        if self._pacing.refill == "reply" and received.updates:
            self._refill(branch)
        elif ticket.node in self._failed_now:
            self._replace(branch)

    def _let_go(self, ticket: Ticket) -> None:
        """Ask a node no more whose budget is spent; another one takes its place in this step."""
        self.tally.failures[BUDGET_SPENT] += ticket.num_asked
        self.spent.add(ticket.node)
        self._failed_now.add(ticket.node)
        self._replacements += 1

    def _buffered(self, branch: Branch, ticket: Ticket, update: Update) -> Buffered:
        """Return an update with its evidence; one that goes to a file is no longer held whole."""
        is_screened = "screen_threshold" in branch.plan
        evidence = self._examiner.evidence(update.delta, is_screened=is_screened)
        held = self.spool.held(update.delta)
        if held is not update.delta:
            update = replace(update, delta=held, received=None)
        return Buffered(ticket.id, update, evidence)

    def _may_close(self, branch: Branch) -> bool:
        return self._has_quorum(branch) or not self._num_training(branch)

    def _has_quorum(self, branch: Branch) -> bool:
        if self._is_poisson:
            return False
        quorum = self._pacing.quorum
        if len(branch.buffer) < quorum and not self._exchange.is_joint:
            return False
        counted = (item for item in branch.buffer if self._counts(branch, item))
        return sum(len(item.update.senders) for item in counted) >= quorum

    def _counts(self, branch: Branch, item: Buffered) -> bool:
        return branch.version - item.update.version <= self._pacing.max_staleness

    def _taken(self, branch: Branch) -> Sequence[Buffered]:
        """Take the first ``quorum`` updates that still count out of the buffer."""
        usable = [item for item in branch.buffer if self._counts(branch, item)]
        self.tally.rejected.update({"stale": len(branch.buffer) - len(usable)})
        most = len(usable) if self._is_poisson else self._pacing.quorum
        taken, rest = usable[:most], usable[most:]
        if self._pacing.max_staleness == 0:
            self.tally.rejected.update({"surplus": len(rest)})
            rest = []
        branch.buffer = list(rest)
        self.tally.rejected += Counter()  # drop zero counts
        return taken


def _damped(item: Buffered, staleness: int) -> Buffered:
    if staleness == 0:
        return item
    damping = 1.0 / math.sqrt(1.0 + staleness)
    return replace(item, update=replace(item.update, damping=damping, received=None))


def _num_retries(branch: Branch) -> int:
    return int(branch.plan.number(RETRIES.name)) if RETRIES.name in branch.plan else 0
