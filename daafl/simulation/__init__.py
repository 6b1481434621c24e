"""A federation on one machine: nodes in worker processes, time as an event clock."""

from daafl.simulation.devices import Devices
from daafl.simulation.grid import InProcessGrid

__all__ = ["Devices", "InProcessGrid"]
