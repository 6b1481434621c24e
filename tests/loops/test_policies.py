"""The contract of a policy, over every policy that ``daafl.loops`` exports.

Nobody adds themselves to a list: a class with the five phases is found by itself.
"""

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daafl.loops
from daafl.autonomy.codec import decode, encode
from daafl.autonomy.hub import Hub
from daafl.autonomy.journal import replay
from daafl.autonomy.plan import Knob, Plan
from daafl.autonomy.policy import Loop, Restoring
from daafl.autonomy.records import Decision, Effect, Insight

PHASES = ("init", "observe", "reason", "reflect", "adapt")


def policies() -> Iterator[type]:
    for name in daafl.loops.__all__:
        exported = getattr(daafl.loops, name)
        if isinstance(exported, type) and all(hasattr(exported, phase) for phase in PHASES):
            yield exported


POLICIES = list(policies())
each_policy = pytest.mark.parametrize("kind", POLICIES, ids=lambda kind: kind.__name__)


def values(annotation: Any, name: str) -> st.SearchStrategy[Any]:
    """Values of an observation's field, from ordinary to extreme."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument, name) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0], name), min_size=8, max_size=8).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(st.text(max_size=5), values(arguments[1], name), max_size=4)
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(0, 1000)
    if annotation is str:
        return st.text(max_size=10)
    if annotation is float:
        return numbers(name)
    raise TypeError(f"no values for {annotation} of {name}")


def numbers(name: str) -> st.SearchStrategy[float]:
    """Numbers that a host can measure: shares, cosines, and sizes as far as float32 reaches."""
    if name == "cosine":
        return st.floats(-1, 1)
    if name in ("pace", "accuracy") or name.endswith("_fraction"):
        return st.floats(0, 1)
    if name.endswith("_log_losses"):
        return st.floats(-90, 90)
    return st.one_of(st.floats(0, 10), st.floats(0, 10), st.floats(0, 3.4e38))


def observations(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind.observation)
    fields = {name: values(hint, name) for name, hint in hints.items()}
    return st.builds(kind.observation, **fields)


def plans(kind: type) -> Plan:
    return Plan.of(kind().knobs)


def run(kind: type, seen: list[Any]) -> list[tuple[Any, Decision]]:
    policy, plan = kind(), plans(kind)
    state, steps = policy.init(), []
    for observation in seen:
        state = policy.observe(state, observation)
        decision = policy.reason(state, observation, plan)
        steps.append((state, decision))
        plan = plan.apply(decision.changes)
    return steps


SEQUENCES = settings(max_examples=40, deadline=None)


@each_policy
def test_a_policy_is_a_frozen_dataclass_with_defaults_and_a_docstring(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind.observation.__dataclass_params__.frozen
    assert kind.state.__dataclass_params__.frozen
    assert kind.__doc__ and kind.observation.__doc__ and kind.state.__doc__
    assert isinstance(kind().init(), kind.state)
    assert all(isinstance(knob, Knob) and knob.owner == kind().name for knob in kind().knobs)


@each_policy
@SEQUENCES
@given(data=st.data())
def test_it_is_total_and_deterministic_and_its_states_survive_json(kind, data) -> None:
    seen = data.draw(st.lists(observations(kind), min_size=1, max_size=15))
    steps = run(kind, seen)
    assert run(kind, seen) == steps
    for state, decision in steps:
        text = json.dumps(encode(state), allow_nan=False)
        assert decode(kind.state, json.loads(text)) == state
        assert decode(Decision, json.loads(json.dumps(encode(decision)))) == decision


@each_policy
@SEQUENCES
@given(data=st.data())
def test_a_decision_is_about_its_own_knobs_and_says_why(kind, data) -> None:
    seen = data.draw(st.lists(observations(kind), min_size=1, max_size=15))
    owned = {knob.name: knob for knob in kind().knobs}
    for _, decision in run(kind, seen):
        assert decision.loop == kind().name
        assert {change.knob for change in decision.changes} <= owned.keys()
        for change in decision.changes:
            assert owned[change.knob].clipped(change.new) == change.new
        assert not {request.knob for request in decision.requests} & owned.keys()
        assert len(decision.reason.split()) >= 2
        assert decision.state and decision.action
        assert 0 <= decision.confidence <= 1


@each_policy
@SEQUENCES
@given(data=st.data())
def test_it_reflects_and_adapts_whatever_came_of_it(kind, data) -> None:
    policy = kind()
    seen = data.draw(st.lists(observations(kind), min_size=2, max_size=6))
    for before, (state, decision) in zip(seen, run(kind, seen), strict=True):
        expect = decision.expect or Effect("log_loss", 0.0, 0.0, 0.1, 3)
        judged = dataclasses.replace(decision, number=4, expect=expect)
        insight = policy.reflect(judged, before, seen[-1])
        if insight is None:
            continue
        assert decode(Insight, encode(insight)) == insight
        assert insight.decision == 4
        state = policy.adapt(state, insight)
        assert decode(kind.state, encode(state)) == state
        if isinstance(policy, Restoring):
            assert all(isinstance(version, int) for version in policy.wanted_versions(state))


@each_policy
@SEQUENCES
@given(data=st.data())
def test_in_a_hub_it_never_fails_and_replays(kind, data) -> None:
    policy = kind()
    loop = Loop(policy, "learning", "test", "branch")
    hub = Hub((loop,), {knob.name: knob for knob in policy.knobs})
    state, plan = hub.init(), plans(kind)
    records = []
    for observation in data.draw(st.lists(observations(kind), min_size=1, max_size=15)):
        cycle = hub.cycle(state, {policy.name: observation}, plan)
        assert not [note for note in cycle.records[0]["notes"] if "failed" in note]
        state, plan = cycle.state, cycle.plan
        records += [{"target": "main", **record} for record in cycle.records]
    assert replay({"main": hub}, records) is None


def test_every_default_loop_has_a_policy_that_is_tested() -> None:
    assert {type(loop.policy) for loop in daafl.loops.default_loops()} <= set(POLICIES)


def test_the_default_loops_fit_together() -> None:
    loops = daafl.loops.default_loops()
    knobs = {knob.name: knob for loop in loops for knob in loop.policy.knobs}
    state = Hub(loops, knobs, elsewhere=frozenset({"quorum"})).init()
    assert state.loops.keys() == {loop.policy.name for loop in loops}
