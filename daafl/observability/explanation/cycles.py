"""The journal of a run as cycles: what a hub saw, decided and learned at one tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from daafl.autonomy.codec import decode
from daafl.autonomy.lines import CLOSED, DECIDED, RESTORED
from daafl.autonomy.plan import Plan
from daafl.autonomy.records import Decision, Insight, Request
from daafl.errors import CodecError, JournalError
from daafl.observability.events import StepRecord
from daafl.observability.run import Run

FEDERATION: Final = "federation"
"""Target of the cycles that are about all branches."""

_FIRST_LINE: Final = 2  # of the records in the file; the header is line 1


@dataclass(frozen=True)
class Cycle:
    """One cycle of one target's hub.

    Parameters
    ----------
    target, tick
        Whose hub, and the number of the cycle from 0.
    observations
        What each loop saw, as JSON by the loop's name.
    requests
        Requests of other hubs' loops that it was given.
    before, after
        The plan of the step that was looked at, and of the next one.
    asked
        What loops wanted where it differs from what was applied.
    decisions
        As applied, those that leave everything as it is included.
    restore, restored
        Model version to return to, and the one whose restore point was used; ``None`` to go on.
    notes
        Why something was clipped, refused or left out.
    insights
        What became of earlier decisions.
    step
        The step that was looked at; ``None`` before the first, or when it cannot be told.
    record
        That step as ``rounds.jsonl`` has it; ``None`` when it cannot be told.
    """

    target: str
    tick: int
    observations: Mapping[str, object]
    requests: tuple[Request, ...]
    before: Plan
    after: Plan
    asked: tuple[Decision, ...]
    decisions: tuple[Decision, ...]
    restore: int | None
    restored: int | None = None
    notes: tuple[str, ...] = ()
    insights: tuple[Insight, ...] = ()
    step: int | None = None
    record: StepRecord | None = None


def cycles_of(run: Run) -> dict[str, tuple[Cycle, ...]]:
    """Return the cycles of every target in order, each with the step that it looked at.

    Raises
    ------
    JournalError
        When a line does not tell what its kind requires; names the line.
    """
    drafts: dict[str, list[_Draft]] = {}
    for line, record in enumerate(run.journal, start=_FIRST_LINE):
        try:
            _take(drafts, record)
        except (KeyError, TypeError, ValueError, CodecError) as error:
            raise JournalError(f"the journal's line {line} cannot be explained: {error}") from error
    return {
        target: _with_steps(
            tuple(draft.cycle for draft in found), target, () if run.left_out else run.steps
        )
        for target, found in drafts.items()
    }


@dataclass
class _Draft:
    """A cycle whose later lines are still to come."""

    cycle: Cycle
    insights: list[Insight] = field(default_factory=list)


def _take(drafts: dict[str, list[_Draft]], record: Mapping[str, object]) -> None:
    kind = record["kind"]
    if kind == DECIDED:
        cycle = _decided(record)
        drafts.setdefault(cycle.target, []).append(_Draft(cycle))
    elif kind == CLOSED:
        draft = drafts[str(record["target"])][-1]
        insight = decode(Insight, record["insight"])
        draft.cycle = replace(draft.cycle, insights=(*draft.cycle.insights, insight))
    elif kind == RESTORED:
        _restored(drafts, record)


def _decided(record: Mapping[str, object]) -> Cycle:
    observations = record["observations"]
    if not isinstance(observations, Mapping):
        raise CodecError("its observations must be an object")
    return Cycle(
        target=str(record["target"]),
        tick=decode(int, record["tick"]),
        observations={str(loop): seen for loop, seen in observations.items()},
        requests=decode(tuple[Request, ...], record["requests"]),
        before=decode(Plan, record["before"]),
        after=decode(Plan, record["after"]),
        asked=decode(tuple[Decision, ...], record["asked"]),
        decisions=decode(tuple[Decision, ...], record["decisions"]),
        restore=None if record["restore"] is None else decode(int, record["restore"]),
        notes=decode(tuple[str, ...], record["notes"]),
    )


def _restored(drafts: Mapping[str, list[_Draft]], record: Mapping[str, object]) -> None:
    """Tell the cycle that asked for it which version was applied.

    A committee gives a model up before any cycle asks for that; such a line belongs to none.
    """
    for target in (str(record["target"]), FEDERATION):
        for draft in drafts.get(target, [])[-1:]:
            cycle = draft.cycle
            if cycle.restore == record["asked"] and cycle.restored is None:
                applied = record["applied"]
                draft.cycle = replace(cycle, restored=decode(int, applied))
                return


def _with_steps(
    cycles: tuple[Cycle, ...], target: str, steps: Sequence[StepRecord]
) -> tuple[Cycle, ...]:
    """Return the cycles with their steps: tick 0 looks ahead, tick n at the n-th record.

    Where the two files do not fit, or a line is missing, only the steps that observations name
    themselves are known.
    """
    own = [step for step in steps if target in (FEDERATION, step.branch)]
    records = [None, *own]
    # Killed between journal and rounds, a run has decided once more than it has told.
    is_whole = len(cycles) - len(records) in (0, 1)
    placed = tuple(_placed(cycle, records if is_whole else []) for cycle in cycles)
    fits = all(
        cycle.record is None or _observed_step(cycle) in (None, cycle.record.step)
        for cycle in placed
    )
    return placed if fits else tuple(_placed(cycle, []) for cycle in cycles)


def _placed(cycle: Cycle, records: Sequence[StepRecord | None]) -> Cycle:
    record = records[cycle.tick] if cycle.tick < len(records) else None
    step = record.step if record is not None else _observed_step(cycle)
    return replace(cycle, record=record, step=step or None)


def _observed_step(cycle: Cycle) -> int | None:
    for seen in cycle.observations.values():
        step = seen.get("step") if isinstance(seen, Mapping) else None
        if isinstance(step, int) and step > 0:
            return step
    return None
