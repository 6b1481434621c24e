from collections.abc import Callable

from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision, Effect, Insight, Request
from daafl.observability.events import StepRecord
from daafl.observability.outcomes import Outcome, action_text, outcomes, tally, total

EFFECT = Effect("loss", 1.0, 0.1, 0.05, 2)


def decision(number: int, **fields: object) -> Decision:
    return Decision("learning_rate", "increase", "stable", "why", number=number, **fields)


def insight(number: int, verdict: str) -> Insight:
    return Insight("learning_rate", "increase", "stable", number, verdict, 0.1, 0.3, 4.0, "so")


def test_each_decision_meets_its_own_judgement(make_record: Callable[..., StepRecord]) -> None:
    change = (Change("lr", 0.1, 0.2),)
    steps = [
        make_record(1, decisions=(decision(1, changes=change, expect=EFFECT),)),
        make_record(2, decisions=(decision(2, changes=change), decision(3, expect=EFFECT))),
        make_record(3, insights=(insight(1, "better"),)),
        # A second judgement of the same decision does not replace the first.
        make_record(4, insights=(insight(1, "worse"),)),
    ]
    found = outcomes(steps)
    assert [(o.step, o.decision.number, o.result) for o in found] == [
        (1, 1, "better"),
        (2, 2, "unjudged"),
        (2, 3, "pending"),
    ]
    assert tally(found) == {"better": 1, "unjudged": 1, "pending": 1}


def test_loops_number_their_decisions_apart(make_record: Callable[..., StepRecord]) -> None:
    wide = Decision("participation", "widen", "stable", "why", expect=EFFECT, number=1)
    steps = [
        make_record(1, decisions=(wide, decision(1, expect=EFFECT))),
        make_record(2, insights=(insight(1, "worse"),)),
    ]
    assert [(o.decision.loop, o.result) for o in outcomes(steps)] == [
        ("participation", "pending"),
        ("learning_rate", "worse"),
    ]


def test_the_kind_is_the_weightiest_thing_a_decision_does() -> None:
    change = (Change("lr", 0.1, 0.2),)
    ask = (Request("lr", "integrity", "health", "drift", high=0.1),)
    alert = Decision("health", "alert", "failing", "why", requests=ask)
    kinds = [
        Outcome(1, decision(1, changes=change, requests=ask), None).kind,
        Outcome(1, decision(1, requests=ask), None).kind,
        Outcome(1, alert, None).kind,
        Outcome(1, decision(1, changes=change, restore=4), None).kind,
    ]
    assert kinds == ["adjust", "request", "alert", "restore"]


def test_only_harmless_numeric_adjustments_are_routine() -> None:
    numeric = decision(1, changes=(Change("lr", 0.1, 0.2),))
    named = decision(1, changes=(Change("server", "fedavg", "fedavgm"),))
    assert Outcome(1, numeric, None).is_routine
    assert not Outcome(1, numeric, insight(1, "worse")).is_routine
    assert not Outcome(1, named, None).is_routine
    assert not Outcome(1, decision(1, restore=3), None).is_routine


def test_an_action_names_knobs_bounds_and_version() -> None:
    both = decision(
        1,
        changes=(Change("lr", 0.1, 0.05), Change("compressed", False, True)),
        requests=(Request("steps", "cost", "x", "y", low=1, high=5),),
        restore=7,
    )
    assert action_text(both) == (
        "increase: lr 0.1 → 0.05, compressed off → on, asks for steps ≥ 1 and ≤ 5, "
        "back to model version 7"
    )
    assert action_text(Decision("health", "raise_alarm", "failing", "why")) == "raise alarm"


def test_total_adds_reasons_up() -> None:
    assert total([{"timeout": 2}, {}, {"timeout": 1, "norm": 4}]) == {"timeout": 3, "norm": 4}
