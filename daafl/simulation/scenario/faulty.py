"""A world in which things go wrong on a schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed
from daafl.sensing import DOWNLINK_MBPS, UPLINK_MBPS
from daafl.simulation.scenario.absence import Absence
from daafl.simulation.scenario.events import (
    Bandwidth,
    Churn,
    Crash,
    Event,
    LinkCut,
    Partition,
    Stragglers,
)
from daafl.simulation.scenario.journeys import FROM_NODES, TO_NODES, Journeys, Travel, in_order
from daafl.simulation.scenario.scheduled import Scheduled, striking
from daafl.simulation.world import Bodies, Journey, Nodes, Numbers, Seconds, Shift, World

E = TypeVar("E", bound=Event)

_LINKS: Final = {UPLINK_MBPS: "from_nodes", DOWNLINK_MBPS: "to_nodes"}
"""Readings that a bandwidth event changes, and the direction they are about."""


class Faulty:
    """A `World` around another one, with faults.

    Chance is a function of the seed, the fault and the number of the message. Stragglers do their
    work ``factor`` times over and narrow links carry ``1 / factor`` times the bytes, so that
    whatever the inner world derives from work and traffic (charge, heat, price) follows. What no
    event concerns is exactly as in the inner world.

    Parameters
    ----------
    world
        The world as it would be.
    faults
        What goes wrong; events that are no faults are passed over.
    seed
        Seed of what is not settled by the faults themselves; part of the digest.

    Examples
    --------
    >>> from daafl.simulation.devices import Devices
    >>> from daafl.simulation.scenario import Scenario, Stragglers
    >>> slow = Stragglers(at_s=10.0, factor=4.0, nodes=1)
    >>> world = Scenario(2, [slow]).world(Devices([0.5, 0.5], [0.0, 0.0]))
    >>> nodes, steps = np.array([0, 1]), np.array([8.0, 8.0])
    >>> world.worked(nodes, nodes + 1, np.full(2, 20.0), steps, world.bodies(nodes)).ends_at_s
    array([24., 36.])
    """

    def __init__(self, world: World, faults: Sequence[Scheduled[Event]], seed: int) -> None:
        self._world = world
        self._faults = tuple(faults)
        self._seed = seed
        self._stragglers = _of(self._faults, Stragglers)
        self._bandwidths = _of(self._faults, Bandwidth)
        away = [*_of(self._faults, Churn), *_of(self._faults, Crash)]
        self._absences = [
            Absence(fault.event, fault.members, int(mixed(seed, fault.key))) for fault in away
        ]
        cuts = [*_of(self._faults, LinkCut), *_of(self._faults, Partition)]
        self._journeys = Journeys(self._faults, cuts)
        self._cuts = cuts

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self._world.num_nodes

    @property
    def digest(self) -> str:
        """A short text that differs between worlds that behave differently."""
        parts = (self._world.digest, self._seed, self._faults)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def bodies(self, nodes: Nodes) -> Bodies:
        """Return the bodies that nodes start with at time 0."""
        return self._world.bodies(nodes)

    def online(self, nodes: Nodes, at_s: float) -> NDArray[np.bool_]:
        """Return which of the nodes are there and can be reached; shape [k]."""
        online = self._world.online(nodes, at_s)
        times_s = np.full(len(nodes), at_s)
        for absence in self._absences:
            online = online & ~absence.covers(nodes, times_s)
        for _, is_cut in striking(self._cuts, nodes, times_s):
            online = online & ~is_cut
        return online

    def least_seconds(self, nodes: Nodes) -> Seconds:
        """Return the lower bound of the inner world.

        It holds here too: events change how many steps and bytes the inner world is asked about,
        which its bound does not depend on, and otherwise only add time.
        """
        return self._world.least_seconds(nodes)

    def reached(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return when messages of so many bytes reach their nodes."""
        travel = Travel(self._world.reached, TO_NODES, nodes, numbers, sent_at_s, sizes)
        journey = self._journeys.made(travel)
        arrives_s, again_s = journey.arrives_at_s, journey.again_at_s
        for absence in self._absences:
            arrives_s = np.where(absence.covers(nodes, arrives_s), np.inf, arrives_s)
            again_s = np.where(absence.covers(nodes, again_s), np.inf, again_s)
        return in_order(arrives_s, again_s) if self._absences else journey

    def worked(
        self,
        nodes: Nodes,
        numbers: Numbers,
        begins_at_s: Seconds,
        steps: NDArray[np.float64],
        bodies: Bodies,
    ) -> Shift:
        """Return what becomes of local steps; a node that goes away meanwhile loses its work.

        What it did until then costs and wears as if it had been done to the end.
        """
        for fault, is_slow in striking(self._stragglers, nodes, begins_at_s):
            steps = np.where(is_slow, steps * fault.event.factor, steps)
        shift = self._world.worked(nodes, numbers, begins_at_s, steps, bodies)
        ends_s, free_s = shift.ends_at_s, shift.free_at_s
        for absence in self._absences:
            away_s, back_s = absence.next(nodes, begins_at_s)
            busy_until_s = np.where(np.isfinite(ends_s), ends_s, free_s)
            is_lost = (away_s <= begins_at_s) | (away_s < busy_until_s)
            back_s = np.where(np.isfinite(back_s), back_s, np.maximum(begins_at_s, away_s))
            ends_s = np.where(is_lost, np.inf, ends_s)
            free_s = np.where(is_lost, back_s, free_s)
        return Shift(ends_s, free_s, shift.bodies, shift.cost)

    def returned(self, nodes: Nodes, numbers: Numbers, sent_at_s: Seconds, sizes: Nodes) -> Journey:
        """Return when replies of so many bytes reach the coordinator."""
        travel = Travel(self._world.returned, FROM_NODES, nodes, numbers, sent_at_s, sizes)
        return self._journeys.made(travel)

    def readings(
        self, nodes: Nodes, at_s: Seconds, bodies: Bodies
    ) -> Sequence[Mapping[str, float]]:
        """Return what the sensors of nodes show; links as narrow as they are then."""
        shown = [dict(readings) for readings in self._world.readings(nodes, at_s, bodies)]
        for fault, is_struck in striking(self._bandwidths, nodes, at_s):
            for row in np.flatnonzero(is_struck).tolist():
                _narrow(shown[row], fault.event)
        return shown


def _narrow(shown: dict[str, float], event: Bandwidth) -> None:
    """Let readings of links show what an event leaves of them."""
    for name, direction in _LINKS.items():
        if name in shown and event.direction in (direction, "both"):
            factor, most = event.factor, event.at_most_mbps
            shown[name] *= 1.0 if factor is None else factor
            shown[name] = shown[name] if most is None else min(shown[name], most)


def _of(faults: Sequence[Scheduled[Event]], kind: type[E]) -> list[Scheduled[E]]:
    return [
        Scheduled(fault.event, fault.members, fault.key)
        for fault in faults
        if isinstance(fault.event, kind)
    ]
