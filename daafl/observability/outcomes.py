"""Decisions of a run, each with what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision, Insight
from daafl.observability.events import StepRecord
from daafl.observability.units import number, value_text

Kind = Literal["adjust", "request", "restore", "alert"]
Result = Literal["better", "confirmed", "worse", "pending", "unjudged"]

_SMALL_DIGITS = 6  # of a change too small for fewer
RESULTS: tuple[Result, ...] = ("better", "confirmed", "worse", "pending", "unjudged")


@dataclass(frozen=True)
class Outcome:
    """A decision, when it was taken and how it was judged.

    Parameters
    ----------
    step
        The step after which it was taken.
    insight
        The first judgement, ``None`` when there is none.
    """

    step: int
    decision: Decision
    insight: Insight | None

    @property
    def kind(self) -> Kind:
        """What the decision did, the weightiest thing first."""
        if self.decision.restore is not None:
            return "restore"
        if self.decision.action == "alert":
            return "alert"
        return "adjust" if self.decision.changes else "request"

    @property
    def result(self) -> Result:
        """How it was judged.

        ``pending`` when the run ended before its horizon, ``unjudged`` when it promised no effect.
        """
        if self.insight is not None:
            return self.insight.verdict
        return "unjudged" if self.decision.expect is None else "pending"

    @property
    def is_routine(self) -> bool:
        """Whether it only adjusts numbers and did no harm."""
        numeric = all(not isinstance(change.new, str | bool) for change in self.decision.changes)
        return self.kind == "adjust" and numeric and self.result != "worse"


def outcomes(steps: Iterable[StepRecord]) -> tuple[Outcome, ...]:
    """Return all decisions in the order they were taken."""
    known = tuple(steps)
    insights: dict[tuple[str, int], Insight] = {}
    for step in known:
        for insight in step.insights:
            insights.setdefault((insight.loop, insight.decision), insight)
    return tuple(
        Outcome(step.step, decision, _judgement(decision, insights))
        for step in known
        for decision in step.decisions
    )


def tally(results: Iterable[Outcome]) -> Counter[Result]:
    """Return how many decisions got each result."""
    return Counter(outcome.result for outcome in results)


def change_text(change: Change) -> str:
    """Return a change as ``lr 0.1 → 0.2``, with more digits if it is a small one.

    >>> change_text(Change("lr", 0.36120, 0.36124))
    'lr 0.3612 → 0.36124'
    """
    old, new = value_text(change.old), value_text(change.new)
    if old == new and isinstance(change.old, float) and isinstance(change.new, float):
        old, new = number(change.old, _SMALL_DIGITS), number(change.new, _SMALL_DIGITS)
    return f"{change.knob} {old} → {new}"


def action_text(decision: Decision) -> str:
    """Return what the decision does, in the words of its knobs.

    >>> action_text(Decision("lr", "decrease", "oscillation", "x", (Change("lr", 0.1, 0.05),)))
    'decrease: lr 0.1 → 0.05'
    """
    parts = [change_text(change) for change in decision.changes]
    for request in decision.requests:
        bounds = [
            f"{sign} {value_text(bound)}"
            for sign, bound in (("≥", request.low), ("≤", request.high))
            if bound is not None
        ]
        parts.append(f"asks for {request.knob} {' and '.join(bounds)}".rstrip())
    if decision.restore is not None:
        parts.append(f"back to model version {decision.restore}")
    action = decision.action.replace("_", " ")
    return f"{action}: {', '.join(parts)}" if parts else action


def total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return the sum of counters such as failures by reason."""
    result: Counter[str] = Counter()
    for count in counts:
        result.update(count)
    return result


def _judgement(decision: Decision, insights: Mapping[tuple[str, int], Insight]) -> Insight | None:
    """Return what was made of a decision; federation and branches number theirs separately."""
    return None if decision.number is None else insights.get((decision.loop, decision.number))
