"""What tells devices of a class apart: one row of numbers per node, drawn once from the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.fleet.chances import Chance, key_of, normals
from daafl.simulation.fleet.device_class import DeviceClass
from daafl.simulation.fleet.presence import HOUR_S
from daafl.simulation.world import Nodes


class Columns(NamedTuple):
    """The numbers of nodes; arrays of shape [k].

    Attributes
    ----------
    seconds_per_step, uplink_mbps, downlink_mbps, latency_s
        Speed and connection.
    loss_fraction
        Probability that a message gets lost, each way.
    clock_s
        How far the device's own clock is behind that of the fleet.
    first_charge
        Charge at time 0; 1 without a battery.
    """

    seconds_per_step: NDArray[np.float64]
    uplink_mbps: NDArray[np.float64]
    downlink_mbps: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    loss_fraction: NDArray[np.float64]
    clock_s: NDArray[np.float64]
    first_charge: NDArray[np.float64]


Table = NDArray[np.float64]
"""One row per node with the values of `Columns`: a node's numbers lie side by side in memory."""

Classes = NDArray[np.uint8]
"""Index of the class of every node; shape [num_nodes]."""


def drawn_classes(shares: Sequence[float], num_nodes: int, seed: int) -> Classes:
    """Return a class for every node, at random, as many of each as its share says.

    Numbers that are not whole are rounded by largest remainder.

    Examples
    --------
    >>> np.bincount(drawn_classes([0.5, 0.25, 0.25], 10, seed=0)).tolist()
    [5, 3, 2]
    """
    wanted = np.array(shares) / sum(shares) * num_nodes
    counts = np.floor(wanted).astype(np.int64)
    largest = np.argsort(counts - wanted, kind="stable")[: num_nodes - counts.sum()]
    counts[largest] += 1
    classes = np.repeat(np.arange(len(shares), dtype=np.uint8), counts)
    if len(shares) == 1:
        return classes
    drawn = np.empty_like(classes)
    order = mixed(key_of(seed, Chance.CLASS), np.arange(num_nodes)).argsort(kind="stable")
    drawn[order] = classes
    return drawn


def drawn_table(devices: Mapping[str, DeviceClass], classes: Classes, seed: int) -> Table:
    """Return the rows of all nodes; a node's row depends on its index, class and seed alone."""
    table = np.empty((len(classes), len(Columns._fields)))
    for index, device in enumerate(devices.values()):
        nodes = np.flatnonzero(classes == index)
        for name, values in _drawn(device, nodes, seed):
            table[nodes, Columns._fields.index(name)] = values
    return table


def _drawn(
    device: DeviceClass, nodes: Nodes, seed: int
) -> Iterator[tuple[str, NDArray[np.float64] | float]]:
    """Yield the columns of nodes of a class one by one, as there may be a million nodes."""
    compute, link, battery = device.compute, device.link, device.battery
    speed = np.exp(compute.sigma * normals(key_of(seed, Chance.SPEED), nodes))
    yield "seconds_per_step", compute.seconds_per_step * speed
    bandwidth = np.exp(link.sigma * normals(key_of(seed, Chance.BANDWIDTH), nodes))
    yield "uplink_mbps", link.uplink_mbps * bandwidth
    yield "downlink_mbps", link.downlink_mbps * bandwidth
    yield "latency_s", link.latency_s
    yield "loss_fraction", device.mishaps.loss_fraction
    ahead = 2.0 * uniforms(mixed(key_of(seed, Chance.CLOCK), nodes)) - 1.0
    yield "clock_s", device.clock_spread_h * HOUR_S * ahead
    spent = uniforms(mixed(key_of(seed, Chance.CHARGE), nodes))
    yield "first_charge", 1.0 - spent * (0.0 if battery is None else 1.0 - battery.first_charge)
