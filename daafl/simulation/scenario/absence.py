"""When nodes are not there, as a pure function of node and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.scenario.events import Churn, Event
from daafl.simulation.scenario.node_set import NodeSet
from daafl.simulation.world import Nodes, Seconds

_PHASE: Final = 0xC4A1  # where in its rhythm a node is when the event begins
_MOMENT: Final = 0xC4A2  # when in a period it goes away


@dataclass(frozen=True, eq=False)
class Absence:
    """The times at which nodes are away because of one event.

    Parameters
    ----------
    event
        A `Churn`, or anything that takes nodes away from its beginning to its end.
    members
        The nodes it concerns.
    key
        What its chance hangs on.
    """

    event: Event
    members: NodeSet
    key: int

    def next(self, nodes: Nodes, times_s: Seconds) -> tuple[Seconds, Seconds]:
        """Return begin and end of the first absence of each node that is not over at a time.

        Both are infinite where there is none; the end alone where the node never comes back.
        """
        if isinstance(self.event, Churn):
            begins_s, ends_s = self._next_of_churn(self.event, nodes, times_s)
        else:
            begins_s = np.full(len(nodes), self.event.at_s)
            ends_s = np.full(len(nodes), self.event.end_s)
        is_none = (times_s >= self.event.end_s) | (begins_s >= self.event.end_s)
        is_none |= ~self.members.contains(nodes)
        return np.where(is_none, np.inf, begins_s), np.where(is_none, np.inf, ends_s)

    def covers(self, nodes: Nodes, times_s: Seconds) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which of the nodes are away at given times."""
        begins_s, _ = self.next(nodes, times_s)
        away = begins_s <= times_s
        return away & np.isfinite(begins_s)

    def _next_of_churn(
        self, churn: Churn, nodes: Nodes, times_s: Seconds
    ) -> tuple[Seconds, Seconds]:
        """Return the absence in the period of each time, or else the one in the next period."""
        period_s = churn.present_s + churn.away_s
        origin_s = churn.at_s - period_s * uniforms(mixed(self.key, _PHASE, nodes))
        # Infinite times, of messages that are lost, have no period; `next` passes over them.
        since_s = np.maximum(np.where(np.isfinite(times_s), times_s, 0.0), churn.at_s)
        period = np.floor((since_s - origin_s) / period_s).astype(np.int64)
        begins_s = self._absence_in(period, churn, nodes, origin_s)
        is_over = begins_s + churn.away_s <= since_s
        following_s = self._absence_in(period + 1, churn, nodes, origin_s)
        begins_s = np.where(is_over, following_s, begins_s)
        ends_s = np.minimum(begins_s + churn.away_s, churn.end_s)
        return np.maximum(begins_s, churn.at_s), ends_s

    def _absence_in(self, period: Nodes, churn: Churn, nodes: Nodes, origin_s: Seconds) -> Seconds:
        moment = uniforms(mixed(self.key, _MOMENT, nodes, period))
        return origin_s + period * (churn.present_s + churn.away_s) + moment * churn.present_s
