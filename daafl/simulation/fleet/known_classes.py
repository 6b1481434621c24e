"""The classes of devices that daafl brings along: machines in a cloud, phones, browser tabs."""

from __future__ import annotations

from daafl.simulation.fleet.attention import Attention
from daafl.simulation.fleet.battery import Battery
from daafl.simulation.fleet.device_class import Compute, DeviceClass, Link, Mishaps
from daafl.simulation.fleet.presence import Presence
from daafl.simulation.fleet.thermal import Thermal


def cloud_machine() -> DeviceClass:
    """Return fast machines that are always there, cost money and are sometimes taken away."""
    return DeviceClass(
        compute=Compute(seconds_per_step=0.005, sigma=0.2, memory_mib=65536.0),
        link=Link(uplink_mbps=1000.0, downlink_mbps=1000.0, latency_s=0.02, sigma=0.2),
        mishaps=Mishaps(loss_fraction=0.0, crash_fraction=0.002, restart_s=120.0),
        price_per_hour=0.9,
    )


def edge_phone() -> DeviceClass:
    """Return phones: there at night, on battery, warm when they work, pausing when they leave."""
    return DeviceClass(
        compute=Compute(seconds_per_step=0.05, sigma=0.7, memory_mib=4096.0),
        link=Link(uplink_mbps=8.0, downlink_mbps=30.0, latency_s=0.06, sigma=0.8),
        presence=Presence(starts_h=21.0, hours=9.0, jitter_h=1.5),
        battery=Battery(work_h=4.0, charging_h=1.5, plugged_from_h=23.0, plugged_for_h=7.0),
        thermal=Thermal(steady_c=25.0, limit_c=15.0, cooling_s=600.0),
        mishaps=Mishaps(loss_fraction=0.01, crash_fraction=0.01, restart_s=60.0),
        clock_spread_h=3.0,
    )


def browser_tab() -> DeviceClass:
    """Return tabs: open for a while, throttled when hidden or in use, gone when closed."""
    return DeviceClass(
        compute=Compute(seconds_per_step=0.1, sigma=0.9, memory_mib=1024.0),
        link=Link(uplink_mbps=20.0, downlink_mbps=80.0, latency_s=0.04, sigma=0.7),
        presence=Presence(
            starts_h=0.0, hours=0.75, jitter_h=2.25, every_h=3.0, when_leaving="lost"
        ),
        attention=Attention(visible_fraction=0.6, active_fraction=0.5),
        mishaps=Mishaps(loss_fraction=0.02, crash_fraction=0.02, restart_s=5.0),
        clock_spread_h=1.5,
    )
