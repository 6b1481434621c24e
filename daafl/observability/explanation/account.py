"""The account of a decision: seen, decided, expected, happened, each number checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daafl.autonomy.beliefs import Belief, Beliefs, belief_key
from daafl.autonomy.codec import decode
from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision, Insight
from daafl.errors import CodecError
from daafl.observability.explanation.checks import (
    Check,
    Policies,
    decision_checks,
    insight_checks,
    measured,
    step_checks,
)
from daafl.observability.explanation.cycles import Cycle, cycles_of
from daafl.observability.explanation.observed import Reading, readings
from daafl.observability.outcomes import Outcome
from daafl.observability.run import Run

CONTEXT: Final = 12  # cycles drawn before a decision and after its judgement


@dataclass(frozen=True)
class Sample:
    """A value at a tick, and the step the tick looked at if that is known."""

    tick: int
    step: int | None
    value: float


@dataclass(frozen=True)
class Account:
    """Everything there is to say about one decision.

    Parameters
    ----------
    cycle
        In which it was taken.
    decision
        As applied.
    closed, insight
        The cycle in which it was judged, and the judgement; ``None`` without one.
    due
        Step at which it is judged, if that is known and it is to be judged.
    metric
        The metric it is judged by, as its loop saw it around that time.
    knob
        Values around that time of the knob that it changed, if that is a number.
    checks
        Every number that was computed again.
    """

    cycle: Cycle
    decision: Decision
    closed: Cycle | None
    insight: Insight | None
    due: int | None
    metric: tuple[Sample, ...]
    knob: tuple[Sample, ...]
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """What `daafl explain --decision` calls it, such as ``main:12``."""
        return f"{self.cycle.target}:{self.decision.number}"

    @property
    def outcome(self) -> Outcome:
        """The decision as reports show it."""
        return Outcome(self.cycle.step or 0, self.decision, self.insight)

    @property
    def seen(self) -> tuple[Reading, ...]:
        """What its loop saw."""
        return readings(self.cycle.observations.get(self.decision.loop))

    @property
    def asked(self) -> Decision | None:
        """What the loop wanted, if it got something else."""
        loop = self.decision.loop
        return next((asked for asked in self.cycle.asked if asked.loop == loop), None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the hub said about its loop or its knobs in that cycle."""
        words = {self.decision.loop, *(change.knob for change in self.decision.changes)}
        return tuple(note for note in self.cycle.notes if words.intersection(_words(note)))

    @property
    def mismatches(self) -> tuple[Check, ...]:
        """The checks in which record and computation differ."""
        return tuple(check for check in self.checks if not check.agrees)


def accounts(run: Run, policies: Policies) -> tuple[Account, ...]:
    """Return the account of every decision that acted, in the order they were taken.

    Raises
    ------
    JournalError
        When a line of the journal cannot be read; names it.
    """
    beliefs = _beliefs(run.header)
    found = [
        (index, account)
        for cycles in cycles_of(run).values()
        for index, account in enumerate(_of_target(cycles, beliefs, policies))
    ]
    found.sort(key=lambda pair: (pair[1].cycle.tick, pair[0]))
    return tuple(account for _, account in found)


def _of_target(cycles: Sequence[Cycle], beliefs: Beliefs, policies: Policies) -> list[Account]:
    closings = {
        (insight.loop, insight.decision): (cycle, insight)
        for cycle in cycles
        for insight in cycle.insights
    }
    due_ticks: dict[tuple[str, int], int] = {}
    found: list[Account] = []
    next_number = 1
    for cycle in cycles:
        # What is judged early, because of a restore, is learned only after the loops decided.
        in_time = [
            insight
            for insight in cycle.insights
            if due_ticks.get((insight.loop, insight.decision), 0) <= cycle.tick
        ]
        known = _after(beliefs, in_time)
        beliefs = _after(beliefs, cycle.insights)
        for decision in cycle.decisions:
            if decision.number is None:
                continue
            key = (decision.loop, decision.number)
            closed, insight = closings.get(key, (None, None))
            checks = [
                Check("number", decision.number, next_number),
                *decision_checks(decision, cycle, known),
                *step_checks(decision, cycle),
            ]
            if insight is not None and closed is not None:
                checks += insight_checks(decision, insight, cycle, closed, policies)
            next_number = decision.number + 1
            if decision.expect is not None:
                due_ticks[key] = cycle.tick + decision.expect.horizon
            found.append(
                Account(
                    cycle=cycle,
                    decision=decision,
                    closed=closed,
                    insight=insight,
                    due=_due_step(decision, cycle, closed, cycles),
                    metric=_metric(decision, cycle, cycles, policies),
                    knob=_knob(decision, cycle, cycles),
                    checks=tuple(checks),
                )
            )
    return found


def _due_step(
    decision: Decision, cycle: Cycle, closed: Cycle | None, cycles: Sequence[Cycle]
) -> int | None:
    if decision.expect is None:
        return None
    if closed is not None:
        return closed.step
    due = cycle.tick + decision.expect.horizon
    later = [other.step for other in cycles if other.tick == due]
    if later:
        return later[0]
    return cycle.step + decision.expect.horizon if cycle.step is not None else None


def _metric(
    decision: Decision, cycle: Cycle, cycles: Sequence[Cycle], policies: Policies
) -> tuple[Sample, ...]:
    policy = policies.get(decision.loop)
    if policy is None or decision.expect is None:
        return ()
    last = cycle.tick + decision.expect.horizon + CONTEXT
    values = (
        (other, measured(policy, decision, other.observations.get(decision.loop)))
        for other in cycles
        if cycle.tick - CONTEXT <= other.tick <= last
    )
    return tuple(
        Sample(other.tick, other.step, value) for other, value in values if value is not None
    )


def _knob(decision: Decision, cycle: Cycle, cycles: Sequence[Cycle]) -> tuple[Sample, ...]:
    change = moved_number(decision)
    if change is None:
        return ()
    knob = change.knob
    values = (
        (other, other.after.values.get(knob))
        for other in cycles
        if abs(other.tick - cycle.tick) <= CONTEXT
    )
    return tuple(
        Sample(other.tick, other.step, float(value))
        for other, value in values
        if isinstance(value, int | float) and not isinstance(value, bool)
    )


def moved_number(decision: Decision) -> Change | None:
    """Return the change that is worth a curve: of a number, a fractional one if there is any."""
    numbers = [c for c in decision.changes if not isinstance(c.new, str | bool)]
    return next((c for c in numbers if isinstance(c.new, float)), next(iter(numbers), None))


def _beliefs(header: Mapping[str, object] | None) -> Beliefs:
    """Return what the run believed at its start; nothing if the header does not say."""
    held = (header or {}).get("beliefs")
    if not isinstance(held, Mapping):
        return {}
    try:
        return {str(key): decode(Belief, belief) for key, belief in held.items()}
    except CodecError:
        return {}


def _after(beliefs: Beliefs, insights: Iterable[Insight]) -> Beliefs:
    known = dict(beliefs)
    for insight in insights:
        key = belief_key(insight)
        known[key] = known.get(key, Belief()).after(insight.reward)
    return known


def _words(note: str) -> list[str]:
    return note.replace(":", " ").replace(",", " ").split()
