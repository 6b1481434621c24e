"""Fleets: who is in them, and what every world must hold to."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.config.composition import compose
from daafl.config.launching import parts
from daafl.simulation import Devices
from daafl.simulation.fleet import (
    Compute,
    Correlation,
    DeviceClass,
    Fleet,
    Link,
    Network,
    Trace,
    TraceEvent,
    browser_tab,
    cloud_machine,
    edge_phone,
)
from daafl.simulation.world import World

NUM_NODES = 60
CLASSES = {"cloud": cloud_machine(), "edge": edge_phone(), "browser": browser_tab()}
TRACE = Trace.of(
    [
        TraceEvent(3, 50.0, True, speed=0.5, bandwidth_mbps=1.0),
        TraceEvent(3, 90.0, False),
        TraceEvent(5, 10_000.0, False),
        TraceEvent(30, 0.0, False),
        TraceEvent(30, 1e6, True),
    ]
)


def mixed_fleet(seed: int = 1) -> Fleet:
    network = Network([0.1, 0.0], [50.0, 5.0], [0.1, 0.0])
    return Fleet.of(CLASSES, NUM_NODES, seed=seed, network=network, trace=TRACE)


WORLDS: dict[str, Callable[[], World]] = {
    "fleet": mixed_fleet,
    "devices": lambda: Devices.log_normal(NUM_NODES, sigma=1.0, seed=0),
}


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
@settings(max_examples=150, deadline=None)
@given(
    nodes=st.lists(st.integers(0, NUM_NODES - 1), min_size=1, max_size=20),
    sent_at_s=st.floats(0, 1e8),
    first=st.integers(1, 2**40),
    size=st.integers(0, 2**40),
    steps=st.floats(0, 2**53),
    idle_s=st.floats(0, 1e7),
)
def test_nothing_happens_before_its_cause(
    make: Callable[[], World],
    nodes: list[int],
    sent_at_s: float,
    first: int,
    size: int,
    steps: float,
    idle_s: float,
) -> None:
    world, k = make(), len(nodes)
    index = np.array(nodes)
    numbers, sizes = first + np.arange(k), np.full(k, size)
    sent = np.full(k, sent_at_s)
    arrives = world.reached(index, numbers, sent, sizes).arrives_at_s
    assert (arrives >= sent).all()
    begins = np.where(np.isfinite(arrives), arrives, sent) + idle_s
    shift = world.worked(index, numbers, begins, np.full(k, steps), world.bodies(index))
    assert (shift.ends_at_s >= begins).all()
    assert (shift.free_at_s >= begins).all()
    assert np.isfinite(shift.free_at_s).all()
    assert np.isfinite(shift.bodies).all()
    assert ((shift.cost >= 0) & np.isfinite(shift.cost)).all()
    assert (shift.ends_at_s == shift.free_at_s)[np.isfinite(shift.ends_at_s)].all()
    back = world.returned(index, numbers, shift.ends_at_s, sizes).arrives_at_s
    assert (back >= shift.ends_at_s).all()
    # A lower bound of what was not lost, up to the rounding of four sums of numbers of this size.
    returns = np.isfinite(arrives) & np.isfinite(back)
    back = back[returns]
    assert (back + 4 * np.spacing(back) >= sent_at_s + world.least_seconds(index)[returns]).all()


@settings(max_examples=50, deadline=None)
@given(
    order=st.permutations(range(NUM_NODES)),
    at_s=st.floats(0, 1e7),
    steps=st.floats(0, 1e5),
    seed=st.integers(0, 3),
)
def test_a_node_does_the_same_in_whatever_company_it_is_asked(
    order: list[int], at_s: float, steps: float, seed: int
) -> None:
    together, apart = mixed_fleet(seed), mixed_fleet(seed)
    nodes = np.array(order)
    numbers, times = nodes + 7, np.full(NUM_NODES, at_s)
    work = np.full(NUM_NODES, steps)
    shift = together.worked(nodes, numbers, times, work, together.bodies(nodes))
    arrives = together.reached(nodes, numbers, times, nodes * 1000).arrives_at_s
    online = together.online(nodes, at_s)
    for row in range(0, NUM_NODES, 7):
        one = slice(row, row + 1)
        alone = apart.worked(
            nodes[one], numbers[one], times[one], work[one], apart.bodies(nodes[one])
        )
        assert alone.ends_at_s[0] == shift.ends_at_s[row]
        assert alone.free_at_s[0] == shift.free_at_s[row]
        assert np.array_equal(alone.bodies[0], shift.bodies[row])
        reached = apart.reached(nodes[one], numbers[one], times[one], nodes[one] * 1000)
        assert reached.arrives_at_s[0] == arrives[row]
        assert apart.online(nodes[one], at_s)[0] == online[row]
        shown = together.readings(nodes, times, shift.bodies)[row]
        assert apart.readings(nodes[one], times[one], shift.bodies[one]) == [shown]


def test_charge_and_heat_stay_within_bounds_over_a_month_of_work() -> None:
    fleet = Fleet.of({"edge": edge_phone()}, 50, seed=0)
    nodes = np.arange(50)
    bodies, free_s = fleet.bodies(nodes), np.zeros(50)
    for number in range(250):
        shift = fleet.worked(nodes, nodes + 50 * number, free_s + 3600.0, np.full(50, 5e4), bodies)
        bodies, free_s = shift.bodies, shift.free_at_s
        assert ((bodies[:, 1] >= 0) & (bodies[:, 1] <= 1)).all()
        assert ((bodies[:, 2] >= 0) & (bodies[:, 2] <= 15.0)).all()
    assert (free_s > 30 * 86400).all()


def test_there_are_as_many_of_each_class_as_the_shares_say() -> None:
    shares = {"cloud": 1, "edge": 6, "browser": 3}
    fleet = Fleet.of(CLASSES, 30, seed=0, shares=shares)
    assert np.bincount(fleet.classes).tolist() == [3, 18, 9]
    assert not np.array_equal(fleet.classes, Fleet.of(CLASSES, 30, seed=1, shares=shares).classes)


def test_speeds_and_bandwidths_have_the_median_and_spread_of_their_class() -> None:
    fleet = Fleet.of({"edge": edge_phone()}, 20_000, seed=5)
    speeds, uplinks = np.log(fleet.table[:, 0]), np.log(fleet.table[:, 1])
    # Standard errors at 20,000 draws: 0.7 / 141 = 0.005 and 0.8 / 141 = 0.006.
    assert speeds.mean() == pytest.approx(np.log(0.05), abs=0.02)
    assert speeds.std() == pytest.approx(0.7, abs=0.02)
    assert uplinks.mean() == pytest.approx(np.log(8.0), abs=0.02)
    assert uplinks.std() == pytest.approx(0.8, abs=0.02)
    assert abs(np.corrcoef(speeds, uplinks)[0, 1]) < 0.03


def test_phones_are_there_at_night() -> None:
    fleet = Fleet.of({"edge": edge_phone()}, 5_000, seed=5)
    nodes = np.arange(5_000)
    shares = [fleet.online(nodes, hour * 3600.0).mean() for hour in (2, 14, 26, 38)]
    # At 2:00 all clocks are between 23:00 and 5:00, within 22:30 to 6:00; at 14:00 none is.
    assert shares == [1.0, 0.0, 1.0, 0.0]


def test_the_digest_tells_fleets_apart() -> None:
    faster = {**CLASSES, "edge": DeviceClass(Compute(0.04, 0.7), edge_phone().link)}
    fleets = [
        mixed_fleet(1),
        mixed_fleet(2),
        Fleet.of(CLASSES, NUM_NODES, seed=1),
        Fleet.of(CLASSES, NUM_NODES, seed=1, trace=TRACE),
        Fleet.of(faster, NUM_NODES, seed=1),
    ]
    assert len({fleet.digest for fleet in fleets}) == 5
    assert mixed_fleet(1).digest == fleets[0].digest


@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 1.0, 1.0), (0.6, 0.5, 0.7)])
def test_slow_devices_get_the_nodes_with_high_scores(
    strength: float, low: float, high: float
) -> None:
    scores = [float((7 * node) % 1000) for node in range(1000)]
    plain = Fleet.of(CLASSES, 1000, seed=0)
    fleet = Fleet.of(CLASSES, 1000, seed=0, correlation=Correlation(strength, scores))
    assert sorted(fleet.table[:, 0]) == sorted(plain.table[:, 0])
    slowness = fleet.table[:, 0].argsort().argsort()
    assert low - 1e-9 <= np.corrcoef(slowness, scores)[0, 1] <= high + 1e-9
    # A device keeps all its numbers, its class among them.
    assert set(map(tuple, np.c_[fleet.table, fleet.classes])) == set(
        map(tuple, np.c_[plain.table, plain.classes])
    )


DEVICE = DeviceClass(Compute(1.0), Link(8.0, 8.0, latency_s=0.1))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Fleet.of({"a": DEVICE}, 0, seed=0), "num_nodes must be at least 1"),
        (lambda: Fleet.of({}, 5, seed=0), "classes must be 1 to 255"),
        (lambda: Fleet.of({"a": DEVICE}, 5, seed=0, shares={"b": 1.0}), "shares must be of"),
        (lambda: Fleet.of({"a": DEVICE}, 5, seed=0, shares={"a": -1.0}), "shares.a must be"),
        (lambda: Fleet.of({"a": DEVICE}, 5, seed=0, shares={"a": 0.0}), "at least one of"),
        (lambda: Fleet.of({"a": DEVICE}, 5, seed=0, trace=TRACE), "trace is about node 30"),
        (
            lambda: Fleet.of({"a": DEVICE}, 5, seed=0, correlation=Correlation(1.0, [1.0])),
            "scores are for 1 nodes",
        ),
        (lambda: Correlation(1.5), "strength must be within"),
        (lambda: Correlation(1.0, [float("nan")]), "scores must be finite"),
    ],
)
def test_impossible_fleets_are_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize("name", ["cloud", "edge", "browser"])
def test_the_named_fleets_are_those_that_the_mixed_one_consists_of(name: str) -> None:
    named = parts(compose([f"fleet={name}"]))["fleet"]
    mixed = parts(compose(["fleet=mixed"]))["fleet"]
    assert named.devices == {name: mixed.devices[name]}
    assert np.bincount(mixed.classes).tolist() == [3, 18, 9]


@pytest.mark.slow
def test_a_million_devices_can_be_registered_and_asked() -> None:
    fleet = Fleet.of(CLASSES, 1_000_000, seed=0)
    assert fleet.table.nbytes + fleet.classes.nbytes < 60_000_000
    nodes = np.random.default_rng(0).choice(1_000_000, 1000, replace=False)
    numbers, zero = np.arange(1, 1001), np.zeros(1000)
    arrives = fleet.reached(nodes, numbers, zero, np.full(1000, 1000)).arrives_at_s
    assert 0.95 < np.isfinite(arrives).mean() < 1.0
