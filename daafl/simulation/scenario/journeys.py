"""What becomes of messages on their way: narrow links, delays, duplicates, losses and cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daafl.simulation.scenario.events import (
    Bandwidth,
    Duplication,
    Event,
    LateReplies,
    MessageLoss,
    Reordering,
)
from daafl.simulation.scenario.scheduled import Mask, Scheduled, striking
from daafl.simulation.world import Journey, Nodes, Numbers, Seconds

TO_NODES: Final = "to_nodes"
FROM_NODES: Final = "from_nodes"

_STREAMS: Final = {TO_NODES: 1, FROM_NODES: 2}
_DELAYED: Final = 16  # added to a stream: how long, where the stream itself says whether
_BITS_PER_BYTE: Final = 8
_BITS_PER_MEGABIT: Final = 1e6
_MOST_BYTES: Final = 2.0**62


@dataclass(frozen=True, eq=False)
class Travel:
    """Messages about to be sent, and how the world would carry them.

    Parameters
    ----------
    by
        The inner world's ``reached`` or ``returned``.
    direction
        ``to_nodes`` or ``from_nodes``.
    nodes, numbers, sent_at_s, sizes
        As `World.reached` takes them.
    """

    by: Callable[[Nodes, Numbers, Seconds, Nodes], Journey]
    direction: str
    nodes: Nodes
    numbers: Numbers
    sent_at_s: Seconds
    sizes: Nodes


class Journeys:
    """The faults of the network.

    The time of sending decides which events concern a message, except that a cut also takes what
    would arrive while it lasts.

    Parameters
    ----------
    faults
        What goes wrong; other kinds are passed over.
    cuts
        Times at which nothing gets through.
    """

    def __init__(
        self, faults: Sequence[Scheduled[Event]], cuts: Sequence[Scheduled[Event]]
    ) -> None:
        self._faults = {
            direction: [fault for fault in faults if _is_about(fault.event, direction)]
            for direction in (TO_NODES, FROM_NODES)
        }
        self._cuts = cuts

    def made(self, travel: Travel) -> Journey:
        """Return when messages arrive, if they do, and when a second time."""
        nodes, numbers, sent_s = travel.nodes, travel.numbers, travel.sent_at_s
        striking_now = list(striking(self._faults[travel.direction], nodes, sent_s))
        sizes, least_s = travel.sizes, None
        for fault, mask in striking_now:
            if isinstance(fault.event, Bandwidth):
                sizes, least_s = _through(fault.event, mask, sizes, least_s, travel)
        journey = travel.by(nodes, numbers, sent_s, sizes)
        if not striking_now and not self._cuts:
            return journey
        first_s, again_s = journey.arrives_at_s, journey.again_at_s
        if least_s is not None:
            held_s = np.maximum(least_s - first_s, 0.0)  # 0 for what is lost: it arrives never
            first_s, again_s = first_s + held_s, again_s + held_s
        stream = _STREAMS[travel.direction]
        for fault, mask in striking_now:
            first_s, again_s = _struck(fault, mask, numbers, stream, first_s, again_s)
        for fault, mask in striking_now:
            if isinstance(fault.event, MessageLoss):
                is_lost = mask & (fault.chances(stream, numbers) < fault.event.probability)
                first_s, again_s = _lost(is_lost, first_s), _lost(is_lost, again_s)
        return self._cut(nodes, sent_s, first_s, again_s)

    def _cut(self, nodes: Nodes, sent_s: Seconds, first_s: Seconds, again_s: Seconds) -> Journey:
        for _, is_cut in striking(self._cuts, nodes, sent_s):
            first_s, again_s = _lost(is_cut, first_s), _lost(is_cut, again_s)
        for _, is_cut in striking(self._cuts, nodes, first_s):
            first_s = _lost(is_cut, first_s)
        for _, is_cut in striking(self._cuts, nodes, again_s):
            again_s = _lost(is_cut, again_s)
        return in_order(first_s, again_s)


def in_order(first_s: Seconds, second_s: Seconds) -> Journey:
    """Return the journeys of messages whose first copy may be lost while the second is not."""
    is_only_copy = ~np.isfinite(first_s)
    return Journey(
        np.where(is_only_copy, second_s, first_s), np.where(is_only_copy, np.inf, second_s)
    )


def _is_about(event: Event, direction: str) -> bool:
    if isinstance(event, MessageLoss | Duplication | Reordering | Bandwidth):
        return event.direction in (direction, "both")
    return isinstance(event, LateReplies) and direction == FROM_NODES


def _through(
    event: Bandwidth, mask: Mask, sizes: Nodes, least_s: Seconds | None, travel: Travel
) -> tuple[Nodes, Seconds | None]:
    """Return the bytes as the device feels them, and when they can be through at the earliest."""
    if event.factor is not None:
        felt = np.minimum(np.ceil(sizes / event.factor), _MOST_BYTES).astype(np.int64)
        # At least a byte, so that no world takes the message for an empty one.
        sizes = np.where(mask, np.maximum(felt, np.minimum(sizes, 1)), sizes)
    if event.at_most_mbps is not None:
        bits_per_s = event.at_most_mbps * _BITS_PER_MEGABIT
        through_s = travel.sent_at_s + travel.sizes * _BITS_PER_BYTE / bits_per_s
        through_s = np.where(mask, through_s, 0.0)
        least_s = through_s if least_s is None else np.maximum(least_s, through_s)
    return sizes, least_s


def _struck(
    fault: Scheduled[Event],
    mask: Mask,
    numbers: Numbers,
    stream: int,
    first_s: Seconds,
    again_s: Seconds,
) -> tuple[Seconds, Seconds]:
    """Return both arrivals after a delay or a duplication."""
    event = fault.event
    if isinstance(event, LateReplies):
        is_late = mask & (fault.chances(stream, numbers) < event.probability)
        delay_s = np.where(is_late, event.delay_s, 0.0)
        return first_s + delay_s, again_s + delay_s
    if isinstance(event, Reordering):
        is_late = mask & (fault.chances(stream, numbers) < event.probability)
        share = fault.chances(stream + _DELAYED, numbers)
        delay_s = np.where(is_late, event.delay_s * share, 0.0)
        return first_s + delay_s, again_s + delay_s
    if isinstance(event, Duplication):
        is_doubled = mask & (fault.chances(stream, numbers) < event.probability)
        is_doubled &= ~np.isfinite(again_s)
        later_s = first_s + event.delay_s * fault.chances(stream + _DELAYED, numbers)
        return first_s, np.where(is_doubled, later_s, again_s)
    return first_s, again_s


def _lost(is_lost: Mask, arrives_s: Seconds) -> Seconds:
    return np.where(is_lost, np.inf, arrives_s)
