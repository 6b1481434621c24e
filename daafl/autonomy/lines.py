"""What a run leaves in its journal: one JSON object per line, of a few kinds.

==============  =================================================================================
``header``      first line: seed, config hash, version, beliefs
``decided``     one cycle of a hub: everything that went in and everything that was decided
``closed``      what became of a decision
``override``    an operator's edit of the plan
``restored``    a return to an older model: the version asked for and the one that was applied
==============  =================================================================================

All but the header name their ``target``: ``federation`` or a branch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from daafl.autonomy.codec import JSON, encode
from daafl.autonomy.plan import Change, Plan
from daafl.autonomy.records import Decision, Insight, Request

Line: TypeAlias = Mapping[str, JSON]

HEADER: Final = "header"
DECIDED: Final = "decided"
CLOSED: Final = "closed"
OVERRIDE: Final = "override"
RESTORED: Final = "restored"
KINDS: Final = (HEADER, DECIDED, CLOSED, OVERRIDE, RESTORED)


def decided(
    tick: int,
    *,
    observations: Mapping[str, JSON],
    requests: Sequence[Request],
    before: Plan,
    asked: Iterable[Decision],
    decisions: Sequence[Decision],
    outbound: Sequence[Request],
    restore_by: str | None,
    notes: Sequence[str],
    after: Plan,
) -> Line:
    """Return the line of a cycle; ``asked`` holds only what differs from what was applied."""
    applied = {decision.loop: decision for decision in decisions}
    restore = applied[restore_by].restore if restore_by is not None else None
    return {
        "kind": DECIDED,
        "tick": tick,
        "observations": dict(observations),
        "requests": encode(requests),
        "before": encode(before),
        "asked": [
            encode(decision)
            for decision in asked
            if not _same_content(decision, applied[decision.loop])
        ],
        "decisions": encode(decisions),
        "outbound": encode(outbound),
        "restore": restore,
        "restore_by": restore_by,
        "notes": list(notes),
        "after": encode(after),
    }


def closed(tick: int, insight: Insight) -> Line:
    """Return the line of an insight."""
    return {"kind": CLOSED, "tick": tick, "insight": encode(insight)}


def override(target: str, tick: int, changes: Sequence[Change], *, by: str, reason: str) -> Line:
    """Return the line of an operator's edit of a target's plan before its cycle `tick`."""
    return {
        "kind": OVERRIDE,
        "target": target,
        "tick": tick,
        "changes": encode(changes),
        "by": by,
        "reason": reason,
    }


def restored(target: str, *, asked: int, applied: int | None, changes: Sequence[Change]) -> Line:
    """Return the line of a return to an older model.

    Parameters
    ----------
    target
        The branch.
    asked, applied
        Model version asked for, and the one whose restore point was used; ``None`` for no point.
    changes
        How the knobs of the deciding loop went back with it.
    """
    return {
        "kind": RESTORED,
        "target": target,
        "asked": asked,
        "applied": applied,
        "changes": encode(changes),
    }


def _same_content(asked: Decision, applied: Decision) -> bool:
    """Return whether nothing was taken away; number and informed expectation do not count."""
    return asked == replace(applied, number=None, expect=asked.expect)
