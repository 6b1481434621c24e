"""Some nodes of a fleet with everything that their behaviour is computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daafl.simulation.fleet.attention import Regard, regard
from daafl.simulation.fleet.battery import Power
from daafl.simulation.fleet.chances import Chance, key_of
from daafl.simulation.fleet.columns import Columns
from daafl.simulation.fleet.presence import Rhythm, Spell
from daafl.simulation.fleet.thermal import Heat
from daafl.simulation.fleet.traces import Trace
from daafl.simulation.fleet.traits import Traits
from daafl.simulation.world import Nodes, Seconds


@dataclass(frozen=True, eq=False)
class Members:
    """Nodes of a fleet; arrays of shape [k].

    Attributes
    ----------
    nodes
        Indices.
    columns, traits
        What is their own, and what they have in common with their class.
    seed
        Seed of the fleet.
    trace
        A recording of some nodes; ``None`` for none.
    """

    nodes: Nodes
    columns: Columns
    traits: Traits
    seed: int
    trace: Trace | None

    def of(self, chosen: NDArray[np.int64]) -> Members:
        """Return those at the given positions."""
        columns = Columns(*(values[chosen] for values in self.columns))
        traits = Traits(*(values[chosen] for values in self.traits))
        return Members(self.nodes[chosen], columns, traits, self.seed, self.trace)

    def online_from(self, at_s: Seconds) -> Seconds:
        """Return the times, or when the devices are online next; inf stays inf."""
        is_finite = np.isfinite(at_s)
        spell = self.spells(np.where(is_finite, at_s, 0.0))
        return np.where(is_finite, np.maximum(spell.begins_at_s, at_s), np.inf)

    def spells(self, at_s: Seconds) -> Spell:
        """Return the stay online that a finite time lies in, or else the next one."""
        spell = self._rhythm.spells(at_s)
        return spell if self.trace is None else self.trace.over(spell, self.nodes, at_s)

    def finished(self, spell: Spell, begins_at_s: Seconds, lasts_s: Seconds) -> Seconds:
        """Return when work is done that begins in a spell and pauses between spells."""
        done_at_s = self._rhythm.finished(spell, begins_at_s, lasts_s)
        if self.trace is None:
            return done_at_s
        return self.trace.finished(done_at_s, spell, self.nodes, begins_at_s, lasts_s)

    @property
    def _rhythm(self) -> Rhythm:
        traits = self.traits
        return Rhythm(
            key_of(self.seed, Chance.PRESENCE),
            self.nodes,
            phase_s=self.columns.clock_s + traits.starts_s,
            stay_s=traits.stay_s,
            jitter_s=traits.jitter_s,
            period_s=traits.period_s,
        )

    @property
    def power(self) -> Power:
        """Their batteries."""
        traits = self.traits
        return Power(
            drain_per_s=traits.drain_per_s,
            charge_per_s=traits.charge_per_s,
            plugged_from_s=self.columns.clock_s + traits.plugged_from_s,
            plugged_for_s=traits.plugged_for_s,
            least_charge=traits.least_charge,
        )

    @property
    def heat(self) -> Heat:
        """How they warm up."""
        return Heat(self.traits.steady_c, self.traits.limit_c, self.traits.cooling_s)

    def regard(self, at_s: Seconds) -> Regard:
        """Return whether their tabs are visible and their users active."""
        return regard(
            (key_of(self.seed, Chance.VISIBLE), key_of(self.seed, Chance.ACTIVE)),
            self.nodes,
            at_s,
            lasts_s=self.traits.attention_s,
            fractions=(self.traits.visible_fraction, self.traits.active_fraction),
        )

    def speed(self, at_s: Seconds) -> NDArray[np.float64]:
        """Return how fast they are when they begin at a time, relative to full speed."""
        tab, traits = self.regard(at_s), self.traits
        speed = np.where(tab.is_visible, 1.0, traits.hidden_speed)
        speed = speed * np.where(tab.is_active, traits.active_speed, 1.0)
        if self.trace is None:
            return speed
        return speed * self.trace.factors(self.nodes, at_s).speed

    def bandwidth(self, mbps: NDArray[np.float64], at_s: Seconds) -> NDArray[np.float64]:
        """Return their own bandwidths, narrowed to what a recording says of a time."""
        if self.trace is None:
            return mbps
        return np.minimum(mbps, self.trace.factors(self.nodes, at_s).bandwidth_mbps)
