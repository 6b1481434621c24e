"""One loop's turn in a cycle: observe, learn from what is due, reason, pass the guards.

Whatever a policy does wrong ends here. The turn that fails leaves the loop's memory as it was, says
so in a note, and benches the loop for a while; the federation goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from daafl.autonomy.codec import JSON, decode, encode
from daafl.autonomy.guards import GuardContext
from daafl.autonomy.hub_state import LoopState, Pending
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Insight, unchanged
from daafl.errors import CodecError, PlanError

BENCHED = "benched"
"""State label of a loop that sits out after an error."""


@dataclass(frozen=True)
class Turn:
    """What one loop makes of a cycle.

    Parameters
    ----------
    loop
        Whose turn it is.
    state
        The loop's state after it.
    observation
        JSON of what it saw; ``None`` when that could not be used.
    asked, decision
        What the policy decided, and what its guards left of it.
    insights
        What became of earlier decisions.
    notes
        Sentences for the journal.
    """

    loop: Loop
    state: LoopState
    observation: JSON
    asked: Decision
    decision: Decision
    insights: tuple[Insight, ...] = ()
    notes: tuple[str, ...] = ()


def take_turn(
    loop: Loop, state: LoopState, observation: object, context: GuardContext, *, bench: int
) -> Turn:
    """Return the loop's turn; it never raises because of a policy or an observation.

    Parameters
    ----------
    loop, state
        The loop and what the hub keeps for it.
    observation
        A value of the policy's observation type, or its JSON.
    context
        Plan and tick, as the loop is to see them.
    bench
        Ticks that a loop sits out after an error.
    """
    policy, tick = loop.policy, context.tick
    try:
        seen = encode(observation)
        current = decode(policy.observation, seen)
    except CodecError:
        # Not which field: the journal keeps no unusable number, and a replay has to say the same.
        note = f"{policy.name}: its observation is refused; it must be a finite " + (
            policy.observation.__name__
        )
        return _sat_out(loop, replace(state, benched_until=tick + bench), None, note)
    if tick < state.benched_until:
        return _sat_out(loop, state, seen, "")
    due = tuple(pending for pending in state.pending if pending.due <= tick)
    waiting = tuple(pending for pending in state.pending if pending.due > tick)
    try:
        memory = policy.observe(state.memory, current)
        memory, insights = learned(policy, memory, due, current)
        asked = _checked(policy.reason(memory, current, context.plan), policy.name)
        decision = asked
        for guard in loop.guards:
            decision = guard(decision, context)
        memory = _as_resumed(policy, memory)
    # A policy is anybody's code and may raise anything; the run must not end because of it.
    except Exception as error:
        note = f"{policy.name} failed: {type(error).__name__}: {str(error)[:200]}"
        benched = LoopState(state.memory, waiting, tick + bench)
        return _sat_out(loop, benched, seen, note)
    notes = () if decision.changes == asked.changes else (_narrowed(asked, decision),)
    return Turn(loop, LoopState(memory, waiting), seen, asked, decision, insights, notes)


def learned(
    policy: Any, memory: object, due: Sequence[Pending], current: object
) -> tuple[object, tuple[Insight, ...]]:
    """Return the policy's memory and insights after reflecting on the decisions that are due."""
    insights = []
    for pending in due:
        before = decode(policy.observation, pending.before)
        insight = policy.reflect(pending.decision, before, current)
        if insight is None:
            continue
        insight = decode(Insight, encode(insight))
        if insight.decision != pending.decision.number:
            raise PlanError(
                f"{policy.name} reflected on decision {pending.decision.number}, but its insight "
                f"is about {insight.decision}"
            )
        memory = policy.adapt(memory, insight)
        insights.append(insight)
    return memory, tuple(insights)


def learned_early(turn: Turn, *, until: int) -> Turn:
    """Return the turn with everything still pending judged by the present observation.

    A loop that returns to an older model ends the world in which its earlier decisions were to be
    judged; what they led to is in sight now.

    Parameters
    ----------
    turn
        The loop's turn.
    until
        Tick until which the loop is benched if it cannot.
    """
    policy, state = turn.loop.policy, turn.state
    if not state.pending:
        return turn
    try:
        current = decode(policy.observation, turn.observation)
        memory, insights = learned(policy, state.memory, state.pending, current)
        memory = _as_resumed(policy, memory)
    except Exception as error:  # as in take_turn
        note = f"{policy.name} failed: {type(error).__name__}: {str(error)[:200]}"
        return replace(turn, state=LoopState(state.memory, (), until), notes=(*turn.notes, note))
    return replace(turn, state=LoopState(memory), insights=turn.insights + insights)


def _sat_out(loop: Loop, state: LoopState, observation: JSON, note: str) -> Turn:
    name = loop.policy.name
    decision = unchanged(name, BENCHED, f"{name} sits out until tick {state.benched_until}")
    notes = (f"{note}; it is benched until tick {state.benched_until}",) if note else ()
    return Turn(loop, state, observation, decision, decision, (), notes)


def _checked(decision: object, name: str) -> Decision:
    """Return the decision as the journal will hold it; raises when it cannot."""
    if not isinstance(decision, Decision):
        raise PlanError(f"it decided on a {type(decision).__name__}, not a Decision")
    if decision.loop != name:
        raise PlanError(f"it decided in the name of {decision.loop}")
    return decode(Decision, encode(replace(decision, number=None)))


def _as_resumed(policy: Any, memory: object) -> object:
    """Return the memory as a resumed run would have it; raises when it does not survive JSON."""
    if not isinstance(memory, policy.state):
        raise PlanError(
            f"its state must be a {policy.state.__name__}, not a {type(memory).__name__}"
        )
    return decode(policy.state, encode(memory))


def _narrowed(asked: Decision, decision: Decision) -> str:
    left = ", ".join(f"{c.knob} {c.old} -> {c.new}" for c in decision.changes) or "nothing"
    wanted = ", ".join(f"{c.knob} {c.old} -> {c.new}" for c in asked.changes)
    return f"guards of {asked.loop} leave {left} of {wanted}"
