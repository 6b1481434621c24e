"""What has travelled over the simulated network, and what the nodes' work has cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """Bytes of payload of messages whose fate is known, and the cost of work.

    Every byte sent is in exactly one of the other columns of its direction, so ``down_sent ==
    down_reached + down_lost`` and ``up_sent == up_arrived + up_lost``.

    Attributes
    ----------
    down_sent, down_reached, down_lost
        Bytes from the coordinator: all, those that reached their node, those that did not.
    up_sent, up_arrived, up_lost
        Bytes of replies: all, those that arrived, those that did not.
    up_again
        Bytes of replies that arrived a second time; they are dropped on arrival.
    num_lost
        Messages without a reply: lost on either way, or with a node that failed.
    num_again
        Replies that arrived a second time.
    cost
        What the work cost, in the currency of the fleet.

    Examples
    --------
    >>> (Traffic(down_sent=8, down_reached=8) + Traffic(down_sent=4, down_lost=4)).down_sent
    12
    """

    down_sent: int = 0
    down_reached: int = 0
    down_lost: int = 0
    up_sent: int = 0
    up_arrived: int = 0
    up_lost: int = 0
    up_again: int = 0
    num_lost: int = 0
    num_again: int = 0
    cost: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        """Return the sums of all columns."""
        columns = zip(vars(self).values(), vars(other).values(), strict=True)
        return Traffic(*(own + more for own, more in columns))
