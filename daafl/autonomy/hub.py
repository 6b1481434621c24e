"""The hub: one cycle of all loops of a scope, from observations to the next plan.

::

    observe -> reflect, adapt (what is due) -> reason -> guards -> ownership, restores, structural
    changes -> requests met -> bounds -> plan' , journal

``cycle`` is pure and total: the same state, observations and plan give the same result, and neither
a policy that raises nor an observation that is not finite ends the run. The hub owns the decisions
whose effect is still unknown, because it may clip or refuse what a loop decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final

from daafl.autonomy import lines
from daafl.autonomy.beliefs import Belief, Beliefs, belief_key, informed
from daafl.autonomy.codec import JSON, decode, encode
from daafl.autonomy.guards import GuardContext
from daafl.autonomy.hub_state import HubState, LoopState, Pending
from daafl.autonomy.plan import Knob, Plan, is_number
from daafl.autonomy.policy import Loop, Restoring
from daafl.autonomy.records import (
    ALERT,
    STRENGTH,
    Decision,
    Insight,
    Request,
    unchanged,
)
from daafl.autonomy.settlement import Rules, settled
from daafl.autonomy.turn import Turn, learned_early, take_turn
from daafl.autonomy.wiring import evaluation_order
from daafl.errors import CodecError, ConfigError

BAN_TICKS: Final = 50
"""Ticks for which an action is not tried again in a state in which it failed twice in a row."""

FAILURES_TO_BAN: Final = 2

MAX_PENDING: Final = 64
"""Decisions per loop that wait for their effect; a loop that stays away forgets the oldest."""

NO_BELIEFS: Final[Beliefs] = MappingProxyType({})


@dataclass(frozen=True)
class Cycle:
    """What came of a cycle.

    Parameters
    ----------
    state, plan
        State of the hub and plan of the next step.
    decisions
        As applied, one per loop that had its turn, in the loops' order; the hub's own comes last.
    insights
        What became of earlier decisions.
    restore, restore_by
        Model version to return to and the loop that asks for it; ``None`` to go on. The host
        restores the model, its optimiser and the knobs that loop owns.
    outbound
        Requests on knobs that other hubs hold.
    records
        Journal lines: one ``decided``, then one ``closed`` per insight.
    """

    state: HubState
    plan: Plan
    decisions: tuple[Decision, ...]
    insights: tuple[Insight, ...]
    restore: int | None
    restore_by: str | None
    outbound: tuple[Request, ...]
    records: tuple[lines.Line, ...]


@dataclass(frozen=True)
class Hub:
    """The loops of one scope and the knobs they share.

    Parameters
    ----------
    loops
        Loops; they reason in this order, as far as their dependencies allow.
    knobs
        All knobs of the scope, by name, also those that no loop owns.
    window
        Ticks between structural changes, and for which a failing loop is benched.
    elsewhere
        Knobs of other hubs that loops of this one may request.

    Raises
    ------
    ConfigError
        When the loops do not fit together; names the loop, the rule and what to do.
    """

    loops: tuple[Loop, ...]
    knobs: Mapping[str, Knob]
    window: int = 5
    elsewhere: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check that the loops fit together."""
        if self.window < 1:
            raise ConfigError(f"a hub's window must be at least 1 tick, not {self.window}")
        if any(name != knob.name for name, knob in self.knobs.items()):
            raise ConfigError("a hub's knobs must be given by their own names")
        evaluation_order(self.loops, self.knobs, self.elsewhere)

    @cached_property
    def _order(self) -> tuple[Loop, ...]:
        return evaluation_order(self.loops, self.knobs, self.elsewhere)

    @cached_property
    def _rules(self) -> Rules:
        levels = {loop.policy.name: loop.level for loop in self.loops}
        owned = {
            name: levels[knob.owner] for name, knob in self.knobs.items() if knob.owner in levels
        }
        return Rules(self.knobs, owned, self.window)

    def init(self, beliefs: Beliefs = NO_BELIEFS) -> HubState:
        """Return the state before the first cycle, starting from `beliefs` of earlier runs."""
        loops = {loop.policy.name: LoopState(loop.policy.init()) for loop in self.loops}
        return HubState(loops=loops, beliefs=dict(beliefs))

    def cycle(
        self,
        state: HubState,
        observations: Mapping[str, object],
        plan: Plan,
        *,
        requests: Sequence[Request] = (),
    ) -> Cycle:
        """Return what the loops make of a step.

        Parameters
        ----------
        state
            From `init` or the last cycle.
        observations
            Per loop a value of its policy's observation type. A loop that is absent has no turn.
        plan
            Plan of the step that was observed; holds all the hub's knobs.
        requests
            Requests of other hubs' loops on knobs of this one.
        """
        tick = state.tick
        turns = self._turns(state, observations, plan, requests)
        experience = _experience(state, turns)
        proposals = [(turn.loop, _considered(turn, experience, tick)) for turn in turns]
        settlement = settled(proposals, state, plan, requests, self._rules)
        if settlement.restore_by is not None:
            turns = [self._closed_early(turn, settlement.restore_by, tick) for turn in turns]
            experience = _experience(state, turns)
        decisions, next_number = _numbered(settlement.decisions, state.next_number)
        after = plan.apply(settlement.changes)
        insights = tuple(insight for turn in turns for insight in turn.insights)
        strangers = sorted(observations.keys() - state.loops.keys())
        line = lines.decided(
            tick,
            observations={
                **{turn.loop.policy.name: turn.observation for turn in turns},
                **dict.fromkeys(strangers),
            },
            requests=requests,
            before=plan,
            asked=[turn.asked for turn in turns],
            decisions=decisions,
            outbound=settlement.outbound,
            restore_by=settlement.restore_by,
            notes=[
                *(note for turn in turns for note in turn.notes),
                *settlement.notes,
                *(f"there is no loop {name} here" for name in strangers),
            ],
            after=after,
        )
        return Cycle(
            state=replace(
                experience,
                tick=tick + 1,
                next_number=next_number,
                next_structural=settlement.next_structural,
                loops={**state.loops, **_waiting(turns, decisions, tick)},
                requests=tuple(ask for ask in settlement.live if ask.until > tick + 1),
                last_moved={**state.last_moved, **{c.knob: tick for c in settlement.changes}},
                displaced=settlement.displaced,
            ),
            plan=after,
            decisions=decisions,
            insights=insights,
            restore=settlement.restore,
            restore_by=settlement.restore_by,
            outbound=settlement.outbound,
            records=(line, *(lines.closed(tick, insight) for insight in insights)),
        )

    def _turns(
        self,
        state: HubState,
        observations: Mapping[str, object],
        plan: Plan,
        requests: Sequence[Request],
    ) -> list[Turn]:
        """Let every observed loop take its turn, seeing what those it depends on decided."""
        live = [ask.request for ask in state.requests if ask.until > state.tick]
        context = GuardContext(
            plan, self.knobs, state.tick, state.last_moved, _frozen([*live, *requests], plan)
        )
        turns: dict[str, Turn] = {}
        for loop in self._order:
            name = loop.policy.name
            if name not in observations:
                continue
            upstream = [turns[other].decision for other in loop.depends_on if other in turns]
            seen = replace(context, plan=_foreseen(plan, upstream)) if upstream else context
            turns[name] = take_turn(
                loop, state.loops[name], observations[name], seen, bench=self.window
            )
        return list(turns.values())

    def _closed_early(self, turn: Turn, restore_by: str, tick: int) -> Turn:
        if turn.decision.loop != restore_by:
            return turn
        return learned_early(turn, until=tick + self.window)

    def encode(self, state: HubState) -> JSON:
        """Return the state as JSON."""
        return encode(state)

    def decode(self, value: object) -> HubState:
        """Return the state whose JSON is `value`.

        Raises
        ------
        CodecError
            When it is not the state of a hub with these loops.
        """
        state = decode(HubState, value)
        types = {loop.policy.name: loop.policy.state for loop in self.loops}
        if state.loops.keys() != types.keys():
            raise CodecError(
                f"the state is of the loops {', '.join(sorted(state.loops)) or '(none)'}, but the "
                f"hub has {', '.join(sorted(types)) or '(none)'}; use the loops it was made with"
            )
        loops = {
            name: replace(kept, memory=decode(types[name], kept.memory))
            for name, kept in state.loops.items()
        }
        return replace(state, loops=loops)

    def wanted_versions(self, state: HubState) -> frozenset[int]:
        """Return the model versions that loops may ask to return to."""
        wanted: frozenset[int] = frozenset()
        for loop in self.loops:
            if isinstance(loop.policy, Restoring):
                wanted |= loop.policy.wanted_versions(state.loops[loop.policy.name].memory)
        return wanted


def _frozen(requests: Sequence[Request], plan: Plan) -> frozenset[str]:
    """Return the knobs that an alarm of integrity or above keeps from rising."""
    frozen = set()
    for request in requests:
        if STRENGTH[request.level] > STRENGTH["integrity"] or request.knob not in plan:
            continue
        value = plan[request.knob]
        is_hold = request.low is None and request.high is None
        is_ceiling = request.high is not None and is_number(value) and value >= request.high
        if is_hold or is_ceiling:
            frozen.add(request.knob)
    return frozenset(frozen)


def _foreseen(plan: Plan, decisions: Sequence[Decision]) -> Plan:
    """Return the plan as `decisions` would leave it; what does not fit is left out."""
    values = dict(plan.values)
    for decision in decisions:
        values |= {c.knob: c.new for c in decision.changes if values.get(c.knob) == c.old}
    return Plan(plan.revision, values)


def _experience(state: HubState, turns: Sequence[Turn]) -> HubState:
    """Return the state with what the turns' insights teach about actions."""
    beliefs, failures = dict(state.beliefs), dict(state.failures)
    bans = {key: until for key, until in state.bans.items() if until > state.tick}
    for insight in (insight for turn in turns for insight in turn.insights):
        key = belief_key(insight)
        beliefs[key] = beliefs.get(key, Belief()).after(insight.reward)
        in_a_row = failures.pop(key, 0)
        if insight.verdict != "worse":
            continue
        if in_a_row + 1 >= FAILURES_TO_BAN:
            bans[key] = state.tick + BAN_TICKS
        else:
            failures[key] = in_a_row + 1
    return replace(state, beliefs=beliefs, failures=failures, bans=bans)


def _considered(turn: Turn, experience: HubState, tick: int) -> Decision:
    """Return the turn's decision in the light of experience: with its expectation, or refused.

    What restores or alerts, what privacy and safety want, and continuous laws are never refused.
    """
    loop, decision = turn.loop, turn.decision
    until = experience.bans.get(belief_key(decision), 0)
    is_exempt = (
        decision.restore is not None
        or decision.action == ALERT
        or decision.action in loop.laws
        or STRENGTH[loop.level] == 0
    )
    if until > tick and decision.acts and not is_exempt:
        reason = (
            f"{decision.action} failed twice in {decision.state}; not again before tick {until}"
        )
        return unchanged(decision.loop, decision.state, reason)
    return informed(decision, experience.beliefs)


def _numbered(decisions: Sequence[Decision], next_number: int) -> tuple[tuple[Decision, ...], int]:
    """Return the decisions with numbers for those that act, and the next free number."""
    numbered = []
    for decision in decisions:
        if decision.acts:
            decision, next_number = replace(decision, number=next_number), next_number + 1
        numbered.append(decision)
    return tuple(numbered), next_number


def _waiting(
    turns: Sequence[Turn], decisions: Sequence[Decision], tick: int
) -> dict[str, LoopState]:
    """Return the loops' states after their turns, with the new decisions to be judged."""
    applied = {decision.loop: decision for decision in decisions}
    states = {}
    for turn in turns:
        name = turn.loop.policy.name
        decision, pending = applied[name], turn.state.pending
        if decision.number is not None and decision.expect is not None:
            due = tick + decision.expect.horizon
            pending = (*pending, Pending(decision, turn.observation, due))
        states[name] = replace(turn.state, pending=pending[-MAX_PENDING:])
    return states
