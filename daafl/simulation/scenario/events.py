"""What can happen in a scenario: one dataclass per kind, its fields are the keys of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal

from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.node_set import ALL, Ranges, node_spec
from daafl.simulation.scenario.rules import (
    MAX_SECONDS,
    by,
    follow_rules,
    number,
    one_of,
    optional,
)

Direction = Literal["to_nodes", "from_nodes", "both"]
"""Messages to the nodes, replies from them, or both."""

_TIME: Final = number(least=0.0, most=MAX_SECONDS)
_DURATION: Final = number(least=1e-3, most=MAX_SECONDS)
_DELAY: Final = number(least=0.0, most=MAX_SECONDS, is_open=True)
_SHARE: Final = number(least=0.0, most=1.0, is_open=True)
_FACTOR: Final = number(least=0.0, most=1e6, is_open=True)
_MBPS: Final = number(least=0.0, most=1e9, is_open=True)
_DIRECTION: Final = one_of("to_nodes", "from_nodes", "both")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens from one virtual time to another.

    Parameters
    ----------
    at_s
        When it begins, in virtual seconds since the run began.
    until_s
        When it ends, that moment excluded; ``None`` for never.

    Raises
    ------
    Mistake
        If a value breaks its rule.
    """

    kind: ClassVar[str]

    at_s: float = field(default=0.0, metadata=by(_TIME))
    until_s: float | None = field(default=None, metadata=by(optional(_TIME)))

    def __post_init__(self) -> None:
        """Check and tidy the values."""
        follow_rules(self)
        if self.until_s is not None and self.until_s <= self.at_s:
            raise Mistake(
                f"until_s is {self.until_s:g}, but must come after at_s={self.at_s:g}",
                key="until_s",
            )

    @property
    def end_s(self) -> float:
        """When it ends; infinite for never."""
        return math.inf if self.until_s is None else self.until_s


@dataclass(frozen=True, kw_only=True)
class NodeEvent(Event):
    """Something that happens to some of the nodes.

    Parameters
    ----------
    nodes
        ``"all"``, a node, a range like ``"0-9"``, or a list of nodes and ranges.
    fraction
        Share of those nodes that it happens to, at least one, drawn by a hash of the scenario's
        seed; ``None`` for all of them.
    """

    nodes: str | Ranges = field(default=ALL, metadata=by(node_spec))
    fraction: float | None = field(default=None, metadata=by(optional(_SHARE)))


@dataclass(frozen=True, kw_only=True)
class Stragglers(NodeEvent):
    """Work that begins meanwhile takes ``factor`` times as long, and as much of the battery."""

    kind: ClassVar[str] = "stragglers"

    factor: float = field(metadata=by(_FACTOR))


@dataclass(frozen=True, kw_only=True)
class Churn(NodeEvent):
    """Nodes come and go, each in a rhythm of its own.

    In every ``present_s + away_s`` seconds a node is away once, for ``away_s`` seconds, at a
    moment drawn anew. It cannot be asked then, what reaches it is lost, and so is its work.
    """

    kind: ClassVar[str] = "churn"

    present_s: float = field(metadata=by(_DURATION))
    away_s: float = field(metadata=by(_DURATION))


@dataclass(frozen=True, kw_only=True)
class Crash(NodeEvent):
    """Nodes fail at ``at_s``, with the work they are at, and start again at ``until_s``."""

    kind: ClassVar[str] = "crash"


@dataclass(frozen=True, kw_only=True)
class LinkCut(NodeEvent):
    """Nothing passes between nodes and coordinator; what is on its way is lost, work goes on."""

    kind: ClassVar[str] = "link_cut"


def _groups(value: Any) -> tuple[Ranges, ...]:
    rule = "must be a list of one or more groups, each like [0-9, 12], that have no node in common"
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(rule)
    groups = tuple(node_spec(group) for group in value)
    if any(isinstance(group, str) for group in groups):
        raise ValueError(f"{rule}; all is no group")
    found = tuple(group for group in groups if not isinstance(group, str))
    ordered = sorted(pair for group in found for pair in group)
    for before, after in pairwise(ordered):
        if after[0] <= before[1]:
            raise ValueError(f"{rule}; node {after[0]} is in two")
    return found


@dataclass(frozen=True, kw_only=True)
class Partition(Event):
    """The network falls apart: ``groups`` of nodes are cut from the coordinator.

    Nodes that are in no group stay with the coordinator.
    """

    kind: ClassVar[str] = "partition"

    groups: tuple[Ranges, ...] = field(metadata=by(_groups))


@dataclass(frozen=True, kw_only=True)
class MessageLoss(NodeEvent):
    """Messages are lost with a probability, each by itself."""

    kind: ClassVar[str] = "message_loss"

    probability: float = field(metadata=by(_SHARE))
    direction: Direction = field(default="both", metadata=by(_DIRECTION))


@dataclass(frozen=True, kw_only=True)
class Duplication(NodeEvent):
    """Messages arrive a second time with a probability, up to ``delay_s`` after the first."""

    kind: ClassVar[str] = "duplication"

    probability: float = field(metadata=by(_SHARE))
    delay_s: float = field(default=1.0, metadata=by(_TIME))
    direction: Direction = field(default="from_nodes", metadata=by(_DIRECTION))


@dataclass(frozen=True, kw_only=True)
class Reordering(NodeEvent):
    """Messages overtake each other: each is up to ``delay_s`` longer under way."""

    kind: ClassVar[str] = "reordering"

    delay_s: float = field(metadata=by(_DELAY))
    probability: float = field(default=1.0, metadata=by(_SHARE))
    direction: Direction = field(default="both", metadata=by(_DIRECTION))


@dataclass(frozen=True, kw_only=True)
class LateReplies(NodeEvent):
    """Replies are sent ``delay_s`` later than they could be, with a probability."""

    kind: ClassVar[str] = "late_replies"

    delay_s: float = field(metadata=by(_DELAY))
    probability: float = field(default=1.0, metadata=by(_SHARE))


@dataclass(frozen=True, kw_only=True)
class Bandwidth(NodeEvent):
    """What begins its way meanwhile finds another bandwidth.

    Parameters
    ----------
    factor
        Factor on the device's own bandwidth; without effect on devices that have no limit.
    at_most_mbps
        Megabits per second that the link carries at most, whatever the device.
    direction
        ``to_nodes`` is the downlink.
    """

    kind: ClassVar[str] = "bandwidth"

    factor: float | None = field(default=None, metadata=by(optional(_FACTOR)))
    at_most_mbps: float | None = field(default=None, metadata=by(optional(_MBPS)))
    direction: Direction = field(default="both", metadata=by(_DIRECTION))

    def __post_init__(self) -> None:
        """Check and tidy the values."""
        super().__post_init__()
        if self.factor is None and self.at_most_mbps is None:
            raise Mistake("factor has no value; give it, or at_most_mbps", key="kind")


FaultEvent = (
    Stragglers
    | Churn
    | Crash
    | LinkCut
    | Partition
    | MessageLoss
    | Duplication
    | Reordering
    | LateReplies
    | Bandwidth
)
"""Events that a `Faulty` world plays."""

FAULT_KINDS: Final[Mapping[str, type[Event]]] = {
    kind.kind: kind
    for kind in (
        Stragglers,
        Churn,
        Crash,
        LinkCut,
        Partition,
        MessageLoss,
        Duplication,
        Reordering,
        LateReplies,
        Bandwidth,
    )
}
