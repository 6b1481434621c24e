"""What lies between devices and the coordinator, as numbers per point of attachment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daafl.simulation.world import Nodes


@dataclass(frozen=True, eq=False)
class Network:
    """Paths from points of attachment to the coordinator; see `daafl.simulation.fleet.topology`.

    Node i is attached to point ``i mod num_points``. Messages do not slow each other down.

    Parameters
    ----------
    latency_s
        Seconds of one way over the path; infinite for a point that is cut off.
    bandwidth_mbps
        Bandwidth of the path's narrowest link.
    loss_fraction
        Messages that get lost on the path.

    Raises
    ------
    ValueError
        If the lists differ in length, are empty or hold a number out of range.
    """

    latency_s: NDArray[np.float64]
    bandwidth_mbps: NDArray[np.float64]
    loss_fraction: NDArray[np.float64]

    def __init__(
        self, latency_s: ArrayLike, bandwidth_mbps: ArrayLike, loss_fraction: ArrayLike
    ) -> None:
        latency, bandwidth, loss = (
            np.array(values, np.float64) for values in (latency_s, bandwidth_mbps, loss_fraction)
        )
        if not (latency.ndim == 1 and latency.shape == bandwidth.shape == loss.shape):
            raise ValueError("latency_s, bandwidth_mbps and loss_fraction must be equally long")
        if not (len(latency) and (latency >= 0).all()):
            raise ValueError("latency_s must be a list of seconds >= 0, one per point")
        if not (bandwidth > 0).all():
            raise ValueError("bandwidth_mbps must be numbers > 0")
        if not ((loss >= 0) & (loss <= 1)).all():
            raise ValueError("loss_fraction must be within [0, 1]")
        for name, values in (
            ("latency_s", latency),
            ("bandwidth_mbps", bandwidth),
            ("loss_fraction", loss),
        ):
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @property
    def num_points(self) -> int:
        """Number of points of attachment."""
        return len(self.latency_s)

    def point_of(self, nodes: Nodes) -> NDArray[np.int64]:
        """Return the point that nodes are attached to."""
        points: NDArray[np.int64] = nodes % self.num_points
        return points
