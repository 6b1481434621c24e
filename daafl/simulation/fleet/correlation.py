"""Slow devices with rare data: which node gets which device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.chances import Chance, key_of, normals


@dataclass(frozen=True)
class Correlation:
    """Nodes with high scores get slow devices, so that slow devices hold what others lack.

    Parameters
    ----------
    strength
        Correlation between score and slowness, both as normal scores of their ranks: 1 gives the
        slowest device to the node with the highest score, 0 is chance.
    scores
        How rare the data of each node are, such as its partition index, which ``None`` stands for,
        or the negative number of its examples; one number per node.

    Raises
    ------
    ValueError
        If the strength is not within [0, 1] or a score is not finite.
    """

    strength: float
    scores: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength must be within [0, 1], not {self.strength!r}")
        if self.scores is not None and not np.isfinite(np.asarray(self.scores)).all():
            raise ValueError("scores must be finite numbers, one per node")

    def devices(self, slowness: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
        """Return which device each node gets, as a permutation.

        Parameters
        ----------
        slowness
            Seconds per step of the devices; shape [num_nodes].
        seed
            Seed of the fleet.

        Raises
        ------
        ValueError
            If there are not as many scores as devices.
        """
        nodes = np.arange(len(slowness))
        scores = nodes if self.scores is None else np.asarray(self.scores, np.float64)
        if scores.shape != nodes.shape:
            raise ValueError(f"scores are for {len(scores)} nodes, devices for {len(nodes)}")
        noise = normals(key_of(seed, Chance.ORDER), nodes)
        # Spread as normal numbers are: as many sorted draws, dealt out by rank.
        as_normal = np.empty(len(nodes))
        as_normal[scores.argsort(kind="stable")] = np.sort(
            normals(key_of(seed, Chance.ORDER), nodes + len(nodes))
        )
        wished = self.strength * as_normal + np.sqrt(1.0 - self.strength**2) * noise
        devices = np.empty(len(nodes), np.int64)
        devices[wished.argsort(kind="stable")] = slowness.argsort(kind="stable")
        return devices
