"""How fast each simulated node works and how far away it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Devices:
    """Speed and distance of every node of a simulated federation.

    A message reaches its node after `latency_s`, keeps it busy for the local steps it reports
    times `seconds_per_step`, and its reply travels for `latency_s` again.

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
    >>> devices.work_seconds(1, steps=10)
    4.0
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

    def work_seconds(self, node: int, *, steps: float) -> float:
        """Return how long `steps` local steps keep the node of that index busy."""
        return float(self.seconds_per_step[node]) * steps

    def one_way_seconds(self, node: int) -> float:
        """Return how long a message to or from the node of that index travels."""
        return float(self.latency_s[node])


def _durations(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(f"{name} must be a list of finite seconds >= 0, one per node")
    array.flags.writeable = False
    return array
