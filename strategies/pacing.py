"""When a step starts, how many assignments are out, and when it closes.

Synchronous, over-selected, deadline and buffered federations (FedBuff: Nguyen et al. 2022) are
settings of one rule. At most ``concurrency`` assignments are out. A step closes when ``quorum``
updates are in, when ``deadline_s`` has passed, or when nothing that can still count is out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from daafl.autonomy.plan import Knob, Plan, Value
from daafl.errors import ConfigError

Refill = Literal["step", "reply"]

NO_DEADLINE_S: Final = 1e9  # a plan holds plain numbers; this one never passes

_OWNER: Final = "pacing"
PACING_KNOBS: Final = (
    Knob("concurrency", "assignments", 10, _OWNER, "federation", 1, 1_000_000),
    Knob("quorum", "updates", 10, _OWNER, "federation", 1, 1_000_000),
    Knob("deadline_s", "s", NO_DEADLINE_S, _OWNER, "federation", 1e-3, NO_DEADLINE_S),
    Knob("reply_timeout_s", "s", 600.0, _OWNER, "federation", 1e-3, NO_DEADLINE_S),
    Knob("max_staleness", "versions", 0, _OWNER, "federation", 0, 1_000_000),
    Knob("refill", "", "step", _OWNER, "federation", choices=("step", "reply"), is_structural=True),
)


@dataclass(frozen=True)
class Pacing:
    """How the federation keeps time.

    Parameters
    ----------
    concurrency
        Assignments out at a time; fewer when fewer nodes are free.
    quorum
        Updates that close a step; at most ``concurrency``.
    deadline_s
        Seconds after which a step closes with what is in; ``None`` waits for the quorum.
    reply_timeout_s
        Seconds after which an assignment no longer counts and its place is free again.
    max_staleness
        Versions an update may be behind and still count; 0 means fresh updates only.
    refill
        ``step`` sends new assignments when a step starts, ``reply`` whenever one comes back.

    Raises
    ------
    ConfigError
        If the numbers contradict each other or are out of range.

    Examples
    --------
    >>> Pacing(concurrency=13, quorum=10).quorum  # over-selected: the first 10 of 13 count
    10
    >>> Pacing(concurrency=10, quorum=3, max_staleness=20, refill="reply").is_buffered
    True
    """

    concurrency: int = 10
    quorum: int = 10
    deadline_s: float | None = None
    reply_timeout_s: float = 600.0
    max_staleness: int = 0
    refill: Refill = "step"

    def __post_init__(self) -> None:
        for knob in PACING_KNOBS:
            value = getattr(self, knob.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"pacing.{knob.name} is {value}, but must be a finite number")
            if value is not None and value != knob.clipped(value):
                raise ConfigError(f"pacing.{knob.name} is {value!r}, but must be {_rule(knob)}")
        if self.quorum > self.concurrency:
            raise ConfigError(
                f"pacing.quorum is {self.quorum}, but at most pacing.concurrency = "
                f"{self.concurrency} assignments are out at a time"
            )
        if self.refill == "reply" and self.max_staleness == 0 and self.quorum < self.concurrency:
            raise ConfigError(
                "pacing.max_staleness is 0, but with refill: reply and a quorum below the "
                "concurrency most updates are stale; set it to 1 or more"
            )

    @property
    def is_buffered(self) -> bool:
        """Whether steps close on a part of the updates while the others go on training."""
        return self.refill == "reply"

    def out(self, num_nodes: int) -> int:
        """Return how many assignments are out at a time among ``num_nodes``; one at least."""
        return max(min(self.concurrency, num_nodes), 1)

    def share(self, num_nodes: int) -> float:
        """Return the share K/M of the assignments out that one step combines, in (0, 1].

        A server optimiser takes this much smaller steps, since it takes that many more.
        """
        return min(self.quorum / self.out(num_nodes), 1.0) if self.is_buffered else 1.0

    def values(self) -> dict[str, Value]:
        """Return the plan values of the pacing knobs."""
        deadline_s = NO_DEADLINE_S if self.deadline_s is None else self.deadline_s
        return {
            "concurrency": self.concurrency,
            "quorum": self.quorum,
            "deadline_s": deadline_s,
            "reply_timeout_s": self.reply_timeout_s,
            "max_staleness": self.max_staleness,
            "refill": self.refill,
        }

    @classmethod
    def of(cls, plan: Plan) -> Pacing:
        """Return the pacing that ``plan`` asks for.

        Knobs move one by one, so what contradicts another is moved with it: the quorum is at most
        the concurrency, and a step that closes on a part of the updates allows stale ones.
        """
        deadline_s = plan.number("deadline_s")
        concurrency = int(plan.number("concurrency"))
        quorum = min(int(plan.number("quorum")), concurrency)
        refill: Refill = "reply" if plan["refill"] == "reply" else "step"
        is_partial = refill == "reply" and quorum < concurrency
        return cls(
            concurrency=concurrency,
            quorum=quorum,
            deadline_s=None if deadline_s >= NO_DEADLINE_S else deadline_s,
            reply_timeout_s=plan.number("reply_timeout_s"),
            max_staleness=max(int(plan.number("max_staleness")), int(is_partial)),
            refill=refill,
        )


def _rule(knob: Knob) -> str:
    if knob.choices:
        return "one of " + ", ".join(map(str, knob.choices))
    return f"within [{knob.low:g}, {knob.high:g}] {knob.unit}"
