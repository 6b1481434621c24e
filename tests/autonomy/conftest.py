"""A policy that does what its observation tells it, and hubs made of such policies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Effect, Insight, Request, judged


@dataclass(frozen=True)
class Order:
    """What an `Obedient` policy sees: a metric, and what it shall decide."""

    metric: float | None = 0.0
    action: str = "continue"
    state: str = "any"
    changes: tuple[Change, ...] = ()
    requests: tuple[Request, ...] = ()
    restore: int | None = None
    expect: Effect | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    fail_in: str = ""


@dataclass(frozen=True)
class Diary:
    """What an `Obedient` policy remembers."""

    seen: int = 0
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Obedient:
    """Decides what its observation says; fails where its observation says."""

    name: str
    knobs: tuple[Knob, ...] = ()
    observation = Order
    state = Diary

    def init(self) -> Diary:
        return Diary()

    def observe(self, state: Diary, order: Order) -> Diary:
        _fail(order, "observe")
        return replace(state, seen=state.seen + 1)

    def reason(self, state: Diary, order: Order, plan: Plan) -> Decision:
        _fail(order, "reason")
        return Decision(
            self.name,
            order.action,
            order.state,
            f"told to {order.action} at lr {plan.values.get('lr')}",
            order.changes,
            order.requests,
            order.restore,
            order.expect,
            order.costs,
        )

    def reflect(self, decision: Decision, before: Order, after: Order) -> Insight | None:
        _fail(after, "reflect")
        return None if after.metric is None else judged(decision, after.metric)

    def adapt(self, state: Diary, insight: Insight) -> Diary:
        return replace(state, verdicts=(*state.verdicts, insight.verdict))


def _fail(order: Order, where: str) -> None:
    if order.fail_in == where:
        raise RuntimeError(f"broken in {where}")


def knob(name: str, owner: str, **settings: object) -> Knob:
    values: dict[str, object] = {"unit": "1", "default": 1.0, "scope": "branch", **settings}
    return Knob(name, owner=owner, **values)  # type: ignore[arg-type]  # a test names the fields


def loop(name: str, *knobs: Knob, **settings: object) -> Loop:
    values: dict[str, object] = {
        "level": "learning",
        "component": "test",
        "scope": "branch",
        **settings,
    }
    return Loop(Obedient(name, knobs), **values)  # type: ignore[arg-type]  # as above


def hub(*loops: Loop, unowned: tuple[Knob, ...] = (), **settings: object) -> Hub:
    knobs = {k.name: k for one in loops for k in one.policy.knobs} | {k.name: k for k in unowned}
    return Hub(loops, knobs, **settings)  # type: ignore[arg-type]  # as above


class Runner:
    """Drives a hub through cycles, keeping its state and plan."""

    def __init__(self, of: Hub) -> None:
        self.hub = of
        self.state = of.init()
        self.plan = Plan.of(of.knobs.values())
        self.records: list[Mapping[str, object]] = []
        self.notes: list[str] = []

    def cycle(self, requests: tuple[Request, ...] = (), **observations: object):
        result = self.hub.cycle(self.state, observations, self.plan, requests=requests)
        self.state, self.plan = result.state, result.plan
        self.records += ({"target": "main", **line} for line in result.records)
        self.notes = list(result.records[0]["notes"])
        return result

    def set(self, name: str, new: object, **order: object):
        """Let the knob's owner change it; return what was applied."""
        owner = self.hub.knobs[name].owner
        change = Change(name, self.plan[name], new)
        result = self.cycle(**{owner: Order(action="set", changes=(change,), **order)})
        return next(d for d in result.decisions if d.loop == owner)


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    names: dict[str, Callable[..., object]] = {
        "Diary": Diary,
        "Obedient": Obedient,
        "Order": Order,
        "Runner": Runner,
        "hub": hub,
        "knob": knob,
        "loop": loop,
    }
    return SimpleNamespace(**names)
