"""What screening held against every node of a run, and how much of it was right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from daafl.observability.events import Flag, StepRecord
from daafl.observability.run import Run

_KNOB = "screen_threshold"  # in the plan exactly when updates are screened


@dataclass(frozen=True)
class NodeRecord:
    """One node's record.

    Parameters
    ----------
    node
        Its number.
    is_attacker
        Whether a simulation made it hostile.
    flags
        The steps in which its update was left out, and why.
    quarantined
        Steps without an assignment, as first and last of each stretch.
    """

    node: int
    is_attacker: bool
    flags: tuple[tuple[int, Flag], ...]
    quarantined: tuple[tuple[int, int], ...]

    @property
    def suspect_since(self) -> int | None:
        """First step in which its record spoke against it; ``None`` if it never did."""
        return next((step for step, flag in self.flags if flag.is_suspect), None)


@dataclass(frozen=True)
class Screened:
    """What screening did in a run.

    Parameters
    ----------
    nodes
        Nodes that were left out or put into quarantine, and all hostile ones; those under
        suspicion first, then by how often they were left out.
    num_flags, num_screened
        Updates left out, and updates that came as far as screening.
    attackers
        Nodes that a simulation made hostile; ``None`` where nobody can know.
    signals
        The measures that led to flags, the most frequent first.
    was_on
        Whether updates were screened at all.
    num_groups
        Sums of groups that were left out; they speak against no node and are in no other number.
    """

    nodes: tuple[NodeRecord, ...]
    num_flags: int
    num_screened: int
    attackers: tuple[int, ...] | None
    signals: tuple[str, ...]
    was_on: bool
    num_groups: int = 0

    @property
    def suspects(self) -> tuple[int, ...]:
        """Nodes that were under suspicion in any step."""
        return tuple(n.node for n in self.nodes if n.suspect_since is not None)

    @property
    def caught(self) -> tuple[int, ...]:
        """Hostile nodes that were under suspicion."""
        return tuple(n.node for n in self.nodes if n.is_attacker and n.suspect_since is not None)

    @property
    def missed(self) -> tuple[int, ...]:
        """Hostile nodes that never were."""
        return tuple(n.node for n in self.nodes if n.is_attacker and n.suspect_since is None)

    @property
    def accused(self) -> tuple[int, ...]:
        """Honest nodes that were under suspicion."""
        return tuple(node for node in self.suspects if node not in self.caught)

    @property
    def num_honest_flags(self) -> int:
        """Updates of honest nodes that were left out."""
        return sum(len(n.flags) for n in self.nodes if not n.is_attacker)


def screened_of(run: Run) -> Screened:
    """Return what screening did in a run."""
    flags: dict[int, list[tuple[int, Flag]]] = {}
    idle: dict[int, list[int]] = {}
    signals: dict[str, int] = {}
    num_groups = 0
    for step in run.rounds:
        for flag in step.flags:
            if flag.group:
                num_groups += 1
                continue
            flags.setdefault(flag.node, []).append((step.step, flag))
            signals[flag.signal] = signals.get(flag.signal, 0) + 1
        for node in step.quarantined:
            idle.setdefault(node, []).append(step.step)
    attackers = run.info.attackers
    nodes = [
        NodeRecord(
            node=node,
            is_attacker=node in (attackers or ()),
            flags=tuple(flags.get(node, ())),
            quarantined=_stretches(idle.get(node, ())),
        )
        for node in {**flags, **idle, **dict.fromkeys(attackers or ())}
    ]
    nodes.sort(key=lambda n: (n.suspect_since is None, -len(n.flags), n.node))
    num_flags = sum(len(found) for found in flags.values())
    return Screened(
        nodes=tuple(nodes),
        num_flags=num_flags,
        num_screened=num_flags + sum(step.num_updates for step in run.rounds if _was_on(step)),
        attackers=attackers,
        signals=tuple(sorted(signals, key=lambda signal: (-signals[signal], signal))),
        was_on=any(_was_on(step) for step in run.rounds),
        num_groups=num_groups,
    )


def _was_on(step: StepRecord) -> bool:
    return _KNOB in step.knobs


def _stretches(steps: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return runs of consecutive steps as their first and last.

    Examples
    --------
    >>> _stretches([3, 4, 5, 9])
    ((3, 5), (9, 9))
    """
    found: list[tuple[int, int]] = []
    for step in sorted(set(steps)):
        if found and found[-1][1] == step - 1:
            found[-1] = (found[-1][0], step)
        else:
            found.append((step, step))
    return tuple(found)
