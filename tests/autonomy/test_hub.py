import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.guards import bounds, cooldown, frozen_by_alarm
from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision, Effect, Request, unchanged
from daafl.errors import CodecError


def effect(**values: float) -> Effect:
    return Effect("metric", **{"baseline": 1.0, "mean": 0.0, "sd": 0.1, "horizon": 2, **values})


@pytest.fixture
def lone(toys: SimpleNamespace) -> SimpleNamespace:
    """A loop ``lr`` that owns the knob ``lr`` within [0, 10], driven by orders."""
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    return toys.Runner(toys.hub(toys.loop("lr", lr)))


def pair(toys: SimpleNamespace, *, level: str, influences: tuple[str, ...] = ("lr",)):
    """The loop ``lr`` and a loop ``other`` of a level that may request bounds on its knob."""
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    return toys.Runner(
        toys.hub(toys.loop("lr", lr), toys.loop("other", level=level, influences=influences))
    )


# ---- changes -------------------------------------------------------------------------------


def test_a_change_moves_the_plan_and_gets_a_number(lone: SimpleNamespace) -> None:
    decision = lone.set("lr", 2.0)
    assert (lone.plan["lr"], lone.plan.revision, decision.number) == (2.0, 1, 1)
    assert lone.set("lr", 3.0).number == 2


def test_leaving_things_as_they_are_gets_no_number(toys: SimpleNamespace, lone) -> None:
    result = lone.cycle(lr=toys.Order())
    assert [decision.number for decision in result.decisions] == [None]
    assert lone.plan.revision == 0
    assert lone.set("lr", 1.0).number is None


def test_a_change_is_clipped_to_the_knobs_own_bounds(lone: SimpleNamespace) -> None:
    assert lone.set("lr", 99.0).changes == (Change("lr", 1.0, 10.0),)
    assert lone.notes == ["lr 99.0 of lr -> 10.0 for its own bounds"]


def test_a_loop_that_is_not_observed_has_no_turn(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="cost")
    assert [d.loop for d in runner.cycle(other=toys.Order()).decisions] == ["other"]
    assert runner.state.loops["lr"].memory.seen == 0


def test_only_the_owner_changes_a_knob(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="safety")
    greedy = toys.Order(action="grab", changes=(Change("lr", 1.0, 2.0),))
    result = runner.cycle(other=greedy)
    assert runner.plan["lr"] == 1.0
    assert result.decisions[0].changes == ()
    assert "it belongs to lr" in runner.notes[0]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ((Change("lr", 0.5, 2.0),), "it is 1.0, not 0.5"),
        ((Change("lr", 1.0, 2.0), Change("missing", 0.5, 2.0)), "this hub does not hold it"),
        ((Change("lr", 1.0, 2.0), Change("lr", 1.0, 3.0)), "it is changed twice"),
    ],
)
def test_what_takes_one_change_away_takes_all(toys, lone, changes, rule: str) -> None:
    lone.cycle(lr=toys.Order(action="move", changes=changes))
    assert lone.plan["lr"] == 1.0
    assert rule in lone.notes[0]


def test_dependants_see_what_was_decided_before_them(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    runner = toys.Runner(
        toys.hub(toys.loop("reader", depends_on=("lr",)), toys.loop("blind"), toys.loop("lr", lr))
    )
    change = toys.Order(action="set", changes=(Change("lr", 1.0, 2.0),))
    result = runner.cycle(reader=toys.Order(), blind=toys.Order(), lr=change)
    reasons = {decision.loop: decision.reason for decision in result.decisions}
    assert reasons["reader"] == "told to continue at lr 2.0"
    assert reasons["blind"] == "told to continue at lr 1.0"


# ---- requests ------------------------------------------------------------------------------


def test_a_stronger_loops_request_clips_the_owner_for_as_long_as_asked(toys) -> None:
    runner = pair(toys, level="integrity")
    ask = Request("lr", "integrity", "other", "attack", high=0.5, ticks=2)
    result = runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    # Nobody moved lr, so the hub does, and says so as a decision of its own.
    hubs = result.decisions[-1]
    assert (hubs.loop, hubs.number, hubs.changes) == ("hub", 2, (Change("lr", 1.0, 0.5),))
    assert runner.set("lr", 3.0).changes == ()
    assert runner.notes == ["lr 3.0 of lr -> 0.5 for other"]
    assert runner.set("lr", 3.0).changes == (Change("lr", 0.5, 3.0),)


def test_a_knob_gets_its_value_back_when_requests_lapse(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="integrity")
    ask = Request("lr", "integrity", "other", "attack", high=0.5, ticks=2)
    runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    runner.cycle()
    assert runner.plan["lr"] == 0.5
    runner.cycle()
    assert runner.plan["lr"] == 1.0
    assert runner.state.displaced == {}


def test_a_value_that_somebody_set_meanwhile_stays(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="integrity")
    ask = Request("lr", "integrity", "other", "attack", high=0.5, ticks=2)
    runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    runner.plan = runner.plan.apply([Change("lr", 0.5, 0.3)])
    for _ in range(3):
        runner.cycle()
    assert runner.plan["lr"] == 0.3


def test_a_weaker_loops_request_does_not_bind(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="cost")
    ask = Request("lr", "cost", "other", "expensive", high=0.5)
    runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    assert runner.plan["lr"] == 1.0
    assert runner.notes == ["other cannot bind lr: its owner's reasons are stronger"]


def test_a_loop_speaks_at_its_own_level(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="cost")
    ask = Request("lr", "safety", "somebody", "please", high=0.5)
    result = runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    (request,) = result.decisions[0].requests
    assert (request.level, request.by) == ("cost", "other")
    assert runner.plan["lr"] == 1.0


def test_a_loop_requests_only_what_it_declares_to_influence(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="safety", influences=())
    ask = Request("lr", "safety", "other", "why", high=0.5)
    result = runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    assert result.decisions[0].requests == ()
    assert "does not declare to influence it" in runner.notes[0]


def test_a_newer_request_of_the_same_loop_replaces_the_older(toys: SimpleNamespace) -> None:
    runner = pair(toys, level="integrity")
    for high in (0.5, 0.8):
        ask = Request("lr", "integrity", "other", "attack", high=high, ticks=5)
        runner.cycle(other=toys.Order(action="ask", requests=(ask,)))
    assert runner.plan["lr"] == 0.8
    assert len(runner.state.requests) == 1


def test_requests_from_outside_bind_and_those_for_outside_leave(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    loop = toys.loop("lr", lr, influences=("quorum",))
    runner = toys.Runner(toys.hub(loop, elsewhere=frozenset({"quorum"})))
    ask = Request("quorum", "learning", "lr", "noisy", low=5.0)
    strange = Request("speed", "safety", "guardian", "why", high=1.0)
    inbound = Request("lr", "safety", "guardian", "why", high=0.2)
    result = runner.cycle((inbound, strange), lr=toys.Order(action="ask", requests=(ask,)))
    assert result.outbound == (ask,)
    assert runner.plan["lr"] == 0.2
    assert runner.notes == ["guardian requests speed, which is not held here"]


def test_a_request_without_bounds_holds_a_choice(toys: SimpleNamespace) -> None:
    mode = toys.knob("mode", "pacing", default="step", choices=("step", "reply"))
    runner = toys.Runner(toys.hub(toys.loop("pacing", mode)))
    hold = Request("mode", "integrity", "guardian", "attack", ticks=2)
    change = toys.Order(action="set", changes=(Change("mode", "step", "reply"),))
    runner.cycle((hold,), pacing=change)
    assert runner.plan["mode"] == "step"
    assert runner.notes == ["pacing cannot change mode: it is held for guardian"]


def test_an_alarm_freezes_what_the_guard_protects(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    guarded = toys.loop("lr", lr, guards=(frozen_by_alarm("lr"),))
    runner = toys.Runner(toys.hub(guarded))
    freeze = Request("lr", "integrity", "quality", "attack", high=1.0, ticks=5)
    runner.cycle((freeze,))
    assert runner.set("lr", 2.0).changes == ()
    assert runner.notes == ["guards of lr leave nothing of lr 1.0 -> 2.0"]
    assert runner.set("lr", 0.4).changes == (Change("lr", 1.0, 0.4),)
    # Below the ceiling it is no longer frozen; the request itself still clips it.
    assert runner.set("lr", 3.0).changes == (Change("lr", 0.4, 1.0),)


def test_guards_see_ticks_and_last_moves(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    runner = toys.Runner(toys.hub(toys.loop("lr", lr, guards=(bounds(), cooldown("lr", 2)))))
    assert runner.set("lr", 2.0).changes
    assert not runner.set("lr", 3.0).changes
    assert runner.set("lr", 3.0).changes


# ---- structural changes and restores -------------------------------------------------------


def structural(toys: SimpleNamespace, *levels: str):
    loops = [
        toys.loop(
            name,
            toys.knob(f"{name}_arm", name, default=0, low=0, high=9, is_structural=True),
            level=level,
        )
        for name, level in zip("abc", levels, strict=False)
    ]
    return toys.Runner(toys.hub(*loops, window=3))


def arm(toys: SimpleNamespace, name: str, **order: object):
    return toys.Order(action="switch", changes=(Change(f"{name}_arm", 0, 1),), **order)


def test_one_structural_change_per_window(toys: SimpleNamespace) -> None:
    runner = structural(toys, "learning", "learning")
    moved = []
    for _ in range(5):
        orders = {name: arm(toys, name) for name in "ab" if runner.plan[f"{name}_arm"] == 0}
        runner.cycle(**orders)
        moved.append((runner.plan["a_arm"], runner.plan["b_arm"]))
    # The window of three ticks opens again at tick 3.
    assert moved == [(1, 0), (1, 0), (1, 0), (1, 1), (1, 1)]


def test_the_stronger_level_takes_the_window(toys: SimpleNamespace) -> None:
    runner = structural(toys, "cost", "device")
    runner.cycle(a=arm(toys, "a", expect=effect(mean=9.0)), b=arm(toys, "b"))
    assert (runner.plan["a_arm"], runner.plan["b_arm"]) == (0, 1)
    assert "switch of a waits: one structural change at a time" in runner.notes[0]


def test_inside_a_level_effects_then_costs_decide(toys: SimpleNamespace) -> None:
    runner = structural(toys, "learning", "learning", "learning")
    runner.cycle(
        a=arm(toys, "a", expect=effect(mean=0.50), costs={"bytes": 9.0}),
        b=arm(toys, "b", expect=effect(mean=0.49), costs={"bytes": 1.0}),
        c=arm(toys, "c", expect=effect(mean=0.10), costs={"bytes": 0.0}),
    )
    # c's effect is out of the tolerance; a's is the largest, but b's is within 5 % and cheap.
    assert [runner.plan[f"{name}_arm"] for name in "abc"] == [0, 1, 0]


def test_safety_does_not_wait_for_the_window(toys: SimpleNamespace) -> None:
    runner = structural(toys, "learning", "safety")
    runner.cycle(a=arm(toys, "a"))
    runner.cycle(b=arm(toys, "b"))
    assert (runner.plan["a_arm"], runner.plan["b_arm"]) == (1, 1)


def test_a_restore_is_reported_with_its_loop(toys, lone) -> None:
    order = toys.Order(action="restore", restore=4, changes=(Change("lr", 1.0, 0.3),))
    result = lone.cycle(lr=order)
    assert (result.restore, result.restore_by) == (4, "lr")
    assert result.decisions[0].number == 1
    assert result.records[0]["restore"] == 4


@pytest.mark.parametrize(
    ("levels", "winner"), [(("learning", "learning"), "b"), (("integrity", "learning"), "a")]
)
def test_of_two_restores_the_stronger_then_the_older_goes_first(toys, levels, winner) -> None:
    runner = structural(toys, *levels)
    restores = {"a": 7, "b": 5}
    orders = {n: toys.Order(action="restore", restore=v) for n, v in restores.items()}
    result = runner.cycle(**orders)
    assert (result.restore_by, result.restore) == (winner, restores[winner])
    assert sum(d.restore is not None for d in result.decisions) == 1


def test_a_restore_is_not_held_up_by_what_becomes_of_its_changes(toys, lone) -> None:
    stale = Change("lr", 0.7, 0.3)
    result = lone.cycle(lr=toys.Order(action="restore", restore=4, changes=(stale,)))
    assert result.restore == 4
    assert result.decisions[0].changes == ()


# ---- reflect and adapt ---------------------------------------------------------------------


def test_an_effect_is_judged_at_its_horizon(toys, lone) -> None:
    lone.set("lr", 2.0, expect=effect(mean=0.2))
    assert lone.cycle(lr=toys.Order(metric=5.0)).insights == ()
    result = lone.cycle(lr=toys.Order(metric=0.8))
    (insight,) = result.insights
    assert (insight.decision, insight.verdict) == (1, "confirmed")
    assert insight.actual == pytest.approx(0.2)
    assert lone.state.loops["lr"].memory.verdicts == ("confirmed",)
    assert [line["kind"] for line in result.records] == ["decided", "closed"]
    assert lone.cycle(lr=toys.Order(metric=0.8)).insights == ()


def test_an_effect_waits_for_a_loop_that_is_away(toys, lone) -> None:
    lone.set("lr", 2.0, expect=effect())
    for _ in range(5):
        lone.cycle()
    assert len(lone.cycle(lr=toys.Order(metric=1.0)).insights) == 1


def test_a_decision_without_an_effect_that_can_be_told_is_let_go(toys, lone) -> None:
    lone.set("lr", 2.0, expect=effect(horizon=1))
    result = lone.cycle(lr=toys.Order(metric=None))
    assert result.insights == ()
    assert lone.state.loops["lr"].pending == ()


def test_a_restore_judges_the_loops_earlier_decisions_at_once(toys, lone) -> None:
    lone.set("lr", 2.0, expect=effect(horizon=9))
    result = lone.cycle(lr=toys.Order(metric=50.0, action="restore", restore=0))
    (insight,) = result.insights
    assert (insight.decision, insight.verdict) == (1, "worse")
    assert lone.state.loops["lr"].pending == ()
    assert lone.state.loops["lr"].memory.verdicts == ("worse",)


def test_experience_replaces_a_laws_expectation_once_there_is_enough(toys) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    hub = toys.hub(toys.loop("lr", lr))
    order = toys.Order(action="set", changes=(Change("lr", 1.0, 2.0),), expect=effect(mean=0.5))
    runner = toys.Runner(hub)
    for n, expected in ((2.9, (0.5, 0.0)), (4.0, (0.15, 0.05))):
        runner = toys.Runner(hub)
        runner.state = hub.init({"lr/any/set": Belief(n, 1.5)})
        result = runner.cycle(lr=order)
        # 1.5 standard deviations of .1; sd_mean = .1 / sqrt(4)
        expect = result.decisions[0].expect
        assert (expect.mean, expect.sd_mean) == pytest.approx(expected)


def test_insights_teach_the_hub(toys, lone) -> None:
    lone.set("lr", 2.0, expect=effect(horizon=1))
    lone.cycle(lr=toys.Order(metric=0.8))
    # improvement .2 at sd .1: a reward of 2
    assert lone.state.beliefs == {"lr/any/set": Belief(1.0, pytest.approx(2.0))}


def fail(toys, runner, *, state: str = "any") -> bool:
    """Let ``set`` be decided and turn out worse; return whether it was carried out."""
    new = runner.plan["lr"] + 0.25
    done = runner.set("lr", new, state=state, expect=effect(horizon=1))
    runner.cycle(lr=toys.Order(metric=50.0))
    return bool(done.changes)


def test_an_action_that_failed_twice_in_a_state_is_banned_for_fifty_ticks(toys, lone) -> None:
    assert fail(toys, lone) and fail(toys, lone)
    banned_at = lone.state.tick - 1
    assert not fail(toys, lone)
    refused = lone.set("lr", 9.0)
    assert (refused.action, refused.number) == ("continue", None)
    assert refused.reason == f"set failed twice in any; not again before tick {banned_at + 50}"
    assert fail(toys, lone, state="other")
    while lone.state.tick < banned_at + 50:
        assert not lone.set("lr", 9.0).changes
    assert lone.set("lr", 9.0).changes


def test_a_success_in_between_clears_the_record(toys, lone) -> None:
    assert fail(toys, lone)
    lone.set("lr", 3.0, expect=effect(horizon=1))
    lone.cycle(lr=toys.Order(metric=1.0))
    assert fail(toys, lone) and fail(toys, lone)
    assert not fail(toys, lone)


def test_laws_restores_alerts_and_safety_are_never_banned(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=100.0)
    for settings in ({"laws": ("set",)}, {"level": "safety"}):
        runner = toys.Runner(toys.hub(toys.loop("lr", lr, **settings)))
        assert all(fail(toys, runner) for _ in range(4))
    for order in ({"action": "alert"}, {"action": "back", "restore": 1}):
        runner = toys.Runner(toys.hub(toys.loop("lr", lr)))
        for _ in range(4):
            result = runner.cycle(lr=toys.Order(**order, expect=effect(horizon=1)))
            assert result.decisions[0].number is not None
            runner.cycle(lr=toys.Order(metric=50.0))
        assert runner.state.bans


# ---- what policies do wrong ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["observe", "reason", "reflect"])
def test_a_policy_that_raises_is_benched_and_the_rest_goes_on(toys, where: str) -> None:
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    runner = toys.Runner(toys.hub(toys.loop("lr", lr), toys.loop("calm"), window=3))
    runner.set("lr", 2.0, expect=effect(horizon=1))
    memory = runner.state.loops["lr"].memory
    result = runner.cycle(lr=toys.Order(fail_in=where), calm=toys.Order())
    assert [d.loop for d in result.decisions] == ["lr", "calm"]
    broken = result.decisions[0]
    assert (broken.action, broken.state) == ("continue", "benched")
    assert runner.notes == [
        f"lr failed: RuntimeError: broken in {where}; it is benched until tick 4"
    ]
    assert runner.state.loops["lr"].memory == memory
    assert runner.state.loops["calm"].memory.seen == 1
    # Failed at tick 1: it sits out ticks 2 and 3, and has its turn again at tick 4.
    assert not runner.set("lr", 3.0).changes
    assert not runner.set("lr", 3.0).changes
    assert runner.set("lr", 3.0).changes


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_observation_that_is_not_finite_benches_its_loop(toys, lone, number) -> None:
    result = lone.cycle(lr=toys.Order(metric=number))
    assert lone.notes == [
        "lr: its observation is refused; it must be a finite Order; it is benched until tick 5"
    ]
    assert result.records[0]["observations"] == {"lr": None}
    json.dumps(result.records, allow_nan=False)


def test_an_observation_of_another_type_is_refused(toys, lone) -> None:
    lone.cycle(lr=object())
    assert "its observation is refused" in lone.notes[0]


def test_an_observation_of_an_unknown_loop_is_noted(toys, lone) -> None:
    lone.cycle(stranger=toys.Order())
    assert lone.notes == ["there is no loop stranger here"]


@pytest.mark.parametrize(
    ("decision", "rule"),
    [
        ("more", "it decided on a str, not a Decision"),
        (unchanged("other", "any", "why"), "it decided in the name of other"),
        (
            Decision("lr", "set", "any", "why", (Change("lr", 1.0, math.nan),)),
            "a number must be finite",
        ),
    ],
)
def test_a_decision_that_is_none_benches_its_loop(toys, decision: object, rule: str) -> None:
    class Nonsense(toys.Obedient):
        def reason(self, state, order, plan):
            return decision

    runner = toys.Runner(toys.hub(replace(toys.loop("lr"), policy=Nonsense("lr"))))
    runner.cycle(lr=toys.Order())
    assert rule in runner.notes[0]


def test_a_memory_that_json_cannot_hold_benches_its_loop(toys) -> None:
    class Forgetful(toys.Obedient):
        def observe(self, state, order):
            return replace(state, seen=math.inf)

    runner = toys.Runner(toys.hub(replace(toys.loop("lr"), policy=Forgetful("lr"))))
    runner.cycle(lr=toys.Order())
    assert "a number must be finite" in runner.notes[0]
    json.dumps(runner.hub.encode(runner.state), allow_nan=False)


# ---- purity and state ----------------------------------------------------------------------


def test_the_same_input_gives_the_same_output_and_changes_no_input(toys) -> None:
    runner = pair(toys, level="integrity")
    runner.set("lr", 2.0, expect=effect())
    before = json.dumps(runner.hub.encode(runner.state))
    orders = {"lr": toys.Order(action="set", changes=(Change("lr", 2.0, 3.0),))}
    results = [runner.hub.cycle(runner.state, orders, runner.plan) for _ in range(2)]
    assert results[0] == results[1]
    assert json.dumps(runner.hub.encode(runner.state)) == before


def test_state_survives_json_with_everything_in_flight(toys) -> None:
    runner = pair(toys, level="integrity")
    ask = Request("lr", "integrity", "other", "attack", high=0.5, ticks=9)
    runner.set("lr", 2.0, expect=effect(horizon=9))
    runner.cycle(other=toys.Order(action="ask", requests=(ask,), expect=effect(horizon=9)))
    fail(toys, runner)
    encoded = json.dumps(runner.hub.encode(runner.state), allow_nan=False)
    assert runner.hub.decode(json.loads(encoded)) == runner.state


def test_state_of_other_loops_is_refused(toys, lone) -> None:
    encoded = lone.hub.encode(lone.state)
    with pytest.raises(CodecError, match="of the loops lr, but the hub has other"):
        toys.hub(toys.loop("other")).decode(encoded)


def test_a_loop_that_stays_away_does_not_pile_up_decisions(toys, lone) -> None:
    for i in range(80):
        lone.set("lr", 1.0 + (i % 2), expect=effect(horizon=10_000))
    assert len(lone.state.loops["lr"].pending) == 64


def test_versions_that_policies_may_return_to(toys: SimpleNamespace) -> None:
    class Careful(toys.Obedient):
        def wanted_versions(self, state):
            return frozenset({state.seen, 7})

    loop = replace(toys.loop("lr"), policy=Careful("lr"))
    runner = toys.Runner(toys.hub(loop, toys.loop("calm")))
    runner.cycle(lr=toys.Order(), calm=toys.Order())
    assert runner.hub.wanted_versions(runner.state) == {1, 7}
