"""What one device does, in numbers derived by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from daafl.simulation.fleet import (
    Attention,
    Battery,
    Compute,
    DeviceClass,
    Fleet,
    Link,
    Mishaps,
    Presence,
    Thermal,
)

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
Make = Callable[..., Any]


def test_a_message_takes_the_latency_and_its_bits_over_the_bandwidth(alone: Make) -> None:
    device = alone()
    # 2 MB are 16 Mbit: 1 s down at 16 Mbit/s, 2 s up at 8 Mbit/s; and 0.5 s of latency.
    assert device.reached(10.0, 2_000_000) == 11.5
    assert device.returned(10.0, 2_000_000) == 12.5
    assert device.reached(10.0, 0) == 10.5


def test_work_takes_steps_and_costs_its_hours(alone: Make) -> None:
    shift = alone(price_per_hour=1.8).works(100.0, 30.0)
    assert shift.ends_at_s.tolist() == shift.free_at_s.tolist() == [130.0]
    assert shift.cost[0] == pytest.approx(1.8 * 30 / 3600)


NIGHT = Presence(starts_h=2.0, hours=3.0)


def test_a_device_is_there_at_its_hours_every_day(alone: Make) -> None:
    device = alone(presence=NIGHT)
    for day in (0, 1, 10_000):
        for hour, is_there in ((1.99, False), (2.0, True), (4.99, True), (5.0, False)):
            assert device.is_online(day * DAY_S + hour * HOUR_S) == is_there


def test_messages_wait_for_a_device_that_is_away(alone: Make) -> None:
    device = alone(presence=NIGHT)
    assert device.reached(0.0) == 2 * HOUR_S
    assert device.reached(3 * HOUR_S) == 3 * HOUR_S + 0.5
    # A reply that is ready at 6:00 leaves at 2:00 on the next day.
    assert device.returned(6 * HOUR_S) == 26 * HOUR_S + 0.5


def test_work_pauses_while_the_device_is_away(alone: Make) -> None:
    device = alone(presence=NIGHT)
    # From 4:00: one hour, then 3 h in each of the next nights. 8 h = 1 + 3 + 3 + 1.
    assert device.works(4 * HOUR_S, 8 * HOUR_S).ends_at_s[0] == 3 * DAY_S + 3 * HOUR_S
    assert device.works(4 * HOUR_S, HOUR_S).ends_at_s[0] == 5 * HOUR_S
    assert device.works(0.0, HOUR_S).ends_at_s[0] == 3 * HOUR_S


def test_work_is_lost_when_the_tab_is_closed(alone: Make) -> None:
    device = alone(presence=Presence(2.0, 3.0, when_leaving="lost"), price_per_hour=1.0)
    shift = device.works(4 * HOUR_S, 2 * HOUR_S)
    assert (shift.ends_at_s[0], shift.free_at_s[0]) == (math.inf, 5 * HOUR_S)
    assert shift.cost[0] == pytest.approx(1.0)  # the hour until 5:00
    assert device.works(4 * HOUR_S, HOUR_S).ends_at_s[0] == 5 * HOUR_S


def test_stays_begin_later_by_at_most_the_jitter_and_never_twice_alike(alone: Make) -> None:
    device = alone(presence=Presence(2.0, 3.0, jitter_h=1.0))
    begins = np.array([device.reached(day * DAY_S) - day * DAY_S for day in range(50)])
    assert (begins >= 2 * HOUR_S).all()
    assert (begins < 3 * HOUR_S).all()
    assert len(set(begins.tolist())) == 50


PLUG = Battery(work_h=2, charging_h=1, plugged_from_h=10, plugged_for_h=2, first_charge=1.0)


def test_work_drains_the_battery_and_the_plug_charges_it(alone: Make) -> None:
    device = alone(battery=PLUG)
    first = device.works(0.0, HOUR_S)
    assert first.ends_at_s[0] == HOUR_S
    assert first.bodies[0, :2] == pytest.approx([HOUR_S, 0.5])
    # At 10:30 it has been charged for half an hour: from 0.5 to full.
    readings = device.fleet.readings(np.array([0]), np.array([10.25 * HOUR_S]), first.bodies[:1])[0]
    assert readings["battery_fraction"] == pytest.approx(0.75)
    assert readings["is_charging"] == 1.0
    readings = device.fleet.readings(np.array([0]), np.array([12 * HOUR_S]), first.bodies[:1])[0]
    assert (readings["battery_fraction"], readings["is_charging"]) == (1.0, 0.0)


def test_work_waits_for_charge(alone: Make) -> None:
    device = alone(battery=PLUG)
    # 3 h of work need 1.5 charges; 0.8 are there above the least of 0.2, so 0.7 must come from the
    # plug: 0.7 h after 10:00.
    shift = device.works(0.0, 3 * HOUR_S)
    assert shift.ends_at_s[0] == pytest.approx(10.7 * HOUR_S)
    assert shift.bodies[0, 1] == pytest.approx(0.2)
    # 5.6 h need 2.8 charges: 2 h at the plug today, and nothing more on the next day.
    assert device.works(0.0, 5.6 * HOUR_S).ends_at_s[0] == pytest.approx(12 * HOUR_S)
    assert device.works(0.0, 5.8 * HOUR_S).ends_at_s[0] == pytest.approx(34.1 * HOUR_S)


def test_a_battery_that_nobody_charges_ends_the_work(alone: Make) -> None:
    device = alone(battery=Battery(2, 1, 10, 0, least_charge=0.25, first_charge=1.0))
    shift = device.works(0.0, 2 * HOUR_S)
    assert shift.ends_at_s[0] == math.inf
    assert shift.free_at_s[0] == pytest.approx(1.5 * HOUR_S)  # 0.75 of a charge
    assert shift.bodies[0, 1] == pytest.approx(0.25)
    # A question that takes no work is still answered.
    assert device.works(2 * HOUR_S, 0.0, shift.bodies).ends_at_s[0] == 2 * HOUR_S


HOT = Thermal(steady_c=20.0, limit_c=10.0, cooling_s=100.0)


def test_a_hot_device_works_as_fast_as_it_stays_at_its_limit(alone: Make) -> None:
    device = alone(thermal=HOT)
    # 20 (1 - exp(-t/100)) = 10 after 100 ln 2 = 69.3 s. What is left then takes twice as long.
    limit_s = 100 * math.log(2)
    assert device.works(0.0, 60.0).ends_at_s[0] == 60.0
    shift = device.works(0.0, 100.0)
    assert shift.ends_at_s[0] == pytest.approx(limit_s + 2 * (100 - limit_s))
    assert shift.bodies[0, 2] == 10.0
    # 100 ln 2 later it is half as hot: the limit is reached after 100 ln(15/10) s.
    second = device.works(shift.free_at_s[0] + limit_s, 100.0, shift.bodies)
    reached_s = 100 * math.log(1.5)
    lasted = second.ends_at_s[0] - shift.free_at_s[0] - limit_s
    assert lasted == pytest.approx(reached_s + 2 * (100 - reached_s))
    shown = device.fleet.readings(
        np.array([0]), np.array([shift.free_at_s[0] + limit_s]), shift.bodies[:1]
    )[0]
    assert shown["temperature_c"] == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("visible", "active", "seconds"), [(1, 0, 10), (0, 0, 40), (1, 1, 20), (0, 1, 80)]
)
def test_hidden_tabs_and_active_users_slow_work_down(
    alone: Make, visible: float, active: float, seconds: float
) -> None:
    device = alone(attention=Attention(visible, active, hidden_speed=0.25, active_speed=0.5))
    assert device.works(0.0, 10.0).ends_at_s[0] == seconds
    shown = device.fleet.readings(np.array([0]), np.array([0.0]), device.body[:1])[0]
    assert (shown["tab_visible"], shown["user_active"]) == (visible, active)


def test_a_crash_costs_the_work_and_the_restart(alone: Make) -> None:
    device = alone(mishaps=Mishaps(crash_fraction=1.0, restart_s=50.0), price_per_hour=3600.0)
    shift = device.works(100.0, 10.0)
    assert shift.ends_at_s[0] == math.inf
    assert 150.0 <= shift.free_at_s[0] < 160.0
    assert shift.cost[0] == pytest.approx(shift.free_at_s[0] - 150.0)


def test_messages_and_work_fail_as_often_as_they_should() -> None:
    mishaps = Mishaps(loss_fraction=0.1, crash_fraction=0.3, restart_s=0.0)
    device = DeviceClass(Compute(1.0), Link(8.0, 8.0, latency_s=0.0), mishaps=mishaps)
    fleet = Fleet.of({"device": device}, 1, seed=3)
    nodes, numbers = np.zeros(20_000, np.int64), np.arange(1, 20_001)
    zero, steps = np.zeros(20_000), np.ones(20_000)
    there = np.isinf(fleet.reached(nodes, numbers, zero, nodes).arrives_at_s)
    back = np.isinf(fleet.returned(nodes, numbers, zero, nodes).arrives_at_s)
    shift = fleet.worked(nodes, numbers, zero, steps, fleet.bodies(nodes))
    # Standard errors at 20,000 draws are 0.002 and 0.003; independent events have 0.01 in common.
    assert there.mean() == pytest.approx(0.1, abs=0.01)
    assert back.mean() == pytest.approx(0.1, abs=0.01)
    assert (there & back).mean() == pytest.approx(0.01, abs=0.004)
    assert np.isinf(shift.ends_at_s).mean() == pytest.approx(0.3, abs=0.015)


def test_what_a_class_lacks_it_does_not_show(alone: Make) -> None:
    device = alone()
    assert device.fleet.readings(np.array([0]), np.array([5.0]), device.body[:1])[0] == {
        "latency_s": 0.5,
        "uplink_mbps": 8.0,
        "downlink_mbps": 16.0,
        "memory_mib": 4096.0,
    }


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Compute(-1.0), "seconds_per_step must be"),
        (lambda: Compute(1.0, memory_mib=0.0), "memory_mib must be"),
        (lambda: Link(0.0, 1.0, 0.0), "uplink_mbps must be"),
        (lambda: Link(1.0, math.inf, 0.0), "downlink_mbps must be"),
        (lambda: Mishaps(loss_fraction=1.5), "loss_fraction must be within"),
        (lambda: Presence(0.0, 20.0, jitter_h=5.0), "hours \\+ jitter_h must be at most"),
        (lambda: Presence(0.0, 1.0, when_leaving="gone"), "when_leaving must be"),  # type: ignore[arg-type]  # on purpose
        (lambda: Battery(1, 1, 0, 25), "plugged_for_h must be at most 24"),
        (lambda: Battery(1, 1, 0, 5, least_charge=math.nan), "least_charge must be within"),
        (lambda: Thermal(1.0, 0.0, 1.0), "limit_c must be"),
        (lambda: Attention(0.5, 0.5, hidden_speed=0.0), "hidden_speed must be"),
    ],
)
def test_impossible_devices_are_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()
