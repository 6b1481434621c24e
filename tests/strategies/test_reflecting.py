"""Two hubs, of the federation and of a branch, with one loop each that does as it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Request, unchanged
from daafl.autonomy.replay import replay
from daafl.learning.layout import Layout
from daafl.strategies.branch import Branch
from daafl.strategies.fedexp import FedExP
from daafl.strategies.monitor import StepFacts
from daafl.strategies.reflecting import FEDERATION, Reflector

LAYOUT = Layout.of({"w": np.zeros(2, np.float32)})
QUORUM = Knob("quorum", "updates", 8, "wide", "federation", 1, 100)
LR = Knob("lr", "1", 0.5, "own", "branch", 0.001, 10.0)
HEAT = Knob("heat", "K", 1.0, "own", "branch", 0.0, 10.0)
STEPS = Knob("steps", "1", 10, "nobody", "branch", 1, 100)


@dataclass(frozen=True)
class Seen:
    step: int = 0


@dataclass(frozen=True)
class Memory:
    step: int = 0


@dataclass(frozen=True)
class Script:
    """Decides at each step what the script says."""

    name: str
    knobs: tuple[Knob, ...]
    decisions: Mapping[int, Decision] = field(default_factory=dict)

    observation = Seen
    state = Memory

    def init(self) -> Memory:
        return Memory()

    def observe(self, state: Memory, seen: Seen) -> Memory:
        return Memory(seen.step)

    def reason(self, state: Memory, seen: Seen, plan: Plan) -> Decision:
        return self.decisions.get(seen.step, unchanged(self.name, "even", "as it is"))

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> None:
        return None

    def adapt(self, state: Memory, insight: Any) -> Memory:
        return state


@dataclass
class Scene:
    """A reflector, a branch at version 1, and what was written down."""

    hubs: Mapping[str, Hub]
    reflector: Reflector
    branch: Branch
    journal: list[Mapping[str, Any]]

    def step(self, step: int) -> Any:
        return self.reflector.reflect(self.branch, StepFacts(step=step))

    @property
    def kinds(self) -> list[str]:
        return [f"{line['kind']} {line['target']}" for line in self.journal]


def scene(
    wide: Mapping[int, Decision] | None = None, own: Mapping[int, Decision] | None = None
) -> Scene:
    wide_loop = Loop(
        Script("wide", (QUORUM,), wide or {}), "cost", "resources", "federation", influences=("lr",)
    )
    own_loop = Loop(
        Script("own", (LR, HEAT), own or {}), "cost", "quality", "branch", influences=("quorum",)
    )
    hubs = {
        FEDERATION: Hub((wide_loop,), {"quorum": QUORUM}, elsewhere=frozenset({"lr"})),
        "main": Hub(
            (own_loop,),
            {knob.name: knob for knob in (LR, HEAT, STEPS)},
            elsewhere=frozenset({"quorum"}),
        ),
    }
    journal: list[Mapping[str, Any]] = []
    reflector = Reflector(
        hubs[FEDERATION],
        hubs["main"],
        plan=Plan.of([QUORUM]),
        beliefs={},
        record=lambda *records, **_: journal.extend(records),
    )
    optimizer = FedExP()
    zeros = LAYOUT.pack({"w": np.zeros(2, np.float32)})
    optimizer.init(LAYOUT, zeros)
    plan = Plan.of([LR, HEAT, STEPS])
    branch = Branch("main", None, 0, zeros, optimizer, plan, hubs["main"].init())
    branch.mark()
    branch.adopt(LAYOUT.pack({"w": np.ones(2, np.float32)}))
    return Scene(hubs, reflector, branch, journal)


def test_both_hubs_run_once_a_step_and_only_acting_decisions_are_told() -> None:
    made = scene(own={1: Decision("own", "lower", "s", "r", (Change("lr", 0.5, 0.25),))})
    reflection = made.step(1)
    assert made.kinds == ["decided federation", "decided main"]
    assert [(d.loop, d.action) for d in reflection.decisions] == [("own", "lower")]
    assert reflection.restored is None
    assert made.branch.plan["lr"] == 0.25
    assert made.step(2).decisions == ()


def test_a_federation_loops_request_binds_the_branch_in_the_same_step() -> None:
    ask = Request("lr", "cost", "wide", "too fast", high=0.1)
    made = scene(wide={1: Decision("wide", "ask", "s", "r", requests=(ask,))})
    made.step(1)
    assert made.branch.plan["lr"] == 0.1
    made.step(2)
    assert made.branch.plan["lr"] == 0.5  # the request has lapsed


def test_a_branch_loops_request_binds_the_federation_in_the_next_step() -> None:
    ask = Request("quorum", "cost", "own", "too many", high=4)
    made = scene(own={1: Decision("own", "ask", "s", "r", requests=(ask,))})
    made.step(1)
    assert made.reflector.plan["quorum"] == 8
    made.step(2)
    assert made.reflector.plan["quorum"] == 4


def test_an_override_is_written_down_before_it_applies_to_the_plan_that_holds_the_knob() -> None:
    made = scene()
    made.step(1)
    made.reflector.override(made.branch, "quorum", 3.0, "fewer")
    made.reflector.override(made.branch, "lr", 2, "faster")
    assert made.kinds[2:] == ["override federation", "override main"]
    assert made.journal[2]["changes"] == [{"knob": "quorum", "old": 8, "new": 3}]
    assert (made.journal[2]["tick"], made.journal[2]["reason"]) == (1, "fewer")
    assert (made.reflector.plan["quorum"], made.branch.plan["lr"]) == (3, 2.0)


@pytest.fixture
def restored() -> Scene:
    """Return a scene after a restore to version 0, for which the loop wants a new `lr`."""
    made = scene(
        own={
            1: Decision(
                "own", "warm", "s", "r", (Change("heat", 1.0, 4.0), Change("lr", 0.5, 0.4))
            ),
            2: Decision("own", "restore", "s", "r", (Change("lr", 0.4, 0.04),), restore=0),
        }
    )
    made.step(1)
    made.reflector.override(made.branch, "steps", 20, "longer")
    assert made.step(2).restored == 0
    return made


def test_a_restore_takes_the_loops_own_knobs_back_but_not_what_it_just_decided(
    restored: Scene,
) -> None:
    plan = restored.branch.plan
    assert (plan["heat"], plan["lr"], plan["steps"]) == (1.0, 0.04, 20)
    assert restored.branch.version == 2
    assert LAYOUT.vector(restored.branch.packed).tolist() == [0.0, 0.0]


def test_a_restore_is_written_down_with_what_went_back(restored: Scene) -> None:
    assert restored.journal[-1] == {
        "kind": "restored",
        "target": "main",
        "asked": 0,
        "applied": 0,
        "changes": [{"knob": "heat", "old": 4.0, "new": 1.0}],
    }


def test_a_loop_of_the_federation_may_return_a_branch_and_the_oldest_version_wins() -> None:
    back = Decision("wide", "restore", "s", "r", restore=0)
    made = scene(wide={1: back})
    assert made.step(1).restored == 0
    assert made.branch.version == 2
    assert made.journal[-1]["target"] == "main"
    both = scene(wide={1: back}, own={1: Decision("own", "restore", "s", "r", restore=1)})
    assert both.step(1).restored == 0
    assert replay(both.hubs, both.journal) is None


def test_all_that_is_written_replays(restored: Scene) -> None:
    restored.step(3)
    assert replay(restored.hubs, restored.journal) is None
    cheated = [dict(line) for line in restored.journal]
    cheated[-3]["changes"] = []  # as if `heat` had not gone back
    difference = replay(restored.hubs, cheated)
    assert difference is not None
    assert (difference.target, difference.tick) == ("main", 2)
    assert "heat" in difference.what
