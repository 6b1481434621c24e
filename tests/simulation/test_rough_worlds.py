"""Whatever goes wrong: time never goes back, nothing is lost or counted twice, bytes add up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.payload import content_bytes
from daafl.simulation import InProcessGrid
from daafl.simulation.world import Bodies, Journey, Nodes, Numbers, Seconds, Shift

NUM_NODES = 4


@dataclass(frozen=True)
class Rough:
    """A world that loses, repeats and delays messages, and whose nodes tire and fail."""

    seed: int
    loss: float
    repeats: float
    failure: float
    delay_s: float

    num_nodes = NUM_NODES
    digest = "rough"

    def chance(self, stream: int, numbers: Numbers) -> NDArray[np.float64]:
        return uniforms(mixed(self.seed, stream, numbers))

    def bodies(self, nodes: Nodes) -> Bodies:
        return np.zeros((len(nodes), 1))

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        return np.ones(len(nodes), np.bool_)

    def least_seconds(self, nodes: Nodes) -> Seconds:
        return np.full(len(nodes), 0.5)

    def travelled(self, stream: int, numbers: Numbers, sent_at_s: Seconds) -> Journey:
        at_s = sent_at_s + 0.25 + self.delay_s * self.chance(stream + 1, numbers)
        lost = self.chance(stream, numbers) < self.loss
        again = self.chance(stream + 2, numbers) < self.repeats
        return Journey(np.where(lost, np.inf, at_s), np.where(again & ~lost, at_s + 1.0, np.inf))

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        return self.travelled(10, numbers, sent_at_s)

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        return self.travelled(20, numbers, sent_at_s)

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        # Every step so far makes a node a little slower.
        ends_at_s = begins_at_s + steps * (1.0 + bodies[:, 0])
        fails = self.chance(30, numbers) < self.failure
        after = np.where(fails[:, None], bodies, bodies + 0.01 * steps[:, None])
        return Shift(np.where(fails, np.inf, ends_at_s), ends_at_s, after, steps * 2.0)

    def readings(self, nodes: Nodes, at_s: Seconds, bodies: Bodies) -> list[Mapping[str, float]]:
        return [{"tiredness": float(body[0])} for body in bodies]


@dataclass(frozen=True)
class Sent:
    """A message of a generated plan: sent after a pause, to a node, for so many steps."""

    pause_s: float
    node: int
    steps: int


PLANS = st.lists(
    st.builds(
        Sent,
        st.sampled_from([0.0, 0.0, 0.3, 2.0, 9.0]),
        st.integers(0, NUM_NODES - 1),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=14,
)
CHANCES = st.sampled_from([0.0, 0.2, 0.6])
WORLDS = st.builds(
    Rough, st.integers(0, 99), CHANCES, CHANCES, CHANCES, st.sampled_from([0.0, 5.0])
)


def counting_app() -> ClientApp:
    """Answers with how often this node has been asked, as far as it knows."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        known = context.state.get("calls", ConfigRecord({"num": 0}))
        calls = int(known["num"]) + 1
        context.state["calls"] = ConfigRecord({"num": calls})
        steps = message.content["config"]["steps"]
        content = RecordDict(
            {
                "arrays": ArrayRecord([np.zeros(calls)]),
                "telemetry": ConfigRecord({"steps": steps}),
            }
        )
        return Message(content, reply_to=message)

    return app


def instruction(sent: Sent) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({"x": Array(np.zeros(3))}),
            "config": ConfigRecord({"steps": sent.steps}),
        }
    )
    return Message(content, 1000 + sent.node, "train")


@dataclass
class Fate:
    """What a plain simulation, one message after the other, says of a message."""

    arrives_at_s: float
    calls: int


def fates(world: Rough, plan: list[Sent]) -> list[Fate]:
    now_s = 0.0
    free_s, tired, calls = [0.0] * NUM_NODES, [0.0] * NUM_NODES, [0] * NUM_NODES
    result = []
    for index, sent in enumerate(plan):
        now_s += sent.pause_s
        number, node = np.array([index + 1]), sent.node
        zero = np.zeros(1, np.int64)
        reaches_s = world.reached(zero, number, np.array([now_s]), zero).arrives_at_s[0]
        if math.isinf(reaches_s):
            result.append(Fate(math.inf, 0))
            continue
        begins_s = max(reaches_s, free_s[node])
        free_s[node] = begins_s + sent.steps * (1.0 + tired[node])
        if world.chance(30, number)[0] < world.failure:
            result.append(Fate(math.inf, 0))
            continue
        tired[node] += 0.01 * sent.steps
        calls[node] += 1
        back = world.returned(zero, number, np.array([free_s[node]]), zero)
        result.append(Fate(float(back.arrives_at_s[0]), calls[node]))
    return result


def lived(grid: InProcessGrid, plan: list[Sent], *, start: int = 0) -> list[tuple[float, str, int]]:
    """Play the rest of a plan and return each reply: when it came, its message, and what it says.

    Time is followed closely, and replies are asked for again and again under all ids.
    """
    seen: list[tuple[float, str, int]] = []
    ids = [f"message-{number + 1}" for number in range(len(plan))]

    def look() -> None:
        for reply in grid.pull_messages(ids):
            calls = len(reply.content["arrays"]["0"].numpy())
            seen.append((grid.now_s(), reply.metadata.reply_to_message_id, calls))

    def pass_time(until_s: float) -> None:
        before_s = grid.now_s()
        while grid.now_s() < until_s:
            grid.wait(until_s - grid.now_s())
            assert grid.now_s() >= before_s
            before_s = grid.now_s()
            look()

    due_s = sum(sent.pause_s for sent in plan[:start])
    for sent in plan[start:]:
        due_s += sent.pause_s
        pass_time(due_s)
        grid.push_messages([instruction(sent)])
    look()
    while grid._timeline.may_arrive:
        grid.wait(math.inf)
        look()
    grid.wait(1e6)  # what is lost has vanished by then
    return seen


@settings(max_examples=150, deadline=None)
@given(WORLDS, PLANS)
def test_every_message_has_the_fate_that_a_plain_simulation_says(
    world: Rough, plan: list[Sent]
) -> None:
    expected = fates(world, plan)
    with InProcessGrid(counting_app(), NUM_NODES, fleet=world, workers=0) as grid:
        seen = lived(grid, plan)
        traffic = grid.traffic
    answered = {f"message-{i + 1}": fate for i, fate in enumerate(expected) if fate.calls}
    answered = {k: fate for k, fate in answered.items() if math.isfinite(fate.arrives_at_s)}
    assert len(seen) == len(answered)  # each once, and no other
    for at_s, name, calls in seen:
        assert at_s == np.float64(answered[name].arrives_at_s) or math.isclose(
            at_s, answered[name].arrives_at_s, rel_tol=1e-12
        )
        assert calls == answered[name].calls
    assert [at_s for at_s, _, _ in seen] == sorted(at_s for at_s, _, _ in seen)

    size = content_bytes(instruction(plan[0]).content)
    assert traffic.down_sent == size * len(plan) == traffic.down_reached + traffic.down_lost
    assert traffic.up_sent == traffic.up_arrived + traffic.up_lost
    assert traffic.up_arrived == sum(128 + 8 * fate.calls + 8 for fate in answered.values())
    assert traffic.num_lost == len(plan) - len(answered)


@settings(max_examples=100, deadline=None)
@given(WORLDS, PLANS, st.data())
def test_a_rough_world_goes_on_after_a_restart_as_if_nothing_had_been(
    world: Rough, plan: list[Sent], data: st.DataObject
) -> None:
    with InProcessGrid(counting_app(), NUM_NODES, fleet=world, workers=0) as grid:
        whole = lived(grid, plan)
        traffic = grid.traffic
        kept = [grid.node_state(1000 + node) for node in range(NUM_NODES)]
    cut = data.draw(st.integers(0, len(plan)))
    with InProcessGrid(counting_app(), NUM_NODES, fleet=world, workers=0) as grid:
        first = lived_until(grid, plan, cut)
        state = grid.snapshot()
    with InProcessGrid(counting_app(), NUM_NODES, fleet=world, workers=0) as grid:
        grid.restore(state)
        second = lived(grid, plan, start=cut)
        assert grid.traffic == traffic
        assert [grid.node_state(1000 + node) for node in range(NUM_NODES)] == kept
    assert first + second == whole


def lived_until(grid: InProcessGrid, plan: list[Sent], cut: int) -> list[tuple[float, str, int]]:
    """Play the first messages of a plan, and return the replies that have come until then."""
    seen = []
    ids = [f"message-{number + 1}" for number in range(len(plan))]
    due_s = 0.0
    for sent in plan[:cut]:
        due_s += sent.pause_s
        while grid.now_s() < due_s:
            grid.wait(due_s - grid.now_s())
            for reply in grid.pull_messages(ids):
                calls = len(reply.content["arrays"]["0"].numpy())
                seen.append((grid.now_s(), reply.metadata.reply_to_message_id, calls))
        grid.push_messages([instruction(sent)])
    return seen
