"""What a node measures about itself, from real sensors or from those of a simulated device.

Names, units and bounds of readings are in `daafl.sensing`. A platform's own sensors are a class
with one method, for `daafl.clients.client_app`::

    class LaptopSensors:
        def readings(self, context):
            battery = psutil.sensors_battery()
            if battery is None:  # a machine without one
                return {}
            return {"battery_fraction": battery.percent / 100, "is_charging": battery.power_plugged}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Protocol

from flwr.app import Context

from daafl.messages import SENSOR
from daafl.sensing import checked_reading


class Sensors(Protocol):
    """Measures the device that a node runs on."""

    def readings(self, context: Context) -> Mapping[str, float]:
        """Return what the sensors show now; what cannot be measured is absent, or NaN."""


class SimulatedSensors:
    """Readings that come with the node's configuration, as ``sensor.battery_fraction``.

    A simulation puts them there. In a deployment the operator of a node may state what does not
    change, such as ``--node-config "sensor.price_per_hour=0.9"``.
    """

    def readings(self, context: Context) -> Mapping[str, float]:
        """Return the readings in the configuration."""
        return {
            key.removeprefix(SENSOR): float(value)
            for key, value in context.node_config.items()
            if key.startswith(SENSOR)
        }


SIMULATED: Final = SimulatedSensors()
"""The sensors of nodes that have no others."""


def measured(sensors: Sensors, context: Context) -> dict[str, float]:
    """Return readings that may travel.

    Raises
    ------
    MessageError
        If a reading has a name that is not known, or a value that is out of bounds.

    Examples
    --------
    >>> from flwr.app import RecordDict
    >>> config = {"partition-id": 0, "sensor.battery_fraction": 0.5}
    >>> measured(SIMULATED, Context(1, 1, config, RecordDict(), {}))
    {'battery_fraction': 0.5}
    """
    readings = sensors.readings(context)
    return {
        name: checked_reading(name, float(value))
        for name, value in readings.items()
        if not math.isnan(value)
    }
