"""What the sensors of simulated devices show."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from daafl.sensing import (
    BATTERY_FRACTION,
    DOWNLINK_MBPS,
    IS_CHARGING,
    LATENCY_S,
    MEMORY_MIB,
    PRICE_PER_HOUR,
    TAB_VISIBLE,
    TEMPERATURE_C,
    UPLINK_MBPS,
    USER_ACTIVE,
)
from daafl.simulation.fleet.device_class import DeviceClass
from daafl.simulation.fleet.members import Members
from daafl.simulation.fleet.thermal import AMBIENT_C
from daafl.simulation.world import Bodies, Seconds


def readings(
    device: DeviceClass, members: Members, at_s: Seconds, bodies: Bodies
) -> list[dict[str, float]]:
    """Return the readings of nodes of one class; what it has no sensor for is absent.

    Parameters
    ----------
    device
        The class.
    members
        The nodes; arrays of shape [k].
    at_s
        The times; shape [k].
    bodies
        Their bodies; shape [k, values].
    """
    columns = members.columns
    since_s, charge, excess_c = bodies.T
    shown: dict[str, NDArray[Any]] = {
        LATENCY_S: columns.latency_s,
        UPLINK_MBPS: members.bandwidth(columns.uplink_mbps, at_s),
        DOWNLINK_MBPS: members.bandwidth(columns.downlink_mbps, at_s),
        MEMORY_MIB: np.full(len(at_s), device.compute.memory_mib),
    }
    if device.battery is not None:
        shown[BATTERY_FRACTION] = members.power.charge(charge, since_s, at_s)
        shown[IS_CHARGING] = members.power.is_plugged(at_s)
    if device.thermal is not None:
        shown[TEMPERATURE_C] = AMBIENT_C + members.heat.cooled(excess_c, at_s - since_s)
    if device.attention is not None:
        tab = members.regard(at_s)
        shown |= {TAB_VISIBLE: tab.is_visible, USER_ACTIVE: tab.is_active}
    if device.price_per_hour > 0:
        shown[PRICE_PER_HOUR] = np.full(len(at_s), device.price_per_hour)
    rows = np.stack(list(shown.values()), axis=1).astype(np.float64).tolist()
    return [dict(zip(shown, row, strict=True)) for row in rows]
