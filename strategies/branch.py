"""One model with its history.

A run is a set of branches: the federation's model is one, a cluster's or a trial's are others.
Versions only grow, also when an older model is restored, so that replies in flight stay
attributable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from daafl.autonomy.hub_state import HubState
from daafl.autonomy.plan import Plan, Value
from daafl.errors import FederationError
from daafl.learning.layout import Packed, Vector
from daafl.learning.update import Update
from daafl.strategies.optimizer import ServerOptimizer, Tree
from daafl.strategies.reputation import Standing
from daafl.strategies.screening import Evidence

POINT_SPACING: Final = 6  # versions between restore points; a checkpoint holds them all on disk


@dataclass(frozen=True)
class RestorePoint:
    """Everything needed to return to a version: arrays, optimiser state, knobs at the time."""

    packed: Packed
    optimizer: Tree
    knobs: Mapping[str, Value]


@dataclass(frozen=True)
class Buffered:
    """An update that waits to be combined, with the ticket it answers.

    ``evidence`` is what screening keeps of it; ``None`` where nobody screens.
    """

    ticket: int
    update: Update
    evidence: Evidence | None = None


@dataclass
class Branch:
    """A model, its optimiser, its plan, and what is out for it.

    Parameters
    ----------
    name, parent
        Identity, and the branch it was forked from.
    version
        Version of ``packed``; grows with every new model.
    packed
        The model.
    optimizer
        Combines updates; its state belongs to the branch.
    plan, loops
        The branch's knobs, and the state of the loops that turn them.
    members
        Logical ids of the nodes that train this branch, ascending; a range where all of many do.
    bases
        Models still out for training, by version.
    points
        Restore points, by version.
    buffer
        Updates that wait for the step to close, in order of arrival.
    direction
        Sketch of the last step's mean update; ``None`` before the first and after a restore.
    standing
        What screening has learned about the members.
    accepted
        Newest version that a committee has adopted, or nobody could be asked about; ``None`` where
        committees do not vote.
    draws
        How often each node was asked at the present version.
    """

    name: str
    parent: str | None
    version: int
    packed: Packed
    optimizer: ServerOptimizer
    plan: Plan
    loops: HubState
    members: Sequence[int] = ()
    bases: dict[int, Packed] = field(default_factory=dict)
    points: dict[int, RestorePoint] = field(default_factory=dict)
    buffer: list[Buffered] = field(default_factory=list)
    direction: Vector | None = None
    standing: Standing = field(default_factory=Standing)
    accepted: int | None = None
    draws: dict[int, int] = field(default_factory=dict)

    def next_draw(self, node: int) -> int:
        """Return how often ``node`` was already asked at this version, and count this time."""
        draw = self.draws.get(node, 0)
        self.draws[node] = draw + 1
        return draw

    def next_draws(self, nodes: Sequence[int]) -> tuple[int, ...]:
        """Return `next_draw` of each of ``nodes``."""
        if self.draws:
            return tuple(map(self.next_draw, nodes))
        self.draws = dict.fromkeys(nodes, 1)
        return (0,) * len(nodes)

    def adopt(self, packed: Packed) -> None:
        """Make ``packed`` the model under a new version, with a restore point of its own."""
        self.packed = packed
        self.version += 1
        self.draws.clear()
        self.mark()

    def mark(self) -> None:
        """Hold the present model as a restore point."""
        self.points[self.version] = RestorePoint(
            self.packed, self.optimizer.state(), dict(self.plan.values)
        )

    def prune(self, *, wanted: frozenset[int], out: frozenset[int]) -> None:
        """Let go of restore points nobody asks for and of bases that are no longer out.

        A version that is out, or that waits in the buffer, is still to be reported on; only then do
        the loops know whether it is one to return to. Of those, a few are kept: whoever asks for
        another gets one that is less than `POINT_SPACING` versions older.
        """
        unreported = out.union(item.update.version for item in self.buffer)
        pinned = {self.version} if self.accepted is None else {self.version, self.accepted}
        kept = _spaced(self.points, wanted.union(unreported), pinned)
        self.points = {v: point for v, point in self.points.items() if v in kept}
        self.bases = {v: base for v, base in self.bases.items() if v in out}

    def restore(self, asked: int, *, knobs: frozenset[str]) -> tuple[int, dict[str, Value]]:
        """Return to the newest restore point that is not newer than ``asked``.

        If all that are held are newer, it is the oldest of them. Later points are dropped and the
        buffer is emptied: its updates come from the abandoned model.

        Parameters
        ----------
        asked
            A model version.
        knobs
            Knobs owned by the loop that asked.

        Returns
        -------
        applied
            The version whose point was used; the branch has a new version after it.
        values
            Values of ``knobs`` at that point.

        Raises
        ------
        FederationError
            If the branch holds no restore point at all.
        """
        if not self.points:
            raise FederationError(
                f"branch {self.name} cannot return to version {asked}: it holds no restore point"
            )
        applied = max((v for v in self.points if v <= asked), default=min(self.points))
        point = self.points[applied]
        self.points = {v: p for v, p in self.points.items() if v <= applied}
        self.optimizer.load(point.optimizer)
        self.buffer.clear()
        self.direction = None
        self.adopt(point.packed)
        if self.accepted is not None and self.accepted > applied:
            self.accepted = self.version
        return applied, {name: point.knobs[name] for name in knobs if name in point.knobs}


def _spaced(held: Iterable[int], asked: Iterable[int], pinned: set[int]) -> set[int]:
    """Return those of the versions held that serve every version asked for, and no more.

    Each version asked for has one less than `POINT_SPACING` older, if there ever was one. Those in
    ``pinned`` are kept in any case.

    Examples
    --------
    >>> sorted(_spaced([1, 3, 7, 8, 9, 10], asked=[5, 6, 7, 8, 9, 10], pinned={10}))
    [3, 9, 10]
    """
    versions, kept = sorted(held), set(pinned)
    for version in sorted(asked):
        if not any(0 <= version - other < POINT_SPACING for other in kept):
            past = [other for other in versions if other <= version]
            kept.update(past[-1:])
    return kept
