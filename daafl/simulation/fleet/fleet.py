"""A million devices as columns of numbers: what they do is computed for arrays of nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.fleet.chances import Chance, key_of
from daafl.simulation.fleet.columns import Classes, Columns, Table, drawn_classes, drawn_table
from daafl.simulation.fleet.correlation import Correlation
from daafl.simulation.fleet.device_class import DeviceClass
from daafl.simulation.fleet.instruments import readings
from daafl.simulation.fleet.members import Members
from daafl.simulation.fleet.network import Network
from daafl.simulation.fleet.traces import Trace
from daafl.simulation.fleet.traits import Traits, traits_of
from daafl.simulation.fleet.working import BODY, worked
from daafl.simulation.world import Bodies, Journey, Nodes, Numbers, Seconds, Shift

_BYTES_PER_MEGABIT: Final = 125_000.0
_AT_ONCE: Final = 16_384  # nodes whose numbers fit into a processor's cache
_MOST_CLASSES: Final = 255  # that a byte can count
_LATENCY: Final = Columns._fields.index("latency_s")
_FIRST_CHARGE: Final = Columns._fields.index("first_charge")


@dataclass(frozen=True, eq=False)
class Fleet:
    """A `World` of devices of several classes; made by `Fleet.of`.

    A message takes the latency and its bits over the bandwidth, unless it is lost, and waits for
    a device that is offline. Work begins when the device is online and has charge enough; it
    takes the steps times the seconds per step, longer in a hidden tab or on a device that
    gets hot, and pauses or is lost when the device leaves. A crash costs the work done so far.

    Attributes
    ----------
    devices
        Names and classes.
    classes
        Index of every node's class; shape [num_nodes].
    table
        What tells nodes apart, see `daafl.simulation.fleet.columns`; shape [num_nodes, columns].
    seed
        Same seed, same fleet.
    trace
        When nodes were online in a recording; ``None`` for what their class says.
    """

    devices: Mapping[str, DeviceClass]
    classes: Classes
    table: Table
    seed: int
    trace: Trace | None = None

    @classmethod
    def of(
        cls,
        classes: Mapping[str, DeviceClass],
        num_nodes: int,
        *,
        seed: int,
        shares: Mapping[str, float] | None = None,
        correlation: Correlation | None = None,
        network: Network | None = None,
        trace: Trace | None = None,
    ) -> Self:
        """Return a fleet.

        Parameters
        ----------
        classes
            What there is, by name.
        num_nodes
            Number of devices.
        seed
            Same seed, same fleet.
        shares
            How many there are of each class, relative to the others; ``None`` for equally many.
        correlation
            Which nodes have the slow devices; ``None`` for chance.
        network
            What lies between devices and coordinator; ``None`` for nothing but their own links.
        trace
            A recording that tells when nodes are online.

        Raises
        ------
        ValueError
            If classes and shares do not fit, or something is for another number of nodes.

        Examples
        --------
        >>> from daafl.simulation.fleet import Compute, DeviceClass, Link
        >>> server = DeviceClass(Compute(seconds_per_step=0.5), Link(8.0, 8.0, latency_s=0.1))
        >>> fleet = Fleet.of({"server": server}, 3, seed=0)
        >>> nodes, numbers, sizes = np.arange(2), np.arange(1, 3), np.full(2, 10**6)
        >>> fleet.reached(nodes, numbers, np.zeros(2), sizes).arrives_at_s.tolist()
        [1.1, 1.1]
        """
        if num_nodes < 1:
            raise ValueError(f"num_nodes must be at least 1, not {num_nodes}")
        drawn = drawn_classes(_shares(classes, shares), num_nodes, seed)
        table = drawn_table(classes, drawn, seed)
        if correlation is not None:
            order = correlation.devices(table[:, 0], seed)
            drawn, table = drawn[order], table[order]
        if network is not None:
            _connect(table, network)
        for shared in (drawn, table):
            shared.flags.writeable = False
        if trace is not None and trace.nodes.max(initial=0) >= num_nodes:
            raise ValueError(
                f"the trace is about node {trace.nodes.max()}, but nodes are 0 to {num_nodes - 1}"
            )
        return cls(dict(classes), drawn, table, seed, trace)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.classes)

    @cached_property
    def digest(self) -> str:
        """A short text that differs between fleets that behave differently."""
        said = hashlib.blake2b(repr((dict(self.devices), self.seed)).encode(), digest_size=16)
        said.update(self.classes.tobytes())
        said.update(self.table.tobytes())
        said.update(b"" if self.trace is None else self.trace.digest.encode())
        return said.hexdigest()

    def bodies(self, nodes: Nodes) -> Bodies:
        """Return cool bodies with their first charge; for the values see `working.BODY`."""
        bodies = np.zeros((len(nodes), len(BODY)))
        bodies[:, 1] = self.table[nodes, _FIRST_CHARGE]
        return bodies

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        """Return which of the nodes are there."""
        is_online = np.empty(len(nodes), np.bool_)
        for first in range(0, len(nodes), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            members = self._members(nodes[some])
            spell = members.spells(np.full(len(members.nodes), float(at_s)))
            is_online[some] = spell.begins_at_s <= at_s
        return is_online

    def least_seconds(self, nodes: Nodes) -> Seconds:
        """Return the latencies there and back."""
        latency_s: Seconds = self.table[nodes, _LATENCY]
        return 2.0 * latency_s

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return arrivals over the downlinks, at devices that are online by then."""
        members = self._members(nodes)
        mbps = members.bandwidth(members.columns.downlink_mbps, sent_at_s)
        arrives_at_s = sent_at_s + members.columns.latency_s + _seconds(sizes, mbps)
        arrives_at_s = members.online_from(arrives_at_s)
        return Journey.once(_unless_lost(members, Chance.LOST_THERE, numbers, arrives_at_s))

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        """Return what becomes of work; see `daafl.simulation.fleet.working`."""
        return worked(self._members(nodes), numbers, begins_at_s, steps, bodies)

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return arrivals over the uplinks, of replies that leave once the device is online."""
        members = self._members(nodes)
        leaves_at_s = members.online_from(sent_at_s)
        mbps = members.bandwidth(members.columns.uplink_mbps, leaves_at_s)
        arrives_at_s = leaves_at_s + members.columns.latency_s + _seconds(sizes, mbps)
        return Journey.once(_unless_lost(members, Chance.LOST_BACK, numbers, arrives_at_s))

    def readings(
        self, nodes: Nodes, at_s: Seconds, bodies: Bodies
    ) -> Sequence[Mapping[str, float]]:
        """Return what the sensors of nodes show, as far as their classes have them."""
        shown: list[Mapping[str, float]] = [{}] * len(nodes)
        classes = self.classes[nodes]
        for index, device in enumerate(self.devices.values()):
            chosen = np.flatnonzero(classes == index)
            if len(chosen):
                members = self._members(nodes[chosen])
                found = readings(device, members, at_s[chosen], bodies[chosen])
                for position, row in zip(chosen.tolist(), found, strict=True):
                    shown[position] = row
        return shown

    def _members(self, nodes: Nodes) -> Members:
        columns = Columns(*self.table[nodes].T)
        traits = Traits(*self._traits[:, self.classes[nodes]])
        return Members(nodes, columns, traits, self.seed, self.trace)

    @cached_property
    def _traits(self) -> NDArray[np.float64]:
        """Values of `Traits` per class; shape [values, classes]."""
        return np.array([traits_of(device) for device in self.devices.values()]).T.copy()


def _shares(
    classes: Mapping[str, DeviceClass], shares: Mapping[str, float] | None
) -> tuple[float, ...]:
    """Return the share of every class, in their order."""
    if not 1 <= len(classes) <= _MOST_CLASSES:
        raise ValueError(f"classes must be 1 to {_MOST_CLASSES}, not {len(classes)}")
    for name, device in classes.items():
        if not isinstance(device, DeviceClass):
            raise ValueError(f"classes.{name} is a {type(device).__name__}, not a DeviceClass")
    if shares is None:
        return (1.0,) * len(classes)
    if set(shares) != set(classes):
        raise ValueError(
            f"shares must be of the classes {', '.join(classes)}, not of {', '.join(shares)}"
        )
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < np.inf:
            raise ValueError(f"shares.{name} must be a finite number >= 0, not {share!r}")
    if sum(shares.values()) <= 0:
        raise ValueError("at least one of the shares must be more than 0")
    return tuple(float(shares[name]) for name in classes)


def _connect(table: Table, network: Network) -> None:
    """Lengthen the paths of nodes by the network, narrow them, and lose messages on them."""
    columns = Columns(*table.T)  # views
    points = network.point_of(np.arange(len(table)))
    is_cut_off = np.isinf(network.latency_s)
    columns.latency_s[:] += np.where(is_cut_off, 0.0, network.latency_s)[points]
    for bandwidth in (columns.uplink_mbps, columns.downlink_mbps):
        np.minimum(bandwidth, network.bandwidth_mbps[points], out=bandwidth)
    kept = np.where(is_cut_off, 0.0, 1.0 - network.loss_fraction)[points]
    columns.loss_fraction[:] = 1.0 - (1.0 - columns.loss_fraction) * kept


def _seconds(sizes: Nodes, mbps: NDArray[np.float64]) -> Seconds:
    return sizes / (mbps * _BYTES_PER_MEGABIT)


def _unless_lost(
    members: Members, chance: Chance, numbers: Numbers, arrives_at_s: Seconds
) -> Seconds:
    drawn = uniforms(mixed(key_of(members.seed, chance), numbers))
    return np.where(drawn < members.columns.loss_fraction, np.inf, arrives_at_s)
