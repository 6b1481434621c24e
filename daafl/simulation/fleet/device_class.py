"""A class of devices: what its members have in common, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass

from daafl.simulation.fleet.attention import Attention
from daafl.simulation.fleet.battery import Battery
from daafl.simulation.fleet.checking import check_at_least, check_fraction, check_positive
from daafl.simulation.fleet.presence import Presence
from daafl.simulation.fleet.thermal import Thermal


@dataclass(frozen=True)
class Compute:
    """How fast devices work, log-normal around a median.

    Parameters
    ----------
    seconds_per_step
        Median seconds of one local optimisation step.
    sigma
        Standard deviation of its logarithm: 1.0 makes one device in six 2.7 times slower than the
        median or more; 0 makes all equal.
    memory_mib
        Memory of every device.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    seconds_per_step: float
    sigma: float = 0.0
    memory_mib: float = 4096.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_at_least(0.0, seconds_per_step=self.seconds_per_step, sigma=self.sigma)
        check_positive(memory_mib=self.memory_mib)


@dataclass(frozen=True)
class Link:
    """How devices are connected; a message takes the latency and its bits over the bandwidth.

    Parameters
    ----------
    uplink_mbps, downlink_mbps
        Median bandwidths in Mbit/s; a device with a good uplink has a good downlink.
    latency_s
        Seconds of one way, the same for all devices.
    sigma
        Standard deviation of the logarithm of the bandwidths.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    uplink_mbps: float
    downlink_mbps: float
    latency_s: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_positive(uplink_mbps=self.uplink_mbps, downlink_mbps=self.downlink_mbps)
        check_at_least(0.0, latency_s=self.latency_s, sigma=self.sigma)


@dataclass(frozen=True)
class Mishaps:
    """What goes wrong by chance, independently for every message.

    Parameters
    ----------
    loss_fraction
        Messages that get lost, each way.
    crash_fraction
        Pieces of work during which the device crashes, at a uniformly drawn point of it.
    restart_s
        Seconds after a crash until the device can work again.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    loss_fraction: float = 0.0
    crash_fraction: float = 0.0
    restart_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fraction(loss_fraction=self.loss_fraction, crash_fraction=self.crash_fraction)
        check_at_least(0.0, restart_s=self.restart_s)


@dataclass(frozen=True)
class DeviceClass:
    """A class of devices.

    Parameters
    ----------
    compute, link
        How fast its devices are and how they are connected.
    presence
        When they are online; ``None`` for always.
    battery, thermal, attention
        ``None`` for devices without a battery, that stay cool, or that are no browser tab.
    mishaps
        What goes wrong by chance.
    clock_spread_h
        Clocks of devices are up to so many hours ahead or behind: time zones and habits.
    price_per_hour
        What an hour of work costs.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    compute: Compute
    link: Link
    presence: Presence | None = None
    battery: Battery | None = None
    thermal: Thermal | None = None
    attention: Attention | None = None
    mishaps: Mishaps = Mishaps()
    clock_spread_h: float = 0.0
    price_per_hour: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_at_least(0.0, clock_spread_h=self.clock_spread_h, price_per_hour=self.price_per_hour)
