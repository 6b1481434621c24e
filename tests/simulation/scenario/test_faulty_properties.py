"""What holds under any schedule of faults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.scenario import Scenario
from daafl.simulation.world import Bodies, Journey, Nodes, Numbers, Seconds, Shift, World

NUM_NODES = 12
Schedules = Callable[..., st.SearchStrategy[Scenario]]


@dataclass(frozen=True)
class Rough:
    """A world with latency and bandwidth of its own, which loses and doubles some messages."""

    num_nodes: int = NUM_NODES
    digest: str = "rough"

    def bodies(self, nodes: Nodes) -> Bodies:
        return np.zeros((len(nodes), 1))

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        return np.ones(len(nodes), np.bool_)

    def least_seconds(self, nodes: Nodes) -> Seconds:
        return 0.2 + 0.02 * nodes

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        return self._journey(1, nodes, numbers, sent_at_s, sizes)

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        ends_s = begins_at_s + 0.1 * steps
        return Shift(ends_s, ends_s, bodies + steps[:, None], steps)

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        return self._journey(2, nodes, numbers, sent_at_s, sizes)

    def readings(self, nodes: Nodes, at_s: Seconds, bodies: Bodies) -> list[Mapping[str, float]]:
        return [{"uplink_mbps": 8.0} for body in bodies]

    def _journey(
        self, way: int, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes
    ) -> Journey:
        first_s = sent_at_s + (0.1 + 0.01 * nodes) + sizes / 1e6
        chance = uniforms(mixed(99, way, numbers))
        first_s = np.where(chance < 0.1, np.inf, first_s)
        return Journey(first_s, np.where(chance > 0.9, first_s + 0.5, np.inf))


@st.composite
def questions(draw: st.DrawFn) -> tuple[Nodes, Numbers, Seconds, Nodes]:
    count = draw(st.integers(1, 20))
    many = {"min_size": count, "max_size": count}
    nodes = draw(st.lists(st.integers(0, NUM_NODES - 1), **many))
    sent_s = draw(st.lists(st.floats(0.0, 200.0), **many))
    sizes = draw(st.lists(st.integers(0, 10**7), **many))
    first = draw(st.integers(1, 10**6))
    return np.array(nodes), first + np.arange(count), np.array(sent_s), np.array(sizes)


def world_of(data: st.DataObject, fault_schedules: Schedules) -> World:
    return data.draw(fault_schedules(NUM_NODES)).world(Rough())


@settings(deadline=None, max_examples=80)
@given(data=st.data(), asked=questions())
def test_nothing_arrives_before_it_is_sent_and_no_copy_before_its_original(
    fault_schedules: Schedules, data: st.DataObject, asked: tuple[Nodes, Numbers, Seconds, Nodes]
) -> None:
    world = world_of(data, fault_schedules)
    nodes, numbers, sent_s, sizes = asked
    for travel in (world.reached, world.returned):
        journey = travel(nodes, numbers, sent_s, sizes)
        assert not np.isnan(journey.arrives_at_s).any()
        assert (journey.arrives_at_s >= sent_s).all()
        assert (journey.again_at_s >= journey.arrives_at_s).all()


@settings(deadline=None, max_examples=80)
@given(data=st.data(), asked=questions())
def test_no_reply_is_back_before_the_lower_bound(
    fault_schedules: Schedules, data: st.DataObject, asked: tuple[Nodes, Numbers, Seconds, Nodes]
) -> None:
    world = world_of(data, fault_schedules)
    nodes, numbers, sent_s, sizes = asked
    there_s = world.reached(nodes, numbers, sent_s, sizes).arrives_at_s
    come = np.isfinite(there_s)
    nodes, numbers, sizes, least_s = nodes[come], numbers[come], sizes[come], sent_s[come]
    least_s = least_s + world.least_seconds(nodes)
    steps = (numbers % 7).astype(np.float64)
    shift = world.worked(nodes, numbers, there_s[come], steps, world.bodies(nodes))
    assert (shift.ends_at_s >= there_s[come]).all()
    assert (shift.free_at_s >= there_s[come]).all()
    assert np.isfinite(shift.free_at_s).all()
    done = np.isfinite(shift.ends_at_s)
    back = world.returned(nodes[done], numbers[done], shift.ends_at_s[done], sizes[done])
    assert (back.arrives_at_s >= least_s[done] * (1 - 1e-12)).all()


@settings(deadline=None, max_examples=80)
@given(data=st.data(), asked=questions())
def test_each_answer_is_a_function_of_its_own_question(
    fault_schedules: Schedules, data: st.DataObject, asked: tuple[Nodes, Numbers, Seconds, Nodes]
) -> None:
    """Whatever is asked with it, before it, or of another object made alike."""
    scenario = data.draw(fault_schedules(NUM_NODES))
    world, twin = scenario.world(Rough()), scenario.world(Rough())
    nodes, numbers, sent_s, sizes = asked
    steps = np.full(len(nodes), 5.0)
    together = [
        world.reached(nodes, numbers, sent_s, sizes).arrives_at_s,
        world.returned(nodes, numbers, sent_s, sizes).again_at_s,
        world.worked(nodes, numbers, sent_s, steps, world.bodies(nodes)).ends_at_s,
        world.worked(nodes, numbers, sent_s, steps, world.bodies(nodes)).free_at_s,
    ]
    for index in reversed(range(len(nodes))):
        one = slice(index, index + 1)
        asked_alone = (nodes[one], numbers[one], sent_s[one], sizes[one])
        shift = twin.worked(*asked_alone[:3], steps[one], twin.bodies(nodes[one]))
        alone = [
            twin.reached(*asked_alone).arrives_at_s,
            twin.returned(*asked_alone).again_at_s,
            shift.ends_at_s,
            shift.free_at_s,
        ]
        assert [float(part[0]) for part in alone] == [float(part[index]) for part in together]
    at_s = float(sent_s[0])
    everyone = np.arange(NUM_NODES)
    online = world.online(everyone, at_s)
    assert online.tolist() == [bool(twin.online(everyone[[n]], at_s)[0]) for n in everyone]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), asked=questions())
def test_after_the_last_event_the_world_is_as_it_was(
    fault_schedules: Schedules, data: st.DataObject, asked: tuple[Nodes, Numbers, Seconds, Nodes]
) -> None:
    scenario = data.draw(fault_schedules(NUM_NODES))
    ended = [event for event in scenario.events if event.until_s is not None]
    world, plain = Scenario(NUM_NODES, ended, seed=scenario.seed).world(Rough()), Rough()
    nodes, numbers, sent_s, sizes = asked
    late_s = sent_s + max([event.end_s for event in ended], default=0.0)
    found, wanted = (w.returned(nodes, numbers, late_s, sizes) for w in (world, plain))
    assert found.arrives_at_s.tolist() == wanted.arrives_at_s.tolist()
    assert found.again_at_s.tolist() == wanted.again_at_s.tolist()
    steps = np.ones(len(nodes))
    shifts = [w.worked(nodes, numbers, late_s, steps, w.bodies(nodes)) for w in (world, plain)]
    assert shifts[0].ends_at_s.tolist() == shifts[1].ends_at_s.tolist()
    assert world.online(nodes, float(late_s.max())).all()
