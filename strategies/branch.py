"""One model with its history.

A run is a set of branches: the federation's model is one, a cluster's or a trial's are others.
Versions only grow, also when an older model is restored, so that replies in flight stay
attributable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from daafl.autonomy.hub_state import HubState
from daafl.autonomy.plan import Plan, Value
from daafl.errors import FederationError
from daafl.learning.layout import Packed, Vector
from daafl.learning.update import Update
from daafl.strategies.optimizer import ServerOptimizer, Tree

RECENT_POINTS: Final = 8  # newest versions kept, besides those that somebody may ask for


@dataclass(frozen=True)
class RestorePoint:
    """Everything needed to return to a version: arrays, optimiser state, knobs at the time."""

    packed: Packed
    optimizer: Tree
    knobs: Mapping[str, Value]


@dataclass(frozen=True)
class Buffered:
    """An update that waits to be combined, with the ticket it answers."""

    ticket: int
    update: Update


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
        Logical ids of the nodes that train this branch.
    bases
        Models still out for training, by version.
    points
        Restore points, by version.
    buffer
        Updates that wait for the step to close, in order of arrival.
    direction
        Trained part of the last step's mean update; ``None`` before the first and after a restore.
    draws
        How often each node was asked at the version it was asked last: (version, count).
    """

    name: str
    parent: str | None
    version: int
    packed: Packed
    optimizer: ServerOptimizer
    plan: Plan
    loops: HubState
    members: tuple[int, ...] = ()
    bases: dict[int, Packed] = field(default_factory=dict)
    points: dict[int, RestorePoint] = field(default_factory=dict)
    buffer: list[Buffered] = field(default_factory=list)
    direction: Vector | None = None
    draws: dict[int, tuple[int, int]] = field(default_factory=dict)

    def next_draw(self, node: int) -> int:
        """Return how often ``node`` was already asked at this version, and count this time."""
        version, count = self.draws.get(node, (self.version, 0))
        draw = count if version == self.version else 0
        self.draws[node] = (self.version, draw + 1)
        return draw

    def adopt(self, packed: Packed) -> None:
        """Make ``packed`` the model under a new version, with a restore point of its own."""
        self.packed = packed
        self.version += 1
        self.mark()

    def mark(self) -> None:
        """Hold the present model as a restore point."""
        self.points[self.version] = RestorePoint(
            self.packed, self.optimizer.state(), dict(self.plan.values)
        )

    def prune(self, *, wanted: frozenset[int], out: frozenset[int]) -> None:
        """Let go of restore points nobody asks for and of bases that are no longer out.

        A version that is out, or that waits in the buffer, is still to be reported on; only then do
        the loops know whether it is one to return to.
        """
        recent = sorted(self.points)[-RECENT_POINTS:]
        unreported = out.union(item.update.version for item in self.buffer)
        kept = wanted.union(recent, unreported)
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
        return applied, {name: point.knobs[name] for name in knobs if name in point.knobs}
