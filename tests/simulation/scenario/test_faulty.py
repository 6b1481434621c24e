"""Every kind of fault, with numbers derived by hand."""

from collections.abc import Mapping

import numpy as np
import pytest

from daafl.simulation.devices import Devices
from daafl.simulation.scenario import (
    Bandwidth,
    Churn,
    Crash,
    Duplication,
    Event,
    LateReplies,
    LinkCut,
    MessageLoss,
    Partition,
    Reordering,
    Scenario,
    Stragglers,
)
from daafl.simulation.world import Journey, Shift, World

NEVER = np.inf


def world_with(quiet: Devices, *events: Event, seed: int = 0) -> World:
    return Scenario(10, events, seed=seed).world(quiet)


def reached(world: World, nodes: list[int], sent_s: list[float], size: int = 0) -> Journey:
    numbers = np.arange(1, len(nodes) + 1)
    sizes = np.full(len(nodes), size)
    return world.reached(np.array(nodes, np.int64), numbers, np.array(sent_s), sizes)


def returned(world: World, nodes: list[int], sent_s: list[float], size: int = 0) -> Journey:
    numbers = np.arange(1, len(nodes) + 1)
    sizes = np.full(len(nodes), size)
    return world.returned(np.array(nodes, np.int64), numbers, np.array(sent_s), sizes)


def worked(world: World, nodes: list[int], begins_s: list[float], steps: float) -> Shift:
    where, begins = np.array(nodes, np.int64), np.array(begins_s)
    numbers = np.arange(1, len(nodes) + 1)
    return world.worked(where, numbers, begins, np.full(len(nodes), steps), world.bodies(where))


def online(world: World, at_s: float) -> list[int]:
    return np.flatnonzero(world.online(np.arange(10), at_s)).tolist()


def test_stragglers_work_longer_while_it_lasts(quiet: Devices) -> None:
    world = world_with(quiet, Stragglers(nodes="0-1", at_s=10.0, until_s=20.0, factor=3.0))
    # 4 steps take 2 s, or 6 s for those that begin from 10 s to 20 s.
    shift = worked(world, [0, 1, 2, 0, 0], [9.9, 10.0, 10.0, 19.9, 20.0], 4.0)
    assert shift.ends_at_s == pytest.approx([11.9, 16.0, 12.0, 25.9, 22.0])
    assert shift.free_at_s == pytest.approx(shift.ends_at_s)


def test_a_crash_takes_the_work_and_what_arrives_until_the_node_is_back(quiet: Devices) -> None:
    world = world_with(quiet, Crash(nodes=[3], at_s=10.0, until_s=50.0))
    shift = worked(world, [3, 3, 3, 3, 4], [7.0, 8.5, 30.0, 50.0, 8.5], 4.0)
    # Work of 2 s: over at 9, cut off at 10, impossible at 30, and well again at 50.
    assert shift.ends_at_s.tolist() == [9.0, NEVER, NEVER, 52.0, 10.5]
    assert shift.free_at_s.tolist() == [9.0, 50.0, 50.0, 52.0, 10.5]
    # Under way for 1 s: what arrives from 10 to 50 is lost.
    assert reached(world, [3] * 4, [8.9, 9.0, 48.9, 49.0]).arrives_at_s.tolist() == [
        9.9,
        NEVER,
        NEVER,
        50.0,
    ]
    assert 3 not in online(world, 10.0)
    assert len(online(world, 9.9)) == len(online(world, 50.0)) == 10


def test_work_of_no_length_is_lost_too_where_nobody_is(quiet: Devices) -> None:
    world = world_with(quiet, Crash(at_s=10.0, until_s=50.0))
    assert worked(world, [0, 0, 0], [9.0, 10.0, 50.0], 0.0).ends_at_s.tolist() == [9, NEVER, 50]


def test_a_node_that_never_comes_back_is_free_and_useless(quiet: Devices) -> None:
    world = world_with(quiet, Crash(at_s=10.0))
    shift = worked(world, [0, 0], [9.0, 12.0], 4.0)
    assert shift.ends_at_s.tolist() == [NEVER, NEVER]
    assert shift.free_at_s.tolist() == [10.0, 12.0]


def test_churn_takes_each_node_away_for_its_share_of_the_time(quiet: Devices) -> None:
    churn = Churn(at_s=100.0, until_s=1100.0, present_s=8.0, away_s=2.0)
    world = world_with(quiet, churn)
    times_s = np.arange(0.0, 1300.0, 0.25)
    away = np.array([10 - len(online(world, time_s)) for time_s in times_s]) / 10
    during = (times_s >= 100.0) & (times_s < 1100.0)
    assert away[~during].max() == 0.0
    # 2 s in every 10 s, for each of ten nodes; the first and last period may be cut.
    assert away[during].mean() == pytest.approx(0.2, abs=0.01)
    assert away[during].max() < 1.0  # everybody has a rhythm of its own


def test_a_node_that_goes_away_comes_back_when_it_is_said_to(quiet: Devices) -> None:
    world = world_with(quiet, Churn(present_s=8.0, away_s=2.0))
    begins_s = np.linspace(5.0, 200.0, 300)
    shift = worked(world, [4] * 300, begins_s.tolist(), 4.0)
    lost = np.isinf(shift.ends_at_s)
    # Work of 2 s meets an absence of 2 s in a period of 10 s with probability near (2 + 2) / 10.
    assert 0.3 < lost.mean() < 0.5
    for begin_s, free_s in zip(begins_s[lost], shift.free_at_s[lost], strict=True):
        assert begin_s < free_s <= begin_s + 4.0
        assert 4 in online(world, free_s)
        assert 4 not in online(world, free_s - 1e-6)


def test_a_cut_link_loses_what_is_sent_or_would_arrive(quiet: Devices) -> None:
    world = world_with(quiet, LinkCut(nodes=5, at_s=10.0, until_s=20.0))
    for travel in (reached, returned):
        arrives_s = travel(world, [5] * 5 + [6], [8.9, 9.0, 15.0, 19.9, 20.0, 15.0]).arrives_at_s
        assert arrives_s.tolist() == [9.9, NEVER, NEVER, NEVER, 21.0, 16.0]
    assert 5 not in online(world, 10.0)
    assert worked(world, [5], [9.0], 20.0).ends_at_s.tolist() == [19.0]  # it works on


def test_a_partition_cuts_its_groups_from_the_coordinator(quiet: Devices) -> None:
    world = world_with(quiet, Partition(groups=[["0-2"], [7, 9]], at_s=10.0, until_s=20.0))
    assert online(world, 15.0) == [3, 4, 5, 6, 8]
    assert online(world, 20.0) == list(range(10))


@pytest.mark.parametrize("direction", ["to_nodes", "from_nodes", "both"])
def test_messages_are_lost_with_their_probability(quiet: Devices, direction: str) -> None:
    loss = MessageLoss(probability=0.3, direction=direction, until_s=100.0)
    world = world_with(quiet, loss)
    count = 20_000
    there, back = (
        np.isinf(travel(world, [1] * count, [50.0] * count).arrives_at_s)
        for travel in (reached, returned)
    )
    # Three standard deviations of a share of 20,000 are 0.0097.
    assert there.mean() == pytest.approx(0.3 if direction != "from_nodes" else 0.0, abs=0.0097)
    assert back.mean() == pytest.approx(0.3 if direction != "to_nodes" else 0.0, abs=0.0097)
    if direction == "both":  # chances of their own: 0.3 * 0.3
        assert (there & back).mean() == pytest.approx(0.09, abs=0.0061)


def test_doubled_replies_come_a_little_later_again(quiet: Devices) -> None:
    world = world_with(quiet, Duplication(probability=0.4, delay_s=5.0))
    journey = returned(world, [1] * 10_000, [50.0] * 10_000)
    later_s = journey.again_at_s[np.isfinite(journey.again_at_s)] - 51.0
    assert len(later_s) / 10_000 == pytest.approx(0.4, abs=0.015)
    assert later_s.min() >= 0.0 and later_s.max() < 5.0
    assert later_s.mean() == pytest.approx(2.5, abs=0.1)
    assert np.isinf(reached(world, [1] * 100, [50.0] * 100).again_at_s).all()


def test_the_copy_is_what_arrives_if_the_original_runs_into_a_cut(quiet: Devices) -> None:
    world = world_with(
        quiet,
        Duplication(probability=1.0, delay_s=10.0),
        LinkCut(at_s=50.9, until_s=51.1),
    )
    journey = returned(world, [1] * 500, [50.0] * 500)
    came = np.isfinite(journey.arrives_at_s)
    # Copies come from 51 s to 61 s; only those before 51.1 s are lost as well: 1 in 100.
    assert 0.95 < came.mean() < 1.0
    assert journey.arrives_at_s[came].min() >= 51.1
    assert np.isinf(journey.again_at_s).all()


def test_reordering_and_late_replies_take_longer(quiet: Devices) -> None:
    world = world_with(quiet, Reordering(delay_s=4.0), LateReplies(nodes=2, delay_s=100.0))
    arrives_s = reached(world, [1, 2] * 500, [10.0] * 1000).arrives_at_s
    assert arrives_s.min() >= 11.0 and arrives_s.max() < 15.0
    assert arrives_s.mean() == pytest.approx(13.0, abs=0.15)
    back_s = returned(world, [1, 2] * 500, [10.0] * 1000).arrives_at_s
    assert back_s[::2].max() < 15.0
    assert back_s[1::2].min() >= 111.0


def test_at_most_so_many_megabits_pass_in_a_second(quiet: Devices) -> None:
    drop = Bandwidth(nodes=1, at_s=10.0, at_most_mbps=2.0, direction="from_nodes")
    world = world_with(quiet, drop)
    # 1,000,000 bytes are 8 megabits, 4 s at 2 Mbit/s; 100,000 bytes take 0.4 s, less than 1 s.
    assert returned(world, [1, 2], [10.0, 10.0], 1_000_000).arrives_at_s.tolist() == [14.0, 11.0]
    assert returned(world, [1], [10.0], 100_000).arrives_at_s.tolist() == [11.0]
    assert returned(world, [1], [9.9], 1_000_000).arrives_at_s.tolist() == [10.9]
    assert reached(world, [1], [10.0], 1_000_000).arrives_at_s.tolist() == [11.0]


class Measured(Devices):
    """Devices with ten megabits per second and a sensor that says so."""

    def returned(self, nodes, numbers, sent_at_s, sizes):  # type: ignore[no-untyped-def]
        return Journey.once(sent_at_s + 1.0 + sizes * 8 / 10e6)

    def readings(self, nodes, at_s, bodies):  # type: ignore[no-untyped-def]
        shown = {"uplink_mbps": 10.0, "downlink_mbps": 40.0, "battery_fraction": 0.5}
        return [dict(shown) for _ in nodes]


def test_a_factor_changes_the_devices_own_bandwidth_and_what_it_reads(quiet: Devices) -> None:
    inner = Measured(quiet.seconds_per_step, quiet.latency_s)
    slow = Bandwidth(nodes=1, until_s=20.0, factor=0.25, direction="from_nodes")
    fast = Bandwidth(nodes=2, factor=4.0, at_most_mbps=32.0)
    world = Scenario(10, [slow, fast]).world(inner)
    # A megabyte: 0.8 s at 10 Mbit/s, 3.2 s at a quarter, 0.2 s at four times as much, and 0.25 s
    # is what 32 Mbit/s would take, which the latency of a second hides.
    arrives_s = returned(world, [0, 1, 2], [10.0] * 3, 1_000_000).arrives_at_s
    assert arrives_s == pytest.approx([11.8, 14.2, 11.2])

    def read(node: int, at_s: float) -> Mapping[str, float]:
        (readings,) = world.readings(np.array([node]), np.array([at_s]), np.zeros((1, 0)))
        return readings

    shown = {"uplink_mbps": 2.5, "downlink_mbps": 40.0, "battery_fraction": 0.5}
    assert read(1, 10.0) == shown
    assert read(2, 10.0)["downlink_mbps"] == 32.0
    assert read(1, 20.0)["uplink_mbps"] == 10.0


def test_least_seconds_stay_a_lower_bound_on_links_and_nodes_that_got_faster(
    quiet: Devices,
) -> None:
    world = world_with(quiet, Bandwidth(factor=1e6), Stragglers(factor=1e-6))
    nodes = np.arange(10)
    assert world.least_seconds(nodes).tolist() == quiet.least_seconds(nodes).tolist()
    there_s = reached(world, [0], [0.0], 10**9).arrives_at_s
    ends_s = worked(world, [0], there_s.tolist(), 1e6).ends_at_s
    back_s = returned(world, [0], ends_s.tolist(), 10**9).arrives_at_s
    assert back_s[0] >= world.least_seconds(np.array([0]))[0]


def test_chance_depends_on_the_seed_and_the_number_alone(quiet: Devices) -> None:
    worlds = [world_with(quiet, MessageLoss(probability=0.5), seed=seed) for seed in (1, 1, 2)]
    lost = [np.isinf(reached(w, [3] * 200, [0.0] * 200).arrives_at_s).tolist() for w in worlds]
    assert lost[0] == lost[1] != lost[2]
    assert worlds[0].digest == worlds[1].digest != worlds[2].digest


def test_a_digest_tells_scenarios_and_inner_worlds_apart(quiet: Devices) -> None:
    other = Devices(np.full(10, 0.25), np.full(10, 1.0))
    digests = {
        quiet.digest,
        world_with(quiet, Crash(at_s=1.0)).digest,
        world_with(quiet, Crash(at_s=2.0)).digest,
        world_with(quiet, Crash(at_s=1.0, nodes=4)).digest,
        world_with(other, Crash(at_s=1.0)).digest,
    }
    assert len(digests) == 5


def test_a_scenario_without_events_is_the_world_itself(quiet: Devices) -> None:
    assert Scenario(10).world(quiet) is quiet


def test_nobody_asked_is_nobody_answered(quiet: Devices) -> None:
    world = world_with(quiet, MessageLoss(probability=0.5), Crash(), LinkCut(nodes=1))
    assert reached(world, [], []).arrives_at_s.shape == (0,)
    assert worked(world, [], [], 1.0).ends_at_s.shape == (0,)
    assert world.online(np.arange(0), 3.0).shape == (0,)
