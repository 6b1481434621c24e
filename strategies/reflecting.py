"""Reason, reflect and adapt: the hubs' cycle, its journal, and what it asks to undo."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from daafl.autonomy import lines
from daafl.autonomy.beliefs import Beliefs
from daafl.autonomy.codec import JSON
from daafl.autonomy.hub import Cycle, Hub
from daafl.autonomy.plan import Change, Plan, Value
from daafl.autonomy.records import Decision, Insight, Request
from daafl.strategies.branch import Branch
from daafl.strategies.monitor import StepFacts, observations

log: Final = logging.getLogger(__name__)

FEDERATION = "federation"

Record = Callable[..., None]
"""Takes journal records; returns only when all of them are safe."""


@dataclass(frozen=True)
class Reflection:
    """What the loops made of a step.

    Parameters
    ----------
    decisions
        Acting decisions of all loops, as applied.
    insights
        What became of earlier decisions.
    restored
        Version whose restore point the branch returned to; ``None`` if it goes on.
    """

    decisions: tuple[Decision, ...]
    insights: tuple[Insight, ...]
    restored: int | None


@dataclass(frozen=True)
class ReflectorState:
    """What the loops over the whole federation carry from step to step.

    Parameters
    ----------
    plan
        The federation's plan.
    loops
        JSON of the federation's hub.
    requests
        What branch loops ask of the federation's knobs in the next cycle.
    told
        Kinds of notes that were logged.
    """

    plan: Plan
    loops: object
    requests: tuple[Request, ...]
    told: tuple[str, ...]


class Reflector:
    """Runs the hubs after each step; writes every decision down before it takes effect.

    Parameters
    ----------
    federation_hub, branch_hub
        Loops over the whole federation, and over each branch.
    plan
        The federation's plan.
    beliefs
        What earlier runs learned about the loops' actions.
    record
        Where decisions are written down; one call per cycle, since each waits for the disk.
    """

    def __init__(
        self,
        federation_hub: Hub,
        branch_hub: Hub,
        *,
        plan: Plan,
        beliefs: Beliefs,
        record: Record,
    ) -> None:
        self._federation_hub = federation_hub
        self._branch_hub = branch_hub
        self._federation_loops = federation_hub.init(beliefs)
        self._record = record
        self._requests: tuple[Request, ...] = ()
        self._told: set[str] = set()
        self.plan = plan

    def reflect(self, branch: Branch, facts: StepFacts) -> Reflection:
        """Let the loops decide about the next step, and return to an older model if they ask.

        Requests of federation loops bind the branch's knobs in the same cycle; requests of
        branch loops bind the federation's knobs in the next one.
        """
        wide = self._federation_hub.cycle(
            self._federation_loops,
            observations(self._federation_hub.loops, facts),
            self.plan,
            requests=self._requests,
        )
        own = self._branch_hub.cycle(
            branch.loops,
            observations(self._branch_hub.loops, facts),
            branch.plan,
            requests=wide.outbound,
        )
        # Decisions are on the disk before they take effect; that nothing was decided can wait.
        self._record(
            *_addressed(FEDERATION, wide),
            *_addressed(branch.name, own),
            is_awaited=bool(wide.decisions or own.decisions),
        )
        self._tell_failures(wide, own)
        self._federation_loops, self.plan, self._requests = wide.state, wide.plan, own.outbound
        branch.loops, branch.plan = own.state, own.plan
        asking = [cycle for cycle in (own, wide) if cycle.restore is not None]
        asking.sort(key=lambda cycle: cycle.restore or 0)  # the oldest version goes first
        return Reflection(
            decisions=tuple(
                d for cycle in (wide, own) for d in cycle.decisions if d.number is not None
            ),
            insights=wide.insights + own.insights,
            restored=self._restore(branch, asking[0]) if asking else None,
        )

    def _tell_failures(self, *cycles: Cycle) -> None:
        """Log what the hubs note about loops that fail, once for each kind of note."""
        for cycle in cycles:
            for record in cycle.records:
                notes = record.get("notes", ())
                for note in notes if isinstance(notes, list) else ():
                    kind = str(note).partition(":")[0]
                    if " failed" in str(note) and kind not in self._told:
                        self._told.add(kind)
                        log.warning("%s", note)

    def state(self) -> ReflectorState:
        """Return what the federation's loops carry; a branch's own belong to the branch."""
        return ReflectorState(
            plan=self.plan,
            loops=self._federation_hub.encode(self._federation_loops),
            requests=self._requests,
            told=tuple(sorted(self._told)),
        )

    def load(self, state: ReflectorState) -> None:
        """Go on from an earlier `state`.

        Raises
        ------
        CodecError
            If it is the state of other loops.
        """
        self.plan, self._requests = state.plan, state.requests
        self._federation_loops = self._federation_hub.decode(state.loops)
        self._told = set(state.told)

    def wanted_versions(self, branch: Branch) -> frozenset[int]:
        """Return the model versions that loops may want to return the branch to."""
        return self._branch_hub.wanted_versions(
            branch.loops
        ) | self._federation_hub.wanted_versions(self._federation_loops)

    def override(self, branch: Branch, knob: str, value: Value, reason: str) -> None:
        """Apply an operator's edit to whichever plan holds the knob; it is journaled first."""
        if knob in branch.plan:
            new = self._branch_hub.knobs[knob].clipped(value)
            changes = [Change(knob, branch.plan[knob], new)]
            self._record(
                lines.override(
                    branch.name, branch.loops.tick, changes, by="operator", reason=reason
                )
            )
            branch.plan = branch.plan.apply(changes)
        else:
            new = self._federation_hub.knobs[knob].clipped(value)
            changes = [Change(knob, self.plan[knob], new)]
            tick = self._federation_loops.tick
            self._record(lines.override(FEDERATION, tick, changes, by="operator", reason=reason))
            self.plan = self.plan.apply(changes)

    def give_up(self, branch: Branch, accepted: int) -> None:
        """Return the branch to its accepted version, because a committee rejected its model.

        No loop asked for it, so no knob goes back. The version it gets is accepted, being that
        model.
        """
        self._record(lines.restored(branch.name, asked=accepted, applied=accepted, changes=()))
        branch.restore(accepted, knobs=frozenset())
        branch.accepted = branch.version

    def _restore(self, branch: Branch, cycle: Cycle) -> int:
        """Return the branch to an older model, with the knobs of the loop that asked.

        A knob that the decision itself sets keeps the value decided.
        """
        asked = int(cycle.restore or 0)
        by = next(d for d in cycle.decisions if d.loop == cycle.restore_by)
        decided = {change.knob for change in by.changes}
        owned = frozenset(
            knob.name for knob in self._branch_hub.knobs.values() if knob.owner == by.loop
        )
        applied, values = branch.restore(asked, knobs=owned - decided)
        changes: Sequence[Change] = [
            Change(name, branch.plan[name], value)
            for name, value in values.items()
            if branch.plan[name] != value
        ]
        branch.plan = branch.plan.apply(changes)
        self._record(lines.restored(branch.name, asked=asked, applied=applied, changes=changes))
        return applied


def _addressed(target: str, cycle: Cycle) -> list[dict[str, JSON]]:
    """Return a cycle's journal records, each saying whose cycle it was."""
    return [{"target": target, **record} for record in cycle.records]
