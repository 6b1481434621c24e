"""A toy loop in a scripted world: it steers, learns, undoes one bad step, and beats leaving alone.

The world is a descent, ``x -> x - speed * x``, which diverges at a speed above 2. The loop doubles
the speed until that happens, returns to the last good ``x``, and remembers how fast is too fast.
The other loop's only arm, ``nudge``, never helps.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

from daafl.autonomy.hub import Hub
from daafl.autonomy.journal import Journal, read, replay
from daafl.autonomy.lines import restored
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Effect, Insight, judged, unchanged

SPEED = Knob("speed", "1", 0.05, "speeder", "branch", low=0.01, high=9.0)
OFFSET = Knob("offset", "1", 0.0, "nudger", "branch", low=0.0, high=1.0)


@dataclass(frozen=True)
class Seen:
    version: int
    distance: float


@dataclass(frozen=True)
class Memory:
    last: float | None = None
    good: int = 0
    is_worse: bool = False
    too_fast: float = 9.0
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speeder:
    name = "speeder"
    observation = Seen
    state = Memory
    knobs = (SPEED,)

    def init(self) -> Memory:
        return Memory()

    def observe(self, state: Memory, seen: Seen) -> Memory:
        is_worse = state.last is not None and seen.distance > 1.02 * state.last
        good = state.good if is_worse else seen.version
        return replace(state, last=seen.distance, good=good, is_worse=is_worse)

    def reason(self, state: Memory, seen: Seen, plan: Plan) -> Decision:
        speed = plan.number("speed")
        effect = Effect("distance", seen.distance, 0.0, 0.05, 1)
        if state.is_worse:
            slower = Change("speed", speed, speed / 4)
            return Decision(
                self.name, "back", "diverging", f"{seen.distance:.3g} is worse", (slower,),
                restore=state.good, expect=effect,
            )  # fmt: skip
        faster = min(2 * speed, 0.5 * state.too_fast)
        if faster <= speed:
            return unchanged(self.name, "fast", "it is as fast as is safe")
        change = Change("speed", speed, faster)
        return Decision(self.name, "faster", "slow", "it works", (change,), expect=effect)

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> Insight:
        return judged(decision, after.distance)

    def adapt(self, state: Memory, insight: Insight) -> Memory:
        verdicts = (*state.verdicts, insight.verdict)
        failed = insight.action == "faster" and insight.verdict == "worse"
        return replace(state, verdicts=verdicts, too_fast=2.0 if failed else state.too_fast)

    def wanted_versions(self, state: Memory) -> frozenset[int]:
        return frozenset({state.good})


@dataclass(frozen=True)
class Nudger:
    name = "nudger"
    observation = Seen
    state = Memory
    knobs = (OFFSET,)

    def init(self) -> Memory:
        return Memory()

    def observe(self, state: Memory, seen: Seen) -> Memory:
        return state

    def reason(self, state: Memory, seen: Seen, plan: Plan) -> Decision:
        old = plan.number("offset")
        # It promises a lot, and what it does to the world is nothing.
        effect = Effect("distance", seen.distance, 5.0, 0.1, 1)
        change = Change("offset", old, 1.0 - old)
        return Decision(self.name, "nudge", "any", "one may hope", (change,), expect=effect)

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> Insight:
        return judged(decision, after.distance)

    def adapt(self, state: Memory, insight: Insight) -> Memory:
        return replace(state, verdicts=(*state.verdicts, insight.verdict))


def world(hub: Hub, log: Journal, *, is_steered: bool) -> SimpleNamespace:
    """Run 60 steps; return the distances and everything decided."""
    state, plan = hub.init(), Plan.of(hub.knobs.values())
    x, version = 8.0, 0
    points = {0: (x, plan)}
    result = SimpleNamespace(distances=[], decisions=[], restores=[], notes=[], state=state)
    for step in range(60):
        x -= plan.number("speed") * x
        version += 1
        points[version] = (x, plan)
        seen = Seen(version, abs(x))
        result.distances.append(seen.distance)
        if not is_steered:
            continue
        observations = {loop.policy.name: seen for loop in hub.loops}
        cycle = hub.cycle(state, observations, plan)
        log.append(*({"target": "main", **line} for line in cycle.records))
        state, plan = cycle.state, cycle.plan
        result.decisions += cycle.decisions
        result.notes += cycle.records[0]["notes"]
        if cycle.restore is not None:
            assert cycle.restore in points
            x, version = points[cycle.restore][0], version + 1
            points[version] = (x, plan)
            result.restores.append((step, cycle.restore))
            log.append(restored("main", asked=cycle.restore, applied=cycle.restore, changes=[]))
    result.state = state
    return result


def make_hub() -> Hub:
    loops = tuple(
        Loop(policy, "learning", "toy", "branch", influences=("distance",))
        for policy in (Speeder(), Nudger())
    )
    return Hub(loops, {"speed": SPEED, "offset": OFFSET})


def test_the_loop_steers_learns_undoes_and_ends_better(tmp_path) -> None:
    hub = make_hub()
    path = tmp_path / "journal.jsonl"
    with Journal.create(path, {"seed": 0}) as log:
        alone = world(hub, log, is_steered=False)
        steered = world(hub, log, is_steered=True)
    memory = steered.state.loops["speeder"].memory

    # It found out once how fast is too fast, and has not tried that again.
    (back,) = [d for d in steered.decisions if d.action == "back"]
    assert [version for _, version in steered.restores] == [back.restore]
    assert memory.too_fast == 2.0 and "worse" in memory.verdicts
    after = [d for d in steered.decisions if d.action == "faster"]
    assert all(c.new <= 1.0 for d in after if d.number > back.number for c in d.changes)

    # Left alone: 8 * .95^60 = .37.
    assert steered.distances[-1] < 1e-9 < 0.3 < alone.distances[-1]

    header, records = read(path)
    assert header["seed"] == 0
    assert replay({"main": hub}, records) is None
    assert sum(record["kind"] == "restored" for record in records) == len(steered.restores)


def test_an_arm_that_never_keeps_its_promise_is_given_up(tmp_path) -> None:
    with Journal.create(tmp_path / "journal.jsonl", {}) as log:
        steered = world(make_hub(), log, is_steered=True)
    nudges = [d for d in steered.decisions if d.action == "nudge"]
    # Decided at ticks 0 and 1, judged at 1 and 2, and by then tried a last time; banned from tick 2
    # until 52, after which it has two more chances and one on the way.
    assert len(nudges) in (4, 5)
    assert steered.state.loops["nudger"].memory.verdicts[:2] == ("worse", "worse")
    assert any("failed twice" in d.reason for d in steered.decisions if d.loop == "nudger")
