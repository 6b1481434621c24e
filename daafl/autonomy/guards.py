"""Guards: small pure functions that make a decision safe, composed in order.

A guard takes a decision and returns it, narrowed: a change clipped, shrunk or left out. Applying
it twice is applying it once. Guards that only slow a loop down let a decision
that restores a model pass: safety is not held up.

Examples
--------
>>> from daafl.autonomy.plan import Change, Knob, Plan
>>> lr = Knob("lr", "1", default=0.1, owner="learning_rate", scope="branch", low=1e-4, high=3.0)
>>> context = GuardContext(Plan.of([lr]), {"lr": lr}, tick=7)
>>> jump = Decision("learning_rate", "law", "stable", "cos 0.9", (Change("lr", 0.1, 2.0),))
>>> largest_step("lr", 3.0)(jump, context).changes
(Change(knob='lr', old=0.1, new=0.30000000000000004),)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from daafl.autonomy.plan import Change, Knob, Plan, is_number
from daafl.autonomy.records import Decision
from daafl.errors import ConfigError


@dataclass(frozen=True)
class GuardContext:
    """What a guard may look at besides the decision.

    Parameters
    ----------
    plan
        The plan that the decision was made on.
    knobs
        Declarations of the hub's knobs, by name.
    tick
        The cycle's number.
    last_moved
        Tick of each knob's last move; a knob that never moved is absent.
    frozen
        Knobs that a live alarm holds: numbers may fall but not rise, anything else stays.
    """

    plan: Plan
    knobs: Mapping[str, Knob]
    tick: int
    last_moved: Mapping[str, int] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()


Guard: TypeAlias = Callable[[Decision, GuardContext], Decision]


def bounds() -> Guard:
    """Return a guard that clips every change to its knob's own bounds and choices."""

    def guard(decision: Decision, context: GuardContext) -> Decision:
        def clipped(change: Change) -> Change | None:
            knob = context.knobs.get(change.knob)
            return change if knob is None else replace(change, new=knob.clipped(change.new))

        return _with_changes(decision, clipped)

    return guard


def largest_step(
    knob: str, factor: float, *, safe_direction: Literal["down", "up"] | None = None
) -> Guard:
    """Return a guard that keeps a positive knob within `factor` of its value in one cycle.

    A move in the safe direction, and a decision that restores a model, are not limited.

    Raises
    ------
    ConfigError
        When `factor` is not above 1.
    """
    if not factor > 1:
        raise ConfigError(f"largest_step of {knob}: factor must be above 1, not {factor}")

    def guard(decision: Decision, context: GuardContext) -> Decision:
        def limited(change: Change) -> Change | None:
            old, new = change.old, change.new
            if not (is_number(old) and is_number(new)) or old <= 0:
                return change
            if (new < old and safe_direction == "down") or (new > old and safe_direction == "up"):
                return change
            return replace(change, new=min(max(new, old / factor), old * factor))

        return decision if decision.restore is not None else _of_knob(decision, knob, limited)

    return guard


def cooldown(knob: str, ticks: int) -> Guard:
    """Return a guard that lets a knob rest for `ticks` cycles after a move, restores aside."""

    def guard(decision: Decision, context: GuardContext) -> Decision:
        moved = context.last_moved.get(knob)
        if decision.restore is not None or moved is None or context.tick - moved >= ticks:
            return decision
        return _of_knob(decision, knob, _dropped)

    return guard


def hysteresis(knob: str, fraction: float) -> Guard:
    """Return a guard that drops moves of at most `fraction` of the value, restores aside."""

    def guard(decision: Decision, context: GuardContext) -> Decision:
        def wide_enough(change: Change) -> Change | None:
            if not (is_number(change.old) and is_number(change.new)):
                return change
            return None if abs(change.new - change.old) <= fraction * abs(change.old) else change

        return decision if decision.restore is not None else _of_knob(decision, knob, wide_enough)

    return guard


def cap(knob: str, high: float) -> Guard:
    """Return a guard that holds a number at or below a measured safe limit, in any decision."""

    def guard(decision: Decision, context: GuardContext) -> Decision:
        def capped(change: Change) -> Change | None:
            if is_number(change.new) and change.new > high:
                return replace(change, new=high)
            return change

        return _of_knob(decision, knob, capped)

    return guard


def budget(criterion: str, limit: str) -> Guard:
    """Return a guard that drops the changes and requests of a decision that would cost too much.

    Parameters
    ----------
    criterion
        Which of the decision's expected costs to compare; a missing one counts as 0.
    limit
        Knob whose value is what may still be spent.
    """

    def guard(decision: Decision, context: GuardContext) -> Decision:
        if decision.costs.get(criterion, 0.0) <= context.plan.number(limit):
            return decision
        return replace(decision, changes=(), requests=())

    return guard


def frozen_by_alarm(knob: str) -> Guard:
    """Return a guard that lets a number under an alarm fall but not rise, and holds a choice."""

    def guard(decision: Decision, context: GuardContext) -> Decision:
        def held(change: Change) -> Change | None:
            old, new = change.old, change.new
            return change if is_number(old) and is_number(new) and new <= old else None

        return _of_knob(decision, knob, held) if knob in context.frozen else decision

    return guard


def _dropped(change: Change) -> Change | None:
    return None


def _of_knob(decision: Decision, knob: str, narrow: Callable[[Change], Change | None]) -> Decision:
    """Return the decision with `narrow` applied to the changes of one knob."""
    return _with_changes(decision, lambda c: narrow(c) if c.knob == knob else c)


def _with_changes(decision: Decision, narrow: Callable[[Change], Change | None]) -> Decision:
    changes = tuple(new for change in decision.changes if (new := narrow(change)) is not None)
    return decision if changes == decision.changes else replace(decision, changes=changes)
