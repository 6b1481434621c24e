"""What devices of a class have in common, as numbers that arrays of nodes are computed with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.device_class import DeviceClass
from daafl.simulation.fleet.presence import DAY_S, HOUR_S


class Traits(NamedTuple):
    """The numbers of classes, or of the classes of nodes; arrays of shape [k].

    What a class lacks has the number that makes no difference, such as a drain of 0.
    """

    starts_s: NDArray[np.float64]
    stay_s: NDArray[np.float64]
    jitter_s: NDArray[np.float64]
    period_s: NDArray[np.float64]
    pauses: NDArray[np.float64]
    drain_per_s: NDArray[np.float64]
    charge_per_s: NDArray[np.float64]
    plugged_from_s: NDArray[np.float64]
    plugged_for_s: NDArray[np.float64]
    least_charge: NDArray[np.float64]
    steady_c: NDArray[np.float64]
    limit_c: NDArray[np.float64]
    cooling_s: NDArray[np.float64]
    visible_fraction: NDArray[np.float64]
    active_fraction: NDArray[np.float64]
    hidden_speed: NDArray[np.float64]
    active_speed: NDArray[np.float64]
    attention_s: NDArray[np.float64]
    crash_fraction: NDArray[np.float64]
    restart_s: NDArray[np.float64]
    price_per_s: NDArray[np.float64]


def traits_of(device: DeviceClass) -> tuple[float, ...]:
    """Return the values of `Traits` for a class."""
    mishaps = device.mishaps
    return (
        *_presence(device),
        *_battery(device),
        *_thermal(device),
        *_attention(device),
        mishaps.crash_fraction,
        mishaps.restart_s,
        device.price_per_hour / HOUR_S,
    )


def _presence(device: DeviceClass) -> tuple[float, ...]:
    presence = device.presence
    if presence is None:
        return 0.0, DAY_S, 0.0, DAY_S, 1.0
    hours = (presence.starts_h, presence.hours, presence.jitter_h, presence.every_h)
    return *(HOUR_S * value for value in hours), float(presence.when_leaving == "pauses")


def _battery(device: DeviceClass) -> tuple[float, ...]:
    battery = device.battery
    if battery is None:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    return (
        1.0 / (HOUR_S * battery.work_h),
        1.0 / (HOUR_S * battery.charging_h),
        HOUR_S * battery.plugged_from_h,
        HOUR_S * battery.plugged_for_h,
        battery.least_charge,
    )


def _thermal(device: DeviceClass) -> tuple[float, ...]:
    thermal = device.thermal
    if thermal is None:
        return 0.0, 1.0, 1.0
    return thermal.steady_c, thermal.limit_c, thermal.cooling_s


def _attention(device: DeviceClass) -> tuple[float, ...]:
    attention = device.attention
    if attention is None:
        return 1.0, 0.0, 1.0, 1.0, DAY_S
    return (
        attention.visible_fraction,
        attention.active_fraction,
        attention.hidden_speed,
        attention.active_speed,
        60.0 * attention.minutes,
    )
