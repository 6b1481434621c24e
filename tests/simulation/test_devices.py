"""Devices: speeds and distances of simulated nodes."""

import numpy as np
import pytest

from daafl.simulation import Devices


def test_work_takes_steps_times_the_nodes_own_speed() -> None:
    devices = Devices([0.5, 2.0], [0.1, 0.3])
    nodes, numbers = np.array([0, 1]), np.array([1, 2])
    bodies = devices.bodies(nodes)
    shift = devices.worked(nodes, numbers, np.array([1.0, 2.0]), np.array([10.0, 10.0]), bodies)
    assert shift.ends_at_s.tolist() == shift.free_at_s.tolist() == [6.0, 22.0]
    assert shift.cost.tolist() == [0.0, 0.0]
    assert len(devices) == devices.num_nodes == 2


def test_messages_take_the_latency_each_way_whatever_their_size() -> None:
    devices = Devices([0.5, 2.0], [0.1, 0.3])
    nodes, numbers = np.array([1, 0]), np.array([1, 2])
    for journeys in (devices.reached, devices.returned):
        journey = journeys(nodes, numbers, np.array([1.0, 2.0]), np.array([0, 10**9]))
        assert journey.arrives_at_s.tolist() == [1.3, 2.1]
        assert np.isinf(journey.again_at_s).all()
    assert devices.least_seconds(nodes).tolist() == [0.6, 0.2]
    assert devices.online(nodes, 5.0).all()
    assert devices.readings(np.array([1]), np.array([0.0]), devices.bodies(nodes)[:1])[0] == {
        "latency_s": 0.3
    }


def test_digests_tell_devices_apart() -> None:
    one, same, other = (Devices([1.0, 2.0], [0.0, x]) for x in (0.5, 0.5, 0.6))
    assert one.digest == same.digest != other.digest


def test_uniform_devices_are_equal() -> None:
    devices = Devices.uniform(3, seconds_per_step=0.2, latency_s=1.0)
    assert devices.seconds_per_step.tolist() == [0.2, 0.2, 0.2]
    assert devices.latency_s.tolist() == [1.0, 1.0, 1.0]


def test_log_normal_speeds_have_the_median_and_spread_asked_for() -> None:
    devices = Devices.log_normal(20_000, sigma=0.5, seed=3, seconds_per_step=0.1)
    logarithms = np.log(devices.seconds_per_step)
    # Standard error of mean and deviation at 20,000 draws: 0.5/141 = 0.0035 and 0.0025.
    assert np.mean(logarithms) == pytest.approx(np.log(0.1), abs=0.015)
    assert np.std(logarithms) == pytest.approx(0.5, abs=0.01)


def test_the_seed_alone_decides_the_speeds() -> None:
    first, again, other = (Devices.log_normal(5, sigma=1, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.seconds_per_step, again.seconds_per_step)
    assert not np.array_equal(first.seconds_per_step, other.seconds_per_step)


def test_speeds_cannot_be_changed_under_a_running_grid() -> None:
    speeds = np.array([1.0, 2.0])
    devices = Devices(speeds, [0.0, 0.0])
    speeds[0] = 9.0
    assert devices.seconds_per_step[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        devices.seconds_per_step[0] = 9.0


@pytest.mark.parametrize(
    ("speeds", "latencies", "complaint"),
    [
        ([0.1, -0.1], [0, 0], "seconds_per_step must be"),
        ([0.1, 0.1], [0, float("nan")], "latency_s must be"),
        ([0.1, float("inf")], [0, 0], "seconds_per_step must be"),
        ([], [], "seconds_per_step must be"),
        ([[0.1]], [[0.1]], "seconds_per_step must be"),
        ([0.1, 0.1], [0], "is for 2 nodes and latency_s for 1"),
    ],
)
def test_impossible_devices_are_refused(
    speeds: list[float], latencies: list[float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Devices(speeds, latencies)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_an_impossible_spread_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be"):
        Devices.log_normal(2, sigma=sigma, seed=0)
