"""Devices with one peculiarity each, and one piece of work for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daafl.simulation.fleet import Compute, DeviceClass, Fleet, Link
from daafl.simulation.world import Shift


@dataclass(frozen=True)
class Alone:
    """A fleet of one device that takes 1 s per step, 0.5 s of latency and has 8 Mbit/s."""

    fleet: Fleet

    def works(
        self,
        begins_at_s: float,
        steps: float,
        body: NDArray[np.float64] | None = None,
        number: int = 1,
    ) -> Shift:
        node, bodies = np.array([0]), self.body if body is None else body
        begins = np.array([begins_at_s])
        return self.fleet.worked(node, np.array([number]), begins, np.array([steps]), bodies)

    @property
    def body(self) -> NDArray[np.float64]:
        return self.fleet.bodies(np.array([0]))

    def reached(self, sent_at_s: float, size: int = 0) -> float:
        node, sent = np.array([0]), np.array([sent_at_s])
        return float(self.fleet.reached(node, node + 1, sent, np.array([size])).arrives_at_s[0])

    def returned(self, sent_at_s: float, size: int = 0) -> float:
        node, sent = np.array([0]), np.array([sent_at_s])
        return float(self.fleet.returned(node, node + 1, sent, np.array([size])).arrives_at_s[0])

    def is_online(self, at_s: float) -> bool:
        return bool(self.fleet.online(np.array([0]), at_s)[0])


@pytest.fixture
def alone() -> Callable[..., Alone]:
    def make(**parts: Any) -> Alone:
        compute, link = Compute(seconds_per_step=1.0), Link(8.0, 16.0, latency_s=0.5)
        options = {name: parts.pop(name) for name in ("trace", "network") if name in parts}
        parts = {"compute": compute, "link": link, **parts}
        return Alone(Fleet.of({"device": DeviceClass(**parts)}, 1, seed=0, **options))

    return make
