"""Drift of the nodes' data as events: what they hold, and what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from daafl.simulation.scenario.events import Event, NodeEvent
from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.rules import MAX_SECONDS, by, number, optional

STEPS: Final = 16
"""Steps in which a gradual drift comes."""

_MOST_CLASSES: Final = 100_000

Cycles = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Drift(NodeEvent):
    """Data that changes from ``at_s`` on, and changes back at ``until_s``.

    Parameters
    ----------
    over_s
        Seconds in which the change comes, in `STEPS` equal steps; 0 for all at once.
    """

    over_s: float = field(default=0.0, metadata=by(number(least=0.0, most=MAX_SECONDS)))

    def progress(self, time_s: float) -> float:
        """Return how far the change has come at a time, from 0 to 1."""
        if not self.at_s <= time_s < self.end_s:
            return 0.0
        if self.over_s == 0.0:
            return 1.0
        return sum(step_s <= time_s for step_s in self.step_times_s()) / STEPS

    def step_times_s(self) -> tuple[float, ...]:
        """Return when the steps of the change come, ascending."""
        if self.over_s == 0.0:
            return (self.at_s,)
        return tuple(self.at_s + self.over_s * step / STEPS for step in range(1, STEPS + 1))

    def change_times_s(self) -> tuple[float, ...]:
        """Return all times at which data changes, the change back included."""
        within = tuple(step_s for step_s in self.step_times_s() if step_s < self.end_s)
        return (*within, self.end_s) if self.end_s < math.inf else within


def _classes(value: Any) -> tuple[int, ...]:
    if isinstance(value, list | tuple) and value and all(_is_class(item) for item in value):
        return tuple(sorted(set(value)))
    raise ValueError("must be a list of class numbers, such as [3, 7]")


@dataclass(frozen=True, kw_only=True)
class LabelDrift(Drift):
    """The class mix of nodes moves: some of their examples give way to those of other classes.

    New examples come from the task's training set. A task that divides its data by itself has
    none, so its nodes repeat examples of their own.

    Parameters
    ----------
    classes
        Classes (or groups, where the task has groups) that take over; ``None`` draws one for each
        node.
    share
        Share of a node's examples that they have taken in the end.
    """

    kind: ClassVar[str] = "label_drift"

    classes: tuple[int, ...] | None = field(default=None, metadata=by(optional(_classes)))
    share: float = field(default=0.8, metadata=by(number(least=0.0, most=1.0, is_open=True)))


def _cycles(value: Any) -> Cycles:
    rule = "must be a list of cycles like [[0, 1], [2, 5, 7]], every class in one of them at most"
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(rule)
    for cycle in value:
        if not isinstance(cycle, list | tuple) or len(cycle) < 2:
            raise ValueError(rule)
        if not all(_is_class(item) for item in cycle):
            raise ValueError(rule)
    named = [item for cycle in value for item in cycle]
    if len(set(named)) < len(named):
        raise ValueError(rule)
    return tuple(tuple(cycle) for cycle in value)


@dataclass(frozen=True, kw_only=True)
class ConceptDrift(Drift):
    """What data means moves: classes change their names, or sensors what they show.

    The server's evaluation examples follow, as far as nodes are concerned: with a quarter of the
    nodes, a quarter of the examples.

    Parameters
    ----------
    cycles
        Classes that become each other: in ``[[0, 1], [2, 5, 7]]`` 0 becomes 1 and 1 becomes 0,
        2 becomes 5, 5 becomes 7 and 7 becomes 2. While the change comes, the share of examples
        with new names grows.
    gain, shift
        Inputs become ``gain * x + shift``; the latter in standard deviations of the inputs. While
        the change comes, they move from 1 and 0 there.
    """

    kind: ClassVar[str] = "concept_drift"

    cycles: Cycles | None = field(default=None, metadata=by(optional(_cycles)))
    gain: float = field(default=1.0, metadata=by(number(least=-1e6, most=1e6)))
    shift: float = field(default=0.0, metadata=by(number(least=-1e6, most=1e6)))

    def __post_init__(self) -> None:
        """Check and tidy the values."""
        super().__post_init__()
        if self.cycles is None and self.gain == 1.0 and self.shift == 0.0:
            raise Mistake("concept_drift changes nothing; give cycles, gain or shift", key="kind")


DRIFT_KINDS: Final[Mapping[str, type[Event]]] = {
    kind.kind: kind for kind in (LabelDrift, ConceptDrift)
}


def change_times_s(drifts: Sequence[Drift]) -> tuple[float, ...]:
    """Return the times at which anything changes, ascending, each once."""
    return tuple(sorted({time_s for drift in drifts for time_s in drift.change_times_s()}))


def _is_class(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_CLASSES
