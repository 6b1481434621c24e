"""Which events cannot both hold: all the rules, in one place.

1. Two events of the same kind on the same node at the same time, in the same direction where the
   kind has one: a node has one bandwidth, one rhythm of absence, one probability of loss, and is
   an attacker of one kind. (Attacks by round and attacks by second may always meet.)
2. A link that is cut cannot be cut again: `link_cut` and `partition` count as one kind.
3. What is lost with certainty cannot be doubled, delayed or slowed down: `message_loss` with
   probability 1 excludes `duplication`, `reordering`, `late_replies` and `bandwidth` in its
   direction.
4. A node that comes and goes cannot crash: what the crash would take away may be away already.

Everything else adds up: a straggler may sit behind a narrow link that loses messages while its
data drifts and it attacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from daafl.simulation.scenario.attackers import Attackers
from daafl.simulation.scenario.events import Event, MessageLoss
from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.scheduled import Scheduled

_SAME: Final = {"partition": "link_cut"}
_NEEDS_ARRIVAL: Final = ("duplication", "reordering", "late_replies", "bandwidth")
_CHURN_AND_CRASH: Final = {"churn", "crash"}
_REPLIES_ONLY: Final = "late_replies"


def refuse_contradictions(events: Sequence[Scheduled[Event]]) -> None:
    """Refuse events that cannot both hold.

    Raises
    ------
    Mistake
        About the later one of the first two that contradict each other.
    """
    for (first, one), (second, other) in combinations(enumerate(events), 2):
        rule = _rule(one.event, other.event)
        if rule is None or not _meet(one.event, other.event):
            continue
        node = one.members.common(other.members)
        if node is not None:
            raise Mistake(
                f"kind {other.event.kind} contradicts events[{first}] ({one.event.kind}): "
                f"both concern node {node} {_when(one.event, other.event)}; {rule}",
                key="kind",
                event=second,
            )


def _rule(one: Event, other: Event) -> str | None:
    """Return why two events cannot hold on one node at one time; ``None`` if they can."""
    kinds = {one.kind, other.kind}
    same = {_SAME.get(kind, kind) for kind in kinds}
    if len(same) == 1 and _share_a_direction(one, other):
        return f"a node can be in one {next(iter(same))} at a time"
    if kinds == _CHURN_AND_CRASH:
        return "a node that comes and goes cannot crash, it may be away"
    for loss, affected in ((one, other), (other, one)):
        is_all_lost = isinstance(loss, MessageLoss) and loss.probability == 1.0
        if is_all_lost and affected.kind in _NEEDS_ARRIVAL and _share_a_direction(one, other):
            return f"messages that are all lost know no {affected.kind}"
    return None


def _share_a_direction(one: Event, other: Event) -> bool:
    directions = {_direction(one), _direction(other)}
    return len(directions) == 1 or "both" in directions


def _direction(event: Event) -> str:
    if event.kind == _REPLIES_ONLY:
        return "from_nodes"
    return str(getattr(event, "direction", "both"))


def _meet(one: Event, other: Event) -> bool:
    """Return whether two events can hold at the same time."""
    if isinstance(one, Attackers) and isinstance(other, Attackers):
        if one.is_by_round and other.is_by_round:
            first, second = _rounds(one), _rounds(other)
            return first[0] < second[1] and second[0] < first[1]
        if one.is_by_round or other.is_by_round:
            return True
    return one.at_s < other.end_s and other.at_s < one.end_s


def _rounds(event: Attackers) -> tuple[float, float]:
    return event.at_round or 1, event.until_round or float("inf")


def _when(one: Event, other: Event) -> str:
    by_round = [x for x in (one, other) if isinstance(x, Attackers) and x.is_by_round]
    if len(by_round) == 2:
        return f"from round {max(_rounds(x)[0] for x in by_round):g} on"
    if by_round:
        return "at rounds whose times are not known"
    start_s, end_s = max(one.at_s, other.at_s), min(one.end_s, other.end_s)
    end = "on" if end_s == float("inf") else f"to {end_s:g} s"
    return f"from {start_s:g} s {end}"
