"""What an operator changed by hand while the run went on, as the journal tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daafl.autonomy.codec import decode
from daafl.autonomy.lines import DECIDED, OVERRIDE
from daafl.autonomy.plan import Change
from daafl.errors import CodecError
from daafl.observability.outcomes import change_text
from daafl.observability.run import Run


@dataclass(frozen=True)
class Intervention:
    """Knobs that were set by hand.

    Parameters
    ----------
    step
        The first step that ran under the new values.
    by, reason
        Who did it and why.
    changes
        The knobs, with their values before and after.
    """

    step: int
    by: str
    reason: str
    changes: tuple[Change, ...]

    @property
    def sentence(self) -> str:
        """All of it in words."""
        moved = ", ".join(change_text(change) for change in self.changes)
        why = f" ({self.reason})" if self.reason != self.by else ""
        return f"Before step {self.step:,} the {self.by} set {moved}{why}."


def interventions(run: Run) -> tuple[Intervention, ...]:
    """Return the interventions in order; a record that does not describe one is passed over."""
    return tuple(_found(run))


def _found(run: Run) -> Iterator[Intervention]:
    for index, record in enumerate(run.journal):
        if record.get("kind") != OVERRIDE:
            continue
        step = _step_after(run.journal[index:], record.get("target"))
        try:
            changes = tuple(decode(tuple[Change, ...], record.get("changes")))
        except CodecError:
            continue
        if step is not None:
            yield Intervention(step, str(record.get("by")), str(record.get("reason")), changes)


def _step_after(records: tuple[Mapping[str, object], ...], target: object) -> int | None:
    """Return the step that the target's next decisions looked at."""
    for record in records:
        observations = record.get("observations")
        if record.get("kind") != DECIDED or record.get("target") != target:
            continue
        for seen in observations.values() if isinstance(observations, Mapping) else ():
            step = seen.get("step") if isinstance(seen, Mapping) else None
            if isinstance(step, int):
                return step
    return None
