"""Fleets: up to millions of simulated devices that are slow, away, flat, hot, or fail."""

from daafl.simulation.fleet.attention import Attention
from daafl.simulation.fleet.battery import Battery
from daafl.simulation.fleet.correlation import Correlation
from daafl.simulation.fleet.device_class import Compute, DeviceClass, Link, Mishaps
from daafl.simulation.fleet.fleet import Fleet
from daafl.simulation.fleet.known_classes import browser_tab, cloud_machine, edge_phone
from daafl.simulation.fleet.network import Network
from daafl.simulation.fleet.presence import Presence
from daafl.simulation.fleet.thermal import Thermal
from daafl.simulation.fleet.trace_files import read_trace
from daafl.simulation.fleet.traces import Trace, TraceEvent

__all__ = [
    "Attention",
    "Battery",
    "Compute",
    "Correlation",
    "DeviceClass",
    "Fleet",
    "Link",
    "Mishaps",
    "Network",
    "Presence",
    "Thermal",
    "Trace",
    "TraceEvent",
    "browser_tab",
    "cloud_machine",
    "edge_phone",
    "read_trace",
]
