"""Whether a federation still gets anywhere, judged from its latest steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from daafl.messages import BUDGET_SPENT
from daafl.observability.events import StepRecord
from daafl.strategies.collecting import NONFINITE_MODEL

SILENT_STEPS: Final = 3  # steps in a row without any reply after which a run has failed,
MANY_FAILURES: Final = 20  # if so many messages failed in them, or as many as there are nodes
IDLE_STEPS: Final = 10  # steps in a row without a new model after which a run has failed


@dataclass(frozen=True)
class Liveness:
    """What the latest steps came to.

    Parameters
    ----------
    silent_steps, failures
        Steps in a row without a reply, and messages that failed in them.
    idle_steps
        Steps in a row without a new model.
    has_learned
        Whether there ever was a new model.
    reasons
        What went wrong in the last step; ``None`` before the first.
    """

    silent_steps: int = 0
    failures: int = 0
    idle_steps: int = 0
    has_learned: bool = False
    reasons: tuple[str, ...] | None = None

    def after(self, record: StepRecord) -> Liveness:
        """Return the liveness after a training step."""
        has_model = record.num_updates > 0 and NONFINITE_MODEL not in record.rejected
        # A node that has spent its budget has answered.
        is_answered = record.num_updates > 0 or BUDGET_SPENT in record.failures
        has_replies = is_answered or bool(record.rejected)
        counts = (*record.failures.items(), *record.rejected.items())
        return Liveness(
            silent_steps=0 if has_replies else self.silent_steps + 1,
            failures=0 if has_replies else self.failures + sum(record.failures.values()),
            idle_steps=0 if has_model else self.idle_steps + 1,
            has_learned=self.has_learned or has_model,
            reasons=tuple(f"{reason}: {count}" for reason, count in counts),
        )

    def fault(self, num_nodes: int) -> str | None:
        """Return why the run should end, in words; ``None`` if it should go on."""
        # Three small cohorts in a row may well be of the few nodes that fail.
        has_tried = self.failures >= min(num_nodes, MANY_FAILURES)
        if self.silent_steps >= SILENT_STEPS and has_tried:
            return f"no node has sent an update for {self.silent_steps} steps"
        if self.idle_steps >= IDLE_STEPS:
            return f"no update could be used for {IDLE_STEPS} steps"
        return None

    def final_fault(self, num_steps: int) -> str | None:
        """Return why a run that is over has come to nothing; ``None`` if it has not."""
        if self.reasons is None or self.has_learned:
            return None
        return f"no update could be used in any of {num_steps} steps"
