"""Numbers of a journal, computed again from what it holds and compared with what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeGuard

from daafl.autonomy.beliefs import LEAST_REWARDS, Beliefs, belief_key, informed
from daafl.autonomy.codec import decode
from daafl.autonomy.policy import Policy
from daafl.autonomy.records import Decision, Effect, Insight, judged
from daafl.observability.explanation.cycles import Cycle

Policies: TypeAlias = Mapping[str, Policy[Any, Any]]
"""The loops' policies by name; they know how their metrics are read from an observation."""

_TOLERANCE: Final = 1e-9  # relative; a journal holds every digit of a number
_TOLD: Final = ("action", "reason", "changes", "requests", "restore", "expect")
_NUMBERS: Final = ("expected", "actual", "z", "reward", "verdict", "sentence")


@dataclass(frozen=True)
class Check:
    """One number or word, as recorded and as computed again.

    Parameters
    ----------
    what
        What it is about.
    recorded, recomputed
        The two; the second is ``None`` if it cannot be computed, and `why` says why.
    """

    what: str
    recorded: object
    recomputed: object
    why: str = ""

    @property
    def is_made(self) -> bool:
        """Whether there was something to compare with."""
        return not self.why

    @property
    def agrees(self) -> bool:
        """Whether both are the same, as far as there are both."""
        return not self.is_made or same(self.recorded, self.recomputed)


def same(first: object, second: object) -> bool:
    """Return whether two values are equal, numbers up to rounding.

    Examples
    --------
    >>> same(0.3, 0.1 + 0.2), same(0.3, 0.31), same("better", "better"), same(1, None)
    (True, False, True, False)
    """
    if _is_number(first) and _is_number(second):
        return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=1e-12)
    return first == second


def measured(policy: Policy[Any, Any], decision: Decision, observation: object) -> float | None:
    """Return the metric that a decision is judged by, as its policy reads it there.

    An improvement over a baseline of zero is the metric with its sign turned round.
    """
    if decision.expect is None:
        return None
    asked = replace(decision, number=0, expect=Effect(decision.expect.metric, 0.0, 0.0, 1.0, 1))
    insight = reflected(policy, asked, observation, observation)
    return None if insight is None else -insight.actual


def reflected(
    policy: Policy[Any, Any], decision: Decision, before: object, after: object
) -> Insight | None:
    """Return what a policy makes of a decision; ``None`` if it cannot tell."""
    kind = policy.observation
    try:
        insight: Insight | None = policy.reflect(
            decision, decode(kind, before), decode(kind, after)
        )
    # A policy is anybody's code and may raise anything; what it cannot tell is not explained.
    except Exception:
        return None
    return insight


def insight_checks(
    decision: Decision, insight: Insight, made: Cycle, closed: Cycle, policies: Policies
) -> Iterator[Check]:
    """Yield the checks of a judgement: from the expectation and the observation at its end."""
    effect = decision.expect
    if effect is None:
        yield Check("judgement", insight.verdict, "none: no effect was expected")
        return
    is_early = closed.restore is not None and closed.tick < made.tick + effect.horizon
    due = closed.tick if is_early else max(closed.tick, made.tick + effect.horizon)
    yield Check("tick of the judgement", closed.tick, due)
    again, why = _again(decision, insight, made, closed, policies)
    for name in _NUMBERS:
        value = getattr(insight, name)
        if again is None:
            yield Check(name, value, None, why)
        else:
            # Without the policy, the measured improvement is the one thing that must be believed.
            is_believed = bool(why) and name in ("actual", "sentence")
            yield Check(name, value, getattr(again, name), why if is_believed else "")


def _again(
    decision: Decision, insight: Insight, made: Cycle, closed: Cycle, policies: Policies
) -> tuple[Insight | None, str]:
    """Return the judgement made again, and what it had to take from the record."""
    policy, effect = policies.get(decision.loop), decision.expect
    if policy is None and effect is not None:
        why = f"how {decision.loop} reads {effect.metric} is not known here"
        return judged(decision, effect.baseline - insight.actual), why
    if policy is None:
        return None, "nothing was expected"
    before = made.observations.get(decision.loop)
    after = closed.observations.get(decision.loop)
    again = reflected(policy, decision, before, after)
    return again, "" if again is not None else f"{decision.loop} cannot tell from what it saw"


def decision_checks(decision: Decision, cycle: Cycle, beliefs: Beliefs) -> Iterator[Check]:
    """Yield the checks of a decision against the plans around it and against experience."""
    for change in decision.changes:
        yield Check(f"{change.knob} before", change.old, cycle.before.values.get(change.knob))
        yield Check(f"{change.knob} after", change.new, cycle.after.values.get(change.knob))
    if decision.restore is not None:
        yield Check("version to return to", decision.restore, cycle.restore)
    belief, effect = beliefs.get(belief_key(decision)), decision.expect
    if effect is not None and belief is not None and belief.n >= LEAST_REWARDS:
        learned = informed(decision, beliefs).expect or effect
        yield Check("expected improvement, from experience", effect.mean, learned.mean)
        yield Check("its standard deviation", effect.sd_mean, learned.sd_mean)


def step_checks(decision: Decision, cycle: Cycle) -> Iterator[Check]:
    """Yield the checks of what a loop saw, and of what it decided, against ``rounds.jsonl``."""
    record, seen = cycle.record, cycle.observations.get(decision.loop)
    if record is None:
        return
    told = {
        "step": record.step,
        "version": record.version,
        "lr": record.knobs.get("lr"),
        "loss": record.train_loss,
        "num_updates": record.num_updates,
        "num_examples": record.num_examples,
        "staleness": record.staleness,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "accuracy": record.metrics.get("accuracy"),
        "evaluation_loss": record.metrics.get("loss"),
        "round_seconds": record.seconds if record.kind == "train" else None,
        "num_flagged": len(record.flags),
    }
    for name, value in seen.items() if isinstance(seen, Mapping) else ():
        if name in told:
            yield Check(f"{name} in rounds.jsonl", value, told[name])
    if decision.number is not None:
        found = next((d for d in record.decisions if _is_same_one(d, decision)), None)
        for name in _TOLD:
            told_there = getattr(found, name, None)
            yield Check(f"{name} in rounds.jsonl", getattr(decision, name), told_there)


def _is_same_one(first: Decision, second: Decision) -> bool:
    return (first.loop, first.number) == (second.loop, second.number)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
