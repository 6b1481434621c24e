"""What nodes measure about themselves: the names, units and bounds of sensor readings.

Readings travel as entries of the ``telemetry`` record. What a device cannot measure is absent.

====================  =============================================================================
``battery_fraction``  charge of the battery, from 0 to 1
``is_charging``       1 while the battery is being charged, else 0
``temperature_c``     of the device, in degrees Celsius
``uplink_mbps``       bandwidth towards the coordinator, in Mbit/s
``downlink_mbps``     bandwidth from the coordinator, in Mbit/s
``latency_s``         seconds of one way between node and coordinator
``memory_mib``        memory of the device, in MiB
``tab_visible``       1 if the browser tab is visible, 0 if it is hidden
``user_active``       1 while the user is active, else 0
``price_per_hour``    what an hour of work costs, in the federation's currency
====================  =============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from daafl.errors import MessageError

BATTERY_FRACTION: Final = "battery_fraction"
IS_CHARGING: Final = "is_charging"
TEMPERATURE_C: Final = "temperature_c"
UPLINK_MBPS: Final = "uplink_mbps"
DOWNLINK_MBPS: Final = "downlink_mbps"
LATENCY_S: Final = "latency_s"
MEMORY_MIB: Final = "memory_mib"
TAB_VISIBLE: Final = "tab_visible"
USER_ACTIVE: Final = "user_active"
PRICE_PER_HOUR: Final = "price_per_hour"

BOUNDS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        BATTERY_FRACTION: (0.0, 1.0),
        IS_CHARGING: (0.0, 1.0),
        TEMPERATURE_C: (-100.0, 300.0),
        UPLINK_MBPS: (0.0, 1e9),
        DOWNLINK_MBPS: (0.0, 1e9),
        LATENCY_S: (0.0, 1e6),
        MEMORY_MIB: (0.0, 1e9),
        TAB_VISIBLE: (0.0, 1.0),
        USER_ACTIVE: (0.0, 1.0),
        PRICE_PER_HOUR: (0.0, 1e9),
    }
)
"""Least and largest value of every reading."""


def checked_reading(name: str, value: object) -> float:
    """Return a reading as a float.

    Raises
    ------
    MessageError
        Of reason ``schema`` if there is no such sensor or the value is no number, ``plausibility``
        if it is out of bounds.

    Examples
    --------
    >>> checked_reading("battery_fraction", 1)
    1.0
    """
    if name not in BOUNDS:
        raise MessageError("schema", f"there is no reading {name[:40]!r}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError("schema", f"{name} is of type {type(value).__name__}, not a number")
    low, high = BOUNDS[name]
    number = float(value) if isinstance(value, float) or abs(value) < 2**53 else math.inf
    if not low <= number <= high:
        raise MessageError("plausibility", f"{name} is {number:g}, not within [{low:g}, {high:g}]")
    return number
