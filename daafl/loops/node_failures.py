"""Failing nodes: the share of messages that are of no use, and what the health loop does about it.

The share ``s`` of failed and refused messages of a step is smoothed, ``S <- S + 0.3 (s - S)``.

Retries
    How many replacements a step may send for failed assignments, in multiples of the quorum. One
    more while ``S`` is above 0.15, one less while it is below 0.03; then it rests for five steps.
    A step without failures costs nothing either way.
Quarantine
    If failures stay high although retries are at their most, fewer strikes lead to quarantine, by
    half a strike each time; when it is quiet, the number returns to its default in the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from daafl.autonomy.plan import Change, Knob, Plan

OWNER: Final = "health"
QUARANTINE_STRIKES: Final = Knob("quarantine_strikes", "strikes", 2.5, OWNER, "branch", 1.0, 20.0)
QUARANTINE_STEPS: Final = Knob("quarantine_steps", "steps", 5, OWNER, "branch", 1, 1000)
RETRIES: Final = Knob("retries", "quorums", 0, OWNER, "branch", 0, 3)
FAILURE_KNOBS: Final = (QUARANTINE_STRIKES, QUARANTINE_STEPS, RETRIES)

WEIGHT: Final = 0.3
HIGH, LOW = 0.15, 0.03
REST: Final = 5  # steps between moves of one knob
MAX_SHOWN: Final = 8  # nodes named in a sentence
STRICTEST: Final = 1.5
STRICTER: Final = 0.5


@dataclass(frozen=True)
class FailureTrend:
    """The smoothed share of useless messages.

    Parameters
    ----------
    share
        Within [0, 1].
    num_messages
        Messages of the last step that had any.
    """

    share: float = 0.0
    num_messages: int = 0

    def after(self, failed: int, useful: int) -> FailureTrend:
        """Return the trend after a step with so many useless and useful messages."""
        total = failed + useful
        if total == 0:
            return self
        return FailureTrend(self.share + WEIGHT * (failed / total - self.share), total)

    @property
    def sd(self) -> float:
        """Standard deviation of a step's share if nodes fail independently; 0.02 at least."""
        variance = self.share * (1.0 - self.share) / max(self.num_messages, 1)
        return max(math.sqrt(variance), 0.02)


def adjustment(trend: FailureTrend, plan: Plan) -> Change | None:
    """Return the one knob to move after the last step; ``None`` to leave all as they are."""
    retries, strikes = int(plan.number(RETRIES.name)), plan.number(QUARANTINE_STRIKES.name)
    most, usual = int(RETRIES.high or 0), float(QUARANTINE_STRIKES.default)
    if trend.share > HIGH and retries < most:
        return Change(RETRIES.name, plan[RETRIES.name], retries + 1)
    if trend.share > HIGH and strikes > STRICTEST:
        stricter = max(strikes - STRICTER, STRICTEST)
        return Change(QUARANTINE_STRIKES.name, plan[QUARANTINE_STRIKES.name], stricter)
    if trend.share < LOW and retries > 0:
        return Change(RETRIES.name, plan[RETRIES.name], retries - 1)
    if trend.share < LOW and strikes < usual:
        milder = min(strikes + STRICTER, usual)
        return Change(QUARANTINE_STRIKES.name, plan[QUARANTINE_STRIKES.name], milder)
    return None


def left_out(nodes: Sequence[int], faults: Sequence[str]) -> str:
    """Return in words who was put into quarantine, each with its last fault.

    Examples
    --------
    >>> left_out([3, 7], ["timeout", "shape"])
    'quarantine for nodes 3 (timeout), 7 (shape)'
    """
    names = [f"{node} ({fault})" for node, fault in zip(nodes, faults, strict=True)]
    rest = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"quarantine for node{'s' * (len(names) > 1)} {', '.join(names[:MAX_SHOWN])}{rest}"
