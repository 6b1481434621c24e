"""Runs of a small hub whose numbers can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.codec import encode
from daafl.autonomy.hub import Hub
from daafl.autonomy.lines import restored
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Effect, Insight, judged, unchanged
from daafl.observability.events import RunInfo, StepRecord
from daafl.observability.run import Run


@dataclass(frozen=True)
class Seen:
    step: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Memory:
    last: float | None = None
    before: float | None = None


@dataclass(frozen=True)
class Halving:
    """Halves ``lr`` when the loss rises, and returns to version 1 when it passes ten."""

    name = "halving"
    observation = Seen
    state = Memory
    knobs = (Knob("lr", "1", 0.8, "halving", "branch", low=1e-4, high=3.0),)

    def init(self) -> Memory:
        return Memory()

    def observe(self, state: Memory, seen: Seen) -> Memory:
        return state if seen.loss is None else Memory(seen.loss, state.last)

    def reason(self, state: Memory, seen: Seen, plan: Plan) -> Decision:
        if state.last is None or state.before is None or state.last <= state.before:
            return unchanged(self.name, "calm", "the loss is not rising")
        lr = plan.number("lr")
        effect = Effect("loss", baseline=state.last, mean=0.1, sd=0.1, horizon=3)
        return Decision(
            self.name,
            "halve",
            "rising",
            f"the loss rose to {state.last:g}",
            (Change("lr", lr, lr / 2),),
            restore=1 if state.last > 10 else None,
            expect=effect,
        )

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> Insight | None:
        return None if after.loss is None else judged(decision, after.loss)

    def adapt(self, state: Memory, insight: Insight) -> Memory:
        return state


POLICIES = {"halving": Halving()}


@pytest.fixture(scope="session")
def policies() -> dict[str, Halving]:
    return POLICIES


@pytest.fixture
def halving_run(make_record: Callable[..., StepRecord]) -> Callable[..., Run]:
    def make(losses: Sequence[float], beliefs: Mapping[str, Belief] | None = None) -> Run:
        return run_of(losses, make_record, beliefs or {})

    return make


def run_of(
    losses: Sequence[float],
    make_record: Callable[..., StepRecord],
    beliefs: Mapping[str, Belief],
) -> Run:
    """A run of one branch whose steps report these losses, journal and rounds alike."""
    (knob,) = Halving.knobs
    hub = Hub((Loop(Halving(), "learning", "coordinator", "branch"),), {"lr": knob})
    state, plan = hub.init(beliefs), Plan.of([knob])
    journal: list[Mapping[str, object]] = []
    steps: list[StepRecord] = []
    for step, loss in enumerate([None, *losses]):
        cycle = hub.cycle(state, {"halving": Seen(step, loss)}, plan)
        journal += [{"target": "main", **line} for line in cycle.records]
        if step:
            steps.append(
                make_record(
                    step,
                    train_loss=loss,
                    knobs=dict(plan.values),
                    decisions=tuple(d for d in cycle.decisions if d.number is not None),
                    insights=cycle.insights,
                    restored=cycle.restore,
                )
            )
        if cycle.restore is not None:
            journal.append(restored("main", asked=cycle.restore, applied=0, changes=()))
        state, plan = cycle.state, cycle.plan
    return Run(
        name="halving",
        info=RunInfo("toy", "FedAvg", 3, len(losses), 10, 0),
        steps=tuple(steps),
        header={"kind": "header", "beliefs": encode(dict(beliefs))},
        journal=tuple(json.loads(json.dumps(encode(line))) for line in journal),
    )


@pytest.fixture(scope="session")
def altered() -> Callable[..., Run]:
    """Returns a run with one value of one journal line of a kind replaced."""

    def alter(run: Run, kind: str, index: int, path: Sequence[Any], value: object) -> Run:
        lines = json.loads(json.dumps(run.journal))
        node = [line for line in lines if line["kind"] == kind][index]
        for part in path[:-1]:
            node = node[part]
        assert node[path[-1]] != value
        node[path[-1]] = value
        return replace(run, journal=tuple(lines))

    return alter
