import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.codec import encode
from daafl.autonomy.guards import bounds, frozen_by_alarm, largest_step
from daafl.autonomy.journal import replay
from daafl.autonomy.lines import override, restored
from daafl.autonomy.plan import Change
from daafl.autonomy.records import STRENGTH, Effect, Request
from daafl.errors import JournalError

EFFECTS = st.none() | st.builds(
    Effect,
    st.just("metric"),
    st.floats(-2, 2),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.integers(1, 4),
)
BOUNDS = st.none() | st.floats(0, 5)
REQUESTS = st.builds(
    lambda level, low, high, ticks: Request(
        "lr", level, "asker", "why", *sorted_bounds(low, high), ticks
    ),
    st.sampled_from(sorted(STRENGTH)),
    BOUNDS,
    BOUNDS,
    st.integers(1, 4),
)


def sorted_bounds(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (high, low) if low is not None and high is not None and low > high else (low, high)


def make_hub(toys: SimpleNamespace):
    lr = toys.knob("lr", "lr", low=0.0, high=10.0)
    mode = toys.knob("mode", "arms", default=0, low=0, high=3, is_structural=True)
    return toys.hub(
        toys.loop("lr", lr, guards=(largest_step("lr", 4.0), frozen_by_alarm("lr"), bounds())),
        toys.loop("asker", level="integrity", influences=("lr",)),
        toys.loop("arms", mode, depends_on=("lr",)),
        window=3,
    )


@st.composite
def orders(draw: st.DrawFn, toys: SimpleNamespace, plan) -> dict[str, object]:
    """Random orders for a random part of the loops, sensible and not."""
    chosen = {}
    for name, knob, values in (
        ("lr", "lr", st.floats(-1, 20)),
        ("arms", "mode", st.integers(0, 5)),
        ("asker", None, st.none()),
    ):
        if not draw(st.booleans()):
            continue
        old = None if knob is None else draw(st.sampled_from([plan[knob], plan[knob], -1]))
        change = () if knob is None else (Change(knob, old, draw(values)),)
        metrics = st.floats(-3, 3) | st.none() | st.just(float("nan"))
        chosen[name] = toys.Order(
            metric=draw(metrics),
            action=draw(st.sampled_from(["set", "alert", "continue"])),
            state=draw(st.sampled_from(["calm", "storm"])),
            changes=draw(st.sampled_from([change, ()])),
            requests=draw(st.lists(REQUESTS, max_size=2).map(tuple)),
            restore=draw(st.none() | st.integers(0, 5)),
            expect=draw(EFFECTS),
            costs=draw(st.dictionaries(st.just("bytes"), st.floats(0, 9))),
            fail_in=draw(st.sampled_from([""] * 9 + ["observe", "reason", "reflect"])),
        )
    return chosen


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_replay_of_anything_gives_the_same_decisions(toys, data: st.DataObject) -> None:
    runner = toys.Runner(make_hub(toys))
    for tick in range(data.draw(st.integers(1, 12))):
        inbound = tuple(data.draw(st.lists(REQUESTS, max_size=1)))
        runner.cycle(inbound, **data.draw(orders(toys, runner.plan)))
        if data.draw(st.booleans()):
            change = Change("lr", runner.plan["lr"], data.draw(st.floats(0, 10)))
            runner.records.append(override("main", tick, [change], by="me", reason="a test"))
            runner.plan = runner.plan.apply([change])
        assert runner.hub.decode(runner.hub.encode(runner.state)) == runner.state
        assert 0 <= runner.plan["lr"] <= 10
    text = [json.loads(json.dumps(record, allow_nan=False)) for record in runner.records]
    assert replay({"main": runner.hub}, text) is None


@pytest.fixture
def run(toys: SimpleNamespace):
    """A short run: a change that is judged, a request that binds."""
    runner = toys.Runner(make_hub(toys))
    runner.set("lr", 2.0, expect=Effect("metric", 1.0, 0.0, 0.1, 2))
    ask = Request("lr", "integrity", "asker", "attack", high=0.5, ticks=2)
    runner.cycle(asker=toys.Order(action="ask", requests=(ask,)))
    for _ in range(3):
        runner.cycle(lr=toys.Order(metric=0.5), arms=toys.Order())
    runner.records = [json.loads(json.dumps(record)) for record in runner.records]
    return runner


def index_of(run, kind: str) -> int:
    return next(i for i, record in enumerate(run.records) if record["kind"] == kind)


def test_the_plain_run_replays(run) -> None:
    assert replay({"main": run.hub}, run.records) is None


@pytest.mark.parametrize(
    ("tick", "path", "value"),
    [
        (0, ("after", "values", "lr"), 2.5),
        (0, ("decisions", 0, "reason"), "because"),
        (1, ("decisions", 1, "changes", 0, "new"), 0.4),
        (1, ("before", "values", "lr"), 3.0),
        (2, ("notes",), ["all is well"]),
        (0, ("observations", "lr", "changes", 0, "new"), 1.5),
        (1, ("observations", "asker", "requests", 0, "high"), 0.7),
    ],
)
def test_a_tampered_line_is_found_at_its_tick(run, tick: int, path: tuple, value: object) -> None:
    records = copy.deepcopy(run.records)
    (place,) = (r for r in records if r["kind"] == "decided" and r["tick"] == tick)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    divergence = replay({"main": run.hub}, records)
    assert divergence is not None
    assert (divergence.target, divergence.tick) == ("main", tick)


def test_the_divergence_says_what_differs(run) -> None:
    records = copy.deepcopy(run.records)
    records[0]["decisions"][0]["changes"][0]["new"] = 9.0
    divergence = replay({"main": run.hub}, records)
    assert divergence.what == "decisions[0].changes[0].new: recorded 9.0, replayed 2.0"


def test_insights_are_compared_too(run) -> None:
    closed = index_of(run, "closed")
    records = copy.deepcopy(run.records)
    records[closed]["insight"]["verdict"] = "worse"
    assert replay({"main": run.hub}, records).what.startswith("insight.verdict")
    without = run.records[:closed] + run.records[closed + 1 :]
    assert "an insight is missing" in replay({"main": run.hub}, without).what
    twice = [*run.records[: closed + 1], run.records[closed]]
    assert "no loop has" in replay({"main": run.hub}, twice).what


def test_a_journal_cut_anywhere_still_replays(run) -> None:
    for end in range(len(run.records)):
        assert replay({"main": run.hub}, run.records[:end]) is None


def test_another_policy_does_not_replay(toys, run) -> None:
    class Contrary(toys.Obedient):
        def reason(self, state, order, plan):
            return replace(super().reason(state, order, plan), changes=())

    loops = tuple(
        replace(loop, policy=Contrary("lr", loop.policy.knobs))
        if loop.policy.name == "lr"
        else loop
        for loop in run.hub.loops
    )
    divergence = replay({"main": replace(run.hub, loops=loops)}, run.records)
    assert divergence is not None and divergence.tick == 0


def test_overrides_and_restores_change_the_plan(toys, run) -> None:
    tick, before = run.state.tick, run.plan["lr"]
    forced = Change("lr", before, 9.0)
    run.records.append(override("main", tick, [forced], by="operator", reason="a test"))
    run.plan = run.plan.apply([forced])
    run.cycle(lr=toys.Order(action="back", restore=1))
    back = Change("lr", 9.0, 0.25)
    run.records.append(restored("main", asked=1, applied=1, changes=[back]))
    run.plan = run.plan.apply([back])
    run.cycle(lr=toys.Order())
    assert replay({"main": run.hub}, run.records) is None
    without = [record for record in run.records if record["kind"] != "override"]
    assert replay({"main": run.hub}, without).what.startswith("before")
    # A restore that does not tell how the knobs went back is taken at its word.
    for record in run.records:
        if record["kind"] == "restored":
            del record["changes"]
    assert replay({"main": run.hub}, run.records) is None


def test_cycles_that_leave_no_line_still_pass(toys) -> None:
    runner = toys.Runner(make_hub(toys))
    ask = Request("lr", "integrity", "asker", "attack", high=0.5, ticks=3)
    runner.cycle(asker=toys.Order(action="ask", requests=(ask,)))
    runner.cycle()
    runner.records.pop()
    runner.cycle()
    runner.records.pop()
    runner.cycle(lr=toys.Order())
    assert runner.plan["lr"] == 1.0
    assert replay({"main": runner.hub}, runner.records) is None


def test_beliefs_come_from_the_header(toys) -> None:
    hub = make_hub(toys)
    beliefs = {"lr/any/set": Belief(9.0, 2.0)}
    runner = toys.Runner(hub)
    runner.state = hub.init(beliefs)
    runner.set("lr", 2.0, expect=Effect("metric", 1.0, 0.0, 0.1, 2))
    header = {"kind": "header", "beliefs": encode(beliefs)}
    assert replay({"main": hub}, [header, *runner.records]) is None
    assert "expect" in replay({"main": hub}, runner.records).what


def test_each_target_has_its_own_hub_and_plan(toys) -> None:
    one, two = toys.Runner(make_hub(toys)), toys.Runner(make_hub(toys))
    one.set("lr", 2.0)
    two.set("lr", 0.5)
    one.set("lr", 3.0)
    others = [{**record, "target": "cluster"} for record in two.records]
    records = [one.records[0], others[0], one.records[1]]
    hubs = {"main": one.hub, "cluster": two.hub}
    assert replay(hubs, records) is None
    with pytest.raises(JournalError, match="record 2 cannot be replayed: 'cluster'"):
        replay({"main": one.hub}, records)


def test_a_line_without_what_its_kind_requires_is_refused(run) -> None:
    del run.records[0]["before"]
    with pytest.raises(JournalError, match="record 1 cannot be replayed"):
        replay({"main": run.hub}, run.records)
