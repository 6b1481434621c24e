"""Which nodes an event concerns, for a million nodes without a list of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed
from daafl.simulation.world import Nodes

Ranges = tuple[tuple[int, int], ...]
"""First and last node of each range, ascending and apart."""

ALL: Final = "all"
_RANGE: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")
_RULE: Final = "must be all, a node like 3, a range like 0-9, or a list of nodes and ranges"
_DRAW: Final = 0x5CE0  # keeps the draw of nodes apart from what happens to them


def node_spec(value: Any) -> str | Ranges:
    """Return what the ``nodes`` of an event name: ``"all"`` or ranges.

    Raises
    ------
    ValueError
        With the rule.

    Examples
    --------
    >>> node_spec([12, "0-9", 10])
    ((0, 10), (12, 12))
    """
    if value == ALL:
        return ALL
    if _is_tidy(value):
        return value  # type: ignore[no-any-return]  # what an earlier call returned
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError(f"{_RULE}; it names none")
    return _joined([_range(item) for item in items])


@dataclass(frozen=True)
class NodeSet:
    """Nodes of a federation: some ranges, or a share that a hash draws.

    Parameters
    ----------
    num_nodes
        Nodes of the federation.
    ranges
        Ranges that are in it, within the federation.
    share
        Share of the ranges' nodes that are in it, at least one node; exact, drawn by ``key``.
    key
        What the draw hangs on.

    Examples
    --------
    >>> drawn = NodeSet(1000, ((0, 999),), share=0.2, key=7)
    >>> int(drawn.contains(np.arange(1000)).sum())
    200
    """

    num_nodes: int
    ranges: Ranges
    share: float = 1.0
    key: int = 0

    def contains(self, nodes: Nodes) -> NDArray[np.bool_]:
        """Return which of the nodes are in the set; shape [k]."""
        if self.is_all:
            return np.ones(len(nodes), np.bool_)
        firsts = np.array([first for first, _ in self.ranges])
        lasts = np.array([last for _, last in self.ranges])
        place = np.searchsorted(firsts, nodes, side="right") - 1
        inside = (place >= 0) & (nodes <= lasts[np.maximum(place, 0)])
        if self.share >= 1.0:
            return inside
        return inside & (self._drawn(nodes) <= self._last_drawn)

    def members(self) -> Nodes:
        """Return the nodes in the set, ascending."""
        everyone = np.concatenate([np.arange(first, last + 1) for first, last in self.ranges])
        return everyone if self.share >= 1.0 else everyone[self.contains(everyone)]

    @property
    def size(self) -> int:
        """Number of nodes in the set."""
        total = sum(last - first + 1 for first, last in self.ranges)
        return total if self.share >= 1.0 else max(1, int(round(self.share * total, 6)))

    @property
    def is_all(self) -> bool:
        """Whether every node of the federation is in the set."""
        return self.share >= 1.0 and self.ranges == ((0, self.num_nodes - 1),)

    def common(self, other: NodeSet) -> int | None:
        """Return the first node that is in both sets; ``None`` if there is none."""
        smaller, larger = (self, other) if self.size <= other.size else (other, self)
        members = smaller.members()
        shared = members[larger.contains(members)]
        return int(shared[0]) if len(shared) else None

    @cached_property
    def _last_drawn(self) -> np.uint64:
        everyone = np.concatenate([np.arange(first, last + 1) for first, last in self.ranges])
        drawn: NDArray[np.uint64] = np.partition(self._drawn(everyone), self.size - 1)
        return np.uint64(drawn[self.size - 1])

    def _drawn(self, nodes: Nodes) -> NDArray[np.uint64]:
        return mixed(_DRAW, self.key, nodes)


def _range(item: Any) -> tuple[int, int]:
    if isinstance(item, int) and not isinstance(item, bool) and item >= 0:
        return item, item
    match = _RANGE.fullmatch(item.replace(" ", "")) if isinstance(item, str) else None
    if match is None:
        raise ValueError(_RULE)
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f"{_RULE}; {item} ends before it begins")
    return first, last


def _joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Return the ranges in order, those that touch each other as one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _is_tidy(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(x, tuple) for x in value)
