"""How fast each simulated node works and how far away it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daafl.sensing import LATENCY_S
from daafl.simulation.world import Bodies, Journey, Nodes, Numbers, Seconds, Shift


@dataclass(frozen=True, eq=False)
class Devices:
    """A `World` in which nodes differ in speed and distance, and nothing goes wrong.

    A message reaches its node after `latency_s`, keeps it busy for the local steps it reports
    times `seconds_per_step`, and its reply travels for `latency_s` again. Sizes of messages do
    not matter, nodes are always online, and work leaves nothing in a body and costs nothing.

    Parameters
    ----------
    seconds_per_step
        Virtual seconds of one local optimisation step; shape [num_nodes].
    latency_s
        Virtual seconds of one way between coordinator and node; shape [num_nodes].

    Raises
    ------
    ValueError
        If the arrays differ in shape, are empty, or hold anything but finite numbers >= 0.

    Examples
    --------
    >>> devices = Devices([0.1, 0.4], [0.0, 1.0])
    >>> devices.least_seconds(np.array([0, 1])).tolist()
    [0.0, 2.0]
    """

    seconds_per_step: NDArray[np.float64]
    latency_s: NDArray[np.float64]

    def __init__(self, seconds_per_step: ArrayLike, latency_s: ArrayLike) -> None:
        speeds = _durations("seconds_per_step", seconds_per_step)
        latencies = _durations("latency_s", latency_s)
        if speeds.shape != latencies.shape:
            raise ValueError(
                f"seconds_per_step is for {len(speeds)} nodes and latency_s for {len(latencies)}; "
                "both need one value per node"
            )
        object.__setattr__(self, "seconds_per_step", speeds)
        object.__setattr__(self, "latency_s", latencies)

    @classmethod
    def uniform(
        cls, num_nodes: int, *, seconds_per_step: float = 0.05, latency_s: float = 0.1
    ) -> Devices:
        """Return `num_nodes` equal devices."""
        return cls(np.full(num_nodes, seconds_per_step), np.full(num_nodes, latency_s))

    @classmethod
    def log_normal(
        cls,
        num_nodes: int,
        *,
        sigma: float,
        seed: int,
        seconds_per_step: float = 0.05,
        latency_s: float = 0.1,
    ) -> Devices:
        """Return devices whose seconds per step are log-normal around a median.

        Parameters
        ----------
        num_nodes
            Number of devices.
        sigma
            Standard deviation of the logarithm; 1.0 makes one device in six 2.7 times slower
            than the median or more.
        seed
            Same seed, same devices.
        seconds_per_step
            The median.
        latency_s
            One-way latency, the same for all.
        """
        if not (np.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"sigma must be a finite number >= 0, not {sigma!r}")
        draws = np.random.default_rng(seed).standard_normal(num_nodes)
        return cls(seconds_per_step * np.exp(sigma * draws), np.full(num_nodes, latency_s))

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self.latency_s)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.latency_s)

    @cached_property
    def digest(self) -> str:
        """A short text that differs between devices that behave differently."""
        said = hashlib.blake2b(b"devices", digest_size=16)
        said.update(self.seconds_per_step.tobytes())
        said.update(self.latency_s.tobytes())
        return said.hexdigest()

    def bodies(self, nodes: Nodes) -> Bodies:
        """Return bodies without values; shape [k, 0]."""
        return np.empty((len(nodes), 0))

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        """Return true for every node."""
        return np.ones(len(nodes), np.bool_)

    def least_seconds(self, nodes: Nodes) -> Seconds:
        """Return the latencies there and back."""
        return 2.0 * self.latency_s[nodes]

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return arrivals one latency later."""
        return Journey.once(sent_at_s + self.latency_s[nodes])

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        """Return work that takes the steps times the seconds per step."""
        ends_at_s = begins_at_s + self.seconds_per_step[nodes] * steps
        return Shift(ends_at_s, ends_at_s, bodies, np.zeros(len(nodes)))

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return arrivals one latency later."""
        return Journey.once(sent_at_s + self.latency_s[nodes])

    def readings(
        self, nodes: Nodes, at_s: Seconds, bodies: Bodies
    ) -> Sequence[Mapping[str, float]]:
        """Return the latencies: these devices have no other sensor."""
        return [{LATENCY_S: latency_s} for latency_s in self.latency_s[nodes].tolist()]


def _durations(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(f"{name} must be a list of finite seconds >= 0, one per node")
    array.flags.writeable = False
    return array
