"""Events with the nodes they concern in one federation, and the chance they bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.scenario.events import Event
from daafl.simulation.scenario.node_set import NodeSet
from daafl.simulation.world import Nodes, Numbers, Seconds

E_co = TypeVar("E_co", bound=Event, covariant=True)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scheduled(Generic[E_co]):
    """An event of a scenario that is bound to a federation.

    Parameters
    ----------
    event
        What happens.
    members
        The nodes it concerns.
    key
        What its chance hangs on, different for every event.
    """

    event: E_co
    members: NodeSet
    key: int

    def strikes(self, nodes: Nodes, times_s: Seconds) -> Mask:
        """Return whom the event concerns at given times, one for each node; shape [k]."""
        event = self.event
        strikes: Mask = (times_s >= event.at_s) & (times_s < event.end_s)
        return strikes & self.members.contains(nodes) if strikes.any() else strikes

    def chances(self, stream: int, numbers: Numbers) -> NDArray[np.float64]:
        """Return numbers uniform in [0, 1), one for each message of a stream; shape [k]."""
        return uniforms(mixed(self.key, stream, numbers))


def striking(
    events: Sequence[Scheduled[E_co]], nodes: Nodes, times_s: Seconds
) -> Iterator[tuple[Scheduled[E_co], Mask]]:
    """Yield the events that concern any of the nodes at their times, and which of them."""
    if not events or len(nodes) == 0:
        return
    first_s, last_s = times_s.min(), times_s.max()
    for scheduled in events:
        if scheduled.event.at_s <= last_s and first_s < scheduled.event.end_s:
            mask = scheduled.strikes(nodes, times_s)
            if mask.any():
                yield scheduled, mask
