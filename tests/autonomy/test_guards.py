from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.autonomy.guards import (
    Guard,
    GuardContext,
    bounds,
    budget,
    cap,
    cooldown,
    frozen_by_alarm,
    hysteresis,
    largest_step,
)
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.records import Decision, Request
from daafl.errors import ConfigError

LR = Knob("lr", "1", 1.0, "loop", "branch", low=0.01, high=10.0)
MODE = Knob("mode", "", "step", "loop", "branch", choices=("step", "reply"))
LEFT = Knob("joules_left", "J", 5.0, "operator", "branch")
CONTEXT = GuardContext(
    Plan.of([LR, MODE, LEFT]),
    {knob.name: knob for knob in (LR, MODE, LEFT)},
    tick=10,
    last_moved={"lr": 7},
)


def to(new: object, *, knob: str = "lr", old: object = 1.0, **fields: object) -> Decision:
    return Decision("loop", "set", "any", "a test", (Change(knob, old, new),), **fields)


def news(guard: Guard, decision: Decision, context: GuardContext = CONTEXT) -> list[object]:
    return [change.new for change in guard(decision, context).changes]


def test_bounds_clips_to_the_knob() -> None:
    assert news(bounds(), to(50.0)) == [10.0]
    assert news(bounds(), to("never", knob="mode", old="step")) == ["step"]


def test_largest_step_limits_both_ways() -> None:
    guard = largest_step("lr", 2.0)
    assert news(guard, to(5.0)) == [2.0]
    assert news(guard, to(0.1)) == [0.5]
    assert news(guard, to(1.5)) == [1.5]
    assert news(guard, to(5.0, knob="other")) == [5.0]


def test_largest_step_never_brakes_safety() -> None:
    assert news(largest_step("lr", 2.0, safe_direction="down"), to(0.02)) == [0.02]
    assert news(largest_step("lr", 2.0, safe_direction="down"), to(5.0)) == [2.0]
    assert news(largest_step("lr", 2.0, safe_direction="up"), to(5.0)) == [5.0]
    assert news(largest_step("lr", 2.0), to(0.02, restore=3)) == [0.02]


def test_largest_step_leaves_what_has_no_ratio() -> None:
    assert news(largest_step("lr", 2.0), to(5.0, old=0.0)) == [5.0]
    assert news(largest_step("mode", 2.0), to("reply", knob="mode", old="step")) == ["reply"]
    with pytest.raises(ConfigError, match="above 1"):
        largest_step("lr", 1.0)


def test_cooldown_counts_from_the_last_move() -> None:
    # Moved at tick 7, now tick 10: three ticks have passed.
    assert news(cooldown("lr", 3), to(2.0)) == [2.0]
    assert news(cooldown("lr", 4), to(2.0)) == []
    assert news(cooldown("lr", 4), to(2.0, restore=1)) == [2.0]
    assert news(cooldown("mode", 4), to("reply", knob="mode", old="step")) == ["reply"]


def test_hysteresis_drops_small_moves() -> None:
    guard = hysteresis("lr", 0.1)
    assert news(guard, to(1.09)) == []
    assert news(guard, to(1.11)) == [1.11]
    assert news(guard, to(0.95)) == []
    assert news(guard, to(0.95, restore=1)) == [0.95]


def test_cap_holds_in_every_decision() -> None:
    assert news(cap("lr", 0.5), to(2.0)) == [0.5]
    assert news(cap("lr", 0.5), to(2.0, restore=1)) == [0.5]
    assert news(cap("lr", 0.5), to(0.4)) == [0.4]


def test_budget_drops_what_costs_more_than_is_left() -> None:
    ask = Request("mode", "learning", "loop", "why")
    guard = budget("joules", limit="joules_left")
    dear = to(2.0, costs={"joules": 5.1}, requests=(ask,))
    assert guard(dear, CONTEXT).changes == guard(dear, CONTEXT).requests == ()
    assert news(guard, to(2.0, costs={"joules": 5.0})) == [2.0]
    assert news(guard, to(2.0)) == [2.0]


def test_an_alarm_lets_a_number_fall_and_holds_a_choice() -> None:
    alarm = replace(CONTEXT, frozen=frozenset({"lr", "mode"}))
    guard = frozen_by_alarm("lr")
    assert news(guard, to(2.0)) == [2.0]
    assert news(guard, to(2.0), alarm) == []
    assert news(guard, to(0.5), alarm) == [0.5]
    assert news(frozen_by_alarm("mode"), to("reply", knob="mode", old="step"), alarm) == []


GUARDS = st.sampled_from(
    [
        bounds(),
        largest_step("lr", 2.0),
        largest_step("lr", 3.0, safe_direction="down"),
        cooldown("lr", 2),
        cooldown("lr", 9),
        hysteresis("lr", 0.2),
        cap("lr", 0.5),
        budget("joules", "joules_left"),
        frozen_by_alarm("lr"),
        frozen_by_alarm("mode"),
    ]
)
CHANGES = st.one_of(
    st.builds(Change, st.just("lr"), st.just(1.0), st.floats(-5, 50)),
    st.builds(Change, st.just("mode"), st.just("step"), st.sampled_from(["step", "reply", "x"])),
)
DECISIONS = st.builds(
    Decision,
    st.just("loop"),
    st.just("set"),
    st.just("any"),
    st.just("a test"),
    st.lists(CHANGES, max_size=2, unique_by=lambda change: change.knob).map(tuple),
    restore=st.none() | st.integers(0, 9),
    costs=st.dictionaries(st.just("joules"), st.floats(0, 10)),
)
CONTEXTS = st.builds(
    replace,
    st.just(CONTEXT),
    tick=st.integers(7, 20),
    frozen=st.sets(st.sampled_from(["lr", "mode"])).map(frozenset),
)


@given(GUARDS, DECISIONS, CONTEXTS)
def test_a_guard_is_idempotent_and_only_narrows(
    guard: Guard, decision: Decision, context: GuardContext
) -> None:
    once = guard(decision, context)
    assert guard(once, context) == once
    assert {c.knob for c in once.changes} <= {c.knob for c in decision.changes}
    assert once.restore == decision.restore
