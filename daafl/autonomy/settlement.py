"""Turns what the loops decided into one set of changes that nothing contradicts.

A decision is applied whole or not at all: requests of others may clip its changes, but what takes
one change away takes all of them, so that knobs that belong together move together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from daafl.autonomy.hub_state import Displacement, HubState
from daafl.autonomy.negotiation import Agreement, LiveRequest, Merit, precedence
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import STRENGTH, Decision, Level, Request
from daafl.autonomy.requesting import Note, agreements, live_requests, within_reach
from daafl.autonomy.wiring import HUB


@dataclass(frozen=True)
class Rules:
    """What a hub knows about its knobs.

    Parameters
    ----------
    knobs
        Declarations, by name.
    levels
        Level of the loop that owns a knob; knobs that no loop owns are absent.
    window
        Ticks between structural changes.
    """

    knobs: Mapping[str, Knob]
    levels: Mapping[str, Level]
    window: int

    def is_structural(self, decision: Decision) -> bool:
        """Return whether the decision changes a structural knob."""
        return any(
            change.knob in self.knobs and self.knobs[change.knob].is_structural
            for change in decision.changes
        )


@dataclass(frozen=True)
class Settlement:
    """What a cycle settles on.

    Parameters
    ----------
    decisions
        As applied, in the loops' order; the hub's own comes last, if it has one.
    live
        Requests that hold.
    outbound
        Requests on knobs that other hubs hold.
    restore_by
        Loop that returns to an older model; ``None`` if none does.
    displaced
        Knobs that requests hold away from their value.
    next_structural
        Tick from which on a structural change is allowed again.
    notes
        Sentences for the journal.
    """

    decisions: tuple[Decision, ...]
    live: tuple[LiveRequest, ...]
    outbound: tuple[Request, ...]
    restore_by: str | None
    displaced: Mapping[str, Displacement]
    next_structural: int
    notes: tuple[str, ...]

    @property
    def restore(self) -> int | None:
        """Model version to return to; ``None`` to go on."""
        return next((d.restore for d in self.decisions if d.restore is not None), None)

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes of the plan."""
        return tuple(change for decision in self.decisions for change in decision.changes)


def settled(
    proposals: Sequence[tuple[Loop, Decision]],
    state: HubState,
    plan: Plan,
    inbound: Sequence[Request],
    rules: Rules,
) -> Settlement:
    """Return what follows from the loops' proposals under all requests that hold.

    Parameters
    ----------
    proposals
        One decision per loop, in the loops' order.
    state, plan
        State of the hub and plan of the cycle.
    inbound
        Requests from outside.
    rules
        The hub's knobs.
    """
    notes: list[str] = []
    note, tick = notes.append, state.tick
    loops = [loop for loop, _ in proposals]
    decisions = [within_reach(loop, decision, note) for loop, decision in proposals]
    decisions, restore_by = _one_restore(loops, decisions, note)
    decisions = _one_structural(loops, decisions, state, rules, note)
    live = live_requests(state.requests, decisions, inbound, rules.knobs, tick=tick, note=note)
    met = agreements(live, rules.levels, tick=tick, note=note)
    decisions = [_clipped(decision, plan, met, rules.knobs, note) for decision in decisions]
    binding, displaced = _binding(decisions, met, state, plan, rules.knobs)
    decisions += binding
    is_structural = any(rules.is_structural(decision) for decision in decisions)
    return Settlement(
        decisions=tuple(decisions),
        live=live,
        outbound=tuple(
            request
            for decision in decisions
            for request in decision.requests
            if request.knob not in rules.knobs
        ),
        restore_by=restore_by,
        displaced=displaced,
        next_structural=tick + rules.window if is_structural else state.next_structural,
        notes=tuple(notes),
    )


def _one_restore(
    loops: Sequence[Loop], decisions: Sequence[Decision], note: Note
) -> tuple[list[Decision], str | None]:
    """Keep one restore: of the strongest level, and there of the oldest version."""
    wanted = [
        (STRENGTH[loop.level], decision.restore, i)
        for i, (loop, decision) in enumerate(zip(loops, decisions, strict=True))
        if decision.restore is not None
    ]
    if not wanted:
        return list(decisions), None
    _, version, winner = min(wanted)
    by = decisions[winner].loop
    for _, other, i in wanted:
        if i != winner:
            note(f"{decisions[i].loop} asks for version {other}; {by} goes first with {version}")
    kept = [d if i == winner else replace(d, restore=None) for i, d in enumerate(decisions)]
    return kept, by


def _one_structural(
    loops: Sequence[Loop],
    decisions: Sequence[Decision],
    state: HubState,
    rules: Rules,
    note: Note,
) -> list[Decision]:
    """Keep at most one decision with a structural change per window; safety always passes."""
    safe, rivals = set(), []
    for i, (loop, decision) in enumerate(zip(loops, decisions, strict=True)):
        if rules.is_structural(decision):
            if decision.restore is not None or STRENGTH[loop.level] == 0:
                safe.add(i)
            else:
                rivals.append(i)
    is_open = state.tick >= state.next_structural and not safe
    passing = safe | ({_preferred(loops, decisions, rivals)} if rivals and is_open else set())
    kept = list(decisions)
    for i in rivals:
        if i not in passing:
            until = "" if is_open or safe else f" until tick {state.next_structural}"
            note(
                f"{kept[i].action} of {kept[i].loop} waits{until}: one structural change at a "
                "time, so that its effect can be told"
            )
            kept[i] = replace(kept[i], changes=(), requests=())
    return kept


def _preferred(loops: Sequence[Loop], decisions: Sequence[Decision], rivals: Sequence[int]) -> int:
    """Return the rival of the strongest level, and there of the best merit."""
    strongest = min(STRENGTH[loops[i].level] for i in rivals)
    equals = [i for i in rivals if STRENGTH[loops[i].level] == strongest]
    return equals[precedence([Merit.of(decisions[i]) for i in equals])[0]]


def _clipped(
    decision: Decision,
    plan: Plan,
    met: Mapping[str, Agreement],
    knobs: Mapping[str, Knob],
    note: Note,
) -> Decision:
    """Return the decision with its changes within all bounds, or without them."""
    kept = []
    for change in decision.changes:
        refusal = _refusal(decision, change, plan, met, knobs)
        if refusal:
            note(f"{decision.loop} cannot change {change.knob}: {refusal}")
            if decision.restore is None:
                return replace(decision, changes=())
            # A restore is safety: what can be done of it is done.
            continue
        bounds = met.get(change.knob, Agreement())
        new = knobs[change.knob].clipped(change.new, low=bounds.low, high=bounds.high)
        if new != change.new:
            whom = " and ".join(bounds.by) or "its own bounds"
            note(f"{change.knob} {change.new} of {decision.loop} -> {new} for {whom}")
        if new != change.old:
            kept.append(replace(change, new=new))
    return replace(decision, changes=tuple(kept))


def _refusal(
    decision: Decision,
    change: Change,
    plan: Plan,
    met: Mapping[str, Agreement],
    knobs: Mapping[str, Knob],
) -> str:
    """Return why a change cannot be made at all; empty if it can."""
    knob = knobs.get(change.knob)
    if knob is None:
        return "this hub does not hold it"
    if knob.owner != decision.loop:
        return f"it belongs to {knob.owner}, of whom bounds may be requested"
    if plan[change.knob] != change.old:
        return f"it is {plan[change.knob]}, not {change.old}"
    if sum(other.knob == change.knob for other in decision.changes) > 1:
        return "it is changed twice"
    bounds = met.get(change.knob)
    if bounds is not None and bounds.is_held:
        return f"it is held for {' and '.join(bounds.by)}"
    return ""


def _binding(
    decisions: Sequence[Decision],
    met: Mapping[str, Agreement],
    state: HubState,
    plan: Plan,
    knobs: Mapping[str, Knob],
) -> tuple[list[Decision], dict[str, Displacement]]:
    """Move knobs that nobody moved into the requested bounds, and back when these lapse.

    Returns
    -------
    decisions
        The hub's own decision, or nothing.
    displaced
        Knobs that are now held away from their value.
    """
    moved = {change.knob for decision in decisions for change in decision.changes}
    changes, reasons = [], []
    displaced: dict[str, Displacement] = {}
    for name in sorted((met.keys() | state.displaced.keys()) - moved):
        current, bounds = plan[name], met.get(name, Agreement())
        held = state.displaced.get(name)
        # Another value than the hub gave it: somebody moved it, and what it had before is history.
        wanted = held.wanted if held is not None and held.bound == current else current
        is_bound = bounds.low is not None or bounds.high is not None
        target = (
            knobs[name].clipped(wanted, low=bounds.low, high=bounds.high) if is_bound else wanted
        )
        if target != wanted:
            displaced[name] = Displacement(wanted, target)
        if target != current:
            changes.append(Change(name, current, target))
            why = f"{' and '.join(bounds.by)} asks" if is_bound else "the requests on it lapsed"
            reasons.append(f"{name} {current} -> {target}: {why}")
    if not changes:
        return [], displaced
    reason = "; ".join(reasons)
    return [Decision(HUB, "bind", "negotiation", reason, changes=tuple(changes))], displaced
