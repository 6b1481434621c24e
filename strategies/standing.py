"""Strikes, quarantine and parole of nodes whose messages are of no use.

A message that fails a check, an error and a silence are a strike against the node; strikes fade
with a half-life of 20 steps. A node that reaches the plan's ``quarantine_strikes`` gets no
assignment for ``quarantine_steps`` steps. After that it is on parole: its next assignment is a
trial. A good update halves its strikes and ends the parole; another fault sends it back for twice
as long as the last time, up to 32 times the first. Half of the members stay in play at least.

This is about nodes that fail. Nodes whose updates are well formed and harmful are found by
`daafl.strategies.screening`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from daafl.autonomy.plan import Plan
from daafl.loops.node_failures import QUARANTINE_STEPS, QUARANTINE_STRIKES

HALF_LIFE: Final = 20.0  # steps
MAX_DOUBLINGS: Final = 5
MAX_STRIKES: Final = 100.0
FORGOTTEN: Final = 0.1  # strikes below which a node's record is dropped,
PAROLE: Final = 100  # though not before so many steps after its last quarantine


@dataclass(frozen=True)
class Discipline:
    """The plan's rule.

    Parameters
    ----------
    strikes
        Strikes from which a node is put into quarantine.
    steps
        Steps of a first quarantine.
    """

    strikes: float
    steps: int

    @classmethod
    def of(cls, plan: Plan) -> Discipline | None:
        """Return the rule of a plan; ``None`` for a plan without, where nobody is left out."""
        if QUARANTINE_STRIKES.name not in plan:
            return None
        steps = int(plan.number(QUARANTINE_STEPS.name))
        return cls(plan.number(QUARANTINE_STRIKES.name), steps)


@dataclass(frozen=True)
class Record:
    """What is held against one node.

    Parameters
    ----------
    strikes
        Faults, faded.
    since, until
        Step in which it was put into quarantine last, and the first in which it
        may take part again; before the run if it always might.
    sentences
        Quarantines so far; each doubles the next one.
    is_on_parole
        Whether its next assignment is a trial.
    reason
        Its last fault, in a word.
    """

    strikes: float = 0.0
    since: int = 0
    until: int = -PAROLE
    sentences: int = 0
    is_on_parole: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Conduct:
    """Records of the nodes that failed lately; survives JSON.

    Parameters
    ----------
    step
        Steps so far.
    records
        By logical id, in decimal.

    Examples
    --------
    >>> rule, conduct = Discipline(strikes=2.0, steps=3), next_step(Conduct())
    >>> conduct = struck(struck(conduct, 7, "shape", rule), 7, "timeout", rule)
    >>> barred(conduct, range(10), least=2), conduct.of(7).until
    (frozenset({7}), 5)
    """

    step: int = 0
    records: Mapping[str, Record] = field(default_factory=dict)

    def of(self, node: int) -> Record:
        """Return a node's record; an empty one if there is nothing against it."""
        return self.records.get(str(node), Record())


def next_step(conduct: Conduct) -> Conduct:
    """Return the conduct at the start of the next step; strikes have faded."""
    step, fading = conduct.step + 1, math.pow(0.5, 1.0 / HALF_LIFE)
    faded = {
        node: replace(record, strikes=record.strikes * fading)
        for node, record in conduct.records.items()
    }
    kept = {n: r for n, r in faded.items() if r.strikes >= FORGOTTEN or r.until + PAROLE > step}
    return Conduct(step, kept)


def struck(conduct: Conduct, node: int, reason: str, rule: Discipline | None) -> Conduct:
    """Return the conduct after a fault of a node, which may put it into quarantine."""
    record = conduct.of(node)
    record = replace(record, strikes=min(record.strikes + 1.0, MAX_STRIKES), reason=reason)
    is_free = record.until <= conduct.step
    if rule is not None and is_free and (record.is_on_parole or record.strikes >= rule.strikes):
        steps = rule.steps * 2 ** min(record.sentences, MAX_DOUBLINGS)
        record = replace(
            record,
            since=conduct.step,
            until=conduct.step + 1 + steps,
            sentences=record.sentences + 1,
            is_on_parole=True,
        )
    return _with(conduct, node, record)


def acquitted(conduct: Conduct, node: int) -> Conduct:
    """Return the conduct after a good update of a node, which ends its parole."""
    record = conduct.records.get(str(node))
    if record is None or not record.is_on_parole or record.until > conduct.step:
        return conduct
    return _with(conduct, node, replace(record, strikes=record.strikes / 2, is_on_parole=False))


def barred(conduct: Conduct, members: Collection[int], *, least: int) -> frozenset[int]:
    """Return the members that get no assignment now.

    Half of the members, and ``least`` of them, stay in play whatever they did. If there is no room
    for all that are in quarantine, those are left out that came first, whoever gets worse since.
    """
    serving = [
        (record.since, int(node))
        for node, record in conduct.records.items()
        if record.until > conduct.step
    ]
    if not serving:
        return frozenset()
    among = members if isinstance(members, range) else frozenset(members)
    room = len(among) - max(least, math.ceil(len(among) / 2))
    ordered = [node for _, node in sorted(serving) if node in among]
    return frozenset(ordered[: max(room, 0)])


def _with(conduct: Conduct, node: int, record: Record) -> Conduct:
    return replace(conduct, records={**conduct.records, str(node): record})
