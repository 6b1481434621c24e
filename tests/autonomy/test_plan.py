import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.autonomy.plan import Change, Knob, Plan
from daafl.errors import ConfigError, PlanError


def knob(default: object, **settings: object) -> Knob:
    return Knob("k", "1", default, "owner", "branch", **settings)


@pytest.mark.parametrize(
    ("of", "value", "bounds", "expected"),
    [
        (knob(0.1, low=1e-4, high=3.0), 10.0, {}, 3.0),
        (knob(0.1, low=1e-4, high=3.0), 10.0, {"high": 0.5}, 0.5),
        (knob(0.1, low=1e-4, high=3.0), 0.0, {}, 1e-4),
        # The knob's own bounds win over bounds from outside.
        (knob(0.1, low=1e-4, high=3.0), 1.0, {"low": 5.0}, 3.0),
        (knob(0.1), 7, {}, 7.0),
        (knob(10, low=1, high=50), 2.6, {}, 3),
        # Rounding up to 3 would pass the bound of 2.6.
        (knob(10, low=1, high=50), 9, {"high": 2.6}, 2),
        (knob(10, low=1, high=50), 1, {"low": 2.4}, 3),
        (knob("step", choices=("step", "reply")), "reply", {}, "reply"),
        (knob("step", choices=("step", "reply")), "never", {}, "step"),
        (knob("free"), "anything", {}, "anything"),
        (knob("free"), 3, {}, "free"),
        (knob(True), False, {}, False),
        (knob(True), 0, {}, True),
        (knob(1.0), True, {}, 1.0),
        (knob(1, choices=(1, 2, 4, 8)), 5, {}, 4),
        (knob(1, choices=(1, 2, 4, 8)), 8, {"high": 3.0}, 2),
        (knob(1, choices=(1, 2, 4, 8)), 1, {"low": 3.0}, 4),
    ],
)
def test_clipped(of: Knob, value: object, bounds: dict[str, float], expected: object) -> None:
    result = of.clipped(value, **bounds)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_knob_refuses_a_number_that_is_not_finite(number: float) -> None:
    with pytest.raises(PlanError, match="finite"):
        knob(0.1).clipped(number)


@pytest.mark.parametrize(
    ("default", "settings", "rule"),
    [
        (1.0, {"low": 2.0, "high": 1.0}, "low 2.0 is above high 1.0"),
        (5.0, {"high": 1.0}, "not allowed"),
        ("a", {"choices": ("b", "c")}, "not allowed"),
        ("a", {"low": 0.0}, "only a number has bounds"),
        (math.nan, {}, "finite"),
    ],
)
def test_a_contradictory_knob_is_refused(default: object, settings: dict, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        knob(default, **settings)


NAMES = ("lr", "steps", "mode")
KNOBS = (
    Knob("lr", "1", 0.1, "a", "branch", low=0.0, high=10.0),
    Knob("steps", "steps", 10, "b", "branch", low=1, high=100),
    Knob("mode", "", "step", "c", "branch", choices=("step", "reply")),
)
VALUES = {
    "lr": st.floats(0.0, 10.0),
    "steps": st.integers(1, 100),
    "mode": st.sampled_from(["step", "reply"]),
}


@given(st.data())
def test_applying_and_undoing_changes_restores_the_values(data: st.DataObject) -> None:
    plan = Plan.of(KNOBS)
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True))
    changes = [Change(name, plan[name], data.draw(VALUES[name])) for name in names]
    after = plan.apply(changes)
    undone = after.apply([Change(c.knob, c.new, c.old) for c in reversed(changes)])
    assert undone.values == plan.values
    assert undone.digest == plan.digest
    assert {name: after[name] for name in names} == {c.knob: c.new for c in changes}
    assert after.revision == (after.values != plan.values)


def test_a_stale_change_is_refused() -> None:
    plan = Plan.of(KNOBS).apply([Change("lr", 0.1, 0.2)])
    with pytest.raises(PlanError, match=r"decided at 0\.1, but it now is 0\.2"):
        plan.apply([Change("lr", 0.1, 0.3)])


def test_two_changes_of_one_knob_build_on_each_other() -> None:
    plan = Plan.of(KNOBS).apply([Change("lr", 0.1, 0.2), Change("lr", 0.2, 0.4)])
    assert plan["lr"] == 0.4


def test_an_unknown_knob_is_refused_with_the_nearest_name() -> None:
    plan = Plan.of(KNOBS)
    with pytest.raises(PlanError, match="no knob step; did you mean steps"):
        plan.apply([Change("step", 1, 2)])
    assert "step" not in plan and "steps" in plan
    with pytest.raises(ConfigError, match="did you mean mode"):
        Plan.of(KNOBS, {"mod": "reply"})


def test_overrides_must_be_allowed() -> None:
    assert Plan.of(KNOBS, {"steps": 20})["steps"] == 20
    with pytest.raises(ConfigError, match="does not allow 1000; the nearest is 100"):
        Plan.of(KNOBS, {"steps": 1000})


def test_digest_names_the_values_and_not_their_order_or_revision() -> None:
    one = Plan(0, {"a": 1.0, "b": "x"})
    other = Plan(7, {"b": "x", "a": 1.0})
    assert one.digest == other.digest
    assert len(one.digest) == 16
    assert one.digest != Plan(0, {"a": 1.5, "b": "x"}).digest


def test_number_is_only_for_numbers() -> None:
    plan = Plan.of(KNOBS)
    assert plan.number("steps") == 10.0
    with pytest.raises(PlanError, match="not a number"):
        plan.number("mode")
