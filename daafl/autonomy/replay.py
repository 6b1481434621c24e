"""Runs a journal again and says where, if anywhere, the hubs decide differently."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.codec import decode
from daafl.autonomy.hub import Hub
from daafl.autonomy.hub_state import HubState
from daafl.autonomy.lines import CLOSED, DECIDED, HEADER
from daafl.autonomy.plan import Change, Plan
from daafl.autonomy.records import Request
from daafl.errors import CodecError, JournalError, PlanError


@dataclass(frozen=True)
class Divergence:
    """The first point at which a replay differs from the journal.

    Parameters
    ----------
    target, tick
        Which hub, and its cycle.
    what
        Path of the difference, with the recorded and the replayed value.
    """

    target: str
    tick: int
    what: str


def replay(hubs: Mapping[str, Hub], records: Sequence[Mapping[str, Any]]) -> Divergence | None:
    """Return the first difference between a journal and its replay, or ``None``.

    Parameters
    ----------
    hubs
        The hub of each target (``federation``, and per branch).
    records
        Lines of the journal. With the header as the first one, the hubs start from the beliefs
        that it holds.

    Raises
    ------
    JournalError
        When a line lacks what its kind requires, or names a target without a hub.
    """
    replays: dict[str, _Replay] = {}
    beliefs: dict[str, Belief] = {}
    for number, record in enumerate(records, start=1):
        try:
            if record["kind"] == HEADER:
                beliefs = _beliefs(record.get("beliefs"))
                continue
            target = str(record["target"])
            if target not in replays:
                replays[target] = _Replay(target, hubs[target], hubs[target].init(beliefs))
            difference = replays[target].take(record)
        except (KeyError, TypeError, ValueError, CodecError, PlanError) as error:
            raise JournalError(f"record {number} cannot be replayed: {error}") from error
        if difference is not None:
            return difference
    return None


def _beliefs(value: object) -> dict[str, Belief]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): decode(Belief, belief) for key, belief in value.items()}


class _Replay:
    """Runs one target's hub over its records."""

    def __init__(self, target: str, hub: Hub, state: HubState) -> None:
        self._target = target
        self._hub = hub
        self._state = state
        self._plan: Plan | None = None
        self._expected: list[dict[str, Any]] = []

    def take(self, record: Mapping[str, Any]) -> Divergence | None:
        """Return how the record differs from what the hub does, if it does."""
        kind = record["kind"]
        if kind == DECIDED:
            return self._decide(record)
        if kind == CLOSED:
            return self._close(record)
        changes = record.get("changes")
        if changes is None:
            # A return to an older model whose line does not tell how the knobs went back with it.
            self._plan = None
        elif self._plan is not None:
            self._plan = self._plan.apply(decode(Change, change) for change in changes)
        return None

    def _decide(self, record: Mapping[str, Any]) -> Divergence | None:
        tick = int(record["tick"])
        if self._expected:
            return self._differs(tick, "an insight is missing before this cycle")
        before = decode(Plan, record["before"])
        # A cycle in which no loop had its turn leaves no line, but it passes.
        while self._state.tick < tick:
            self._state = self._hub.cycle(self._state, {}, before).state
        if self._plan is not None and self._plan.values != before.values:
            return self._differs(tick, _difference(before.values, self._plan.values, "before"))
        requests = [decode(Request, request) for request in record["requests"]]
        cycle = self._hub.cycle(self._state, record["observations"], before, requests=requests)
        self._state, self._plan = cycle.state, cycle.plan
        line, *self._expected = (json.loads(json.dumps(line)) for line in cycle.records)
        if line == _without_target(record):
            return None
        return self._differs(tick, _difference(_without_target(record), line, ""))

    def _close(self, record: Mapping[str, Any]) -> Divergence | None:
        tick = int(record["tick"])
        if not self._expected:
            return self._differs(tick, "an insight is recorded that no loop has")
        line = self._expected.pop(0)
        if line == _without_target(record):
            return None
        return self._differs(tick, _difference(_without_target(record), line, ""))

    def _differs(self, tick: int, what: str) -> Divergence:
        return Divergence(self._target, tick, what)


def _without_target(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "target"}


def _difference(recorded: object, replayed: object, path: str) -> str:
    """Return where two JSON values differ first, in words."""
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key in [*recorded, *(key for key in replayed if key not in recorded)]:
            if recorded.get(key) != replayed.get(key):
                where = f"{path}.{key}" if path else str(key)
                return _difference(recorded.get(key), replayed.get(key), where)
    if isinstance(recorded, list) and isinstance(replayed, list):
        for i, (one, other) in enumerate(zip_longest(recorded, replayed)):
            if one != other:
                return _difference(one, other, f"{path}[{i}]")
    return f"{path}: recorded {str(recorded)[:200]}, replayed {str(replayed)[:200]}"
