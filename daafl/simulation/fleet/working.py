"""What becomes of work: throttled, paused, out of charge, crashed, left behind, or done."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.fleet.chances import Chance, key_of
from daafl.simulation.fleet.members import Members
from daafl.simulation.world import Bodies, Numbers, Seconds, Shift

BODY: Final = ("since_s", "charge", "excess_c")
"""Values of a body: when it was as it is, charge from 0 to 1, degrees above ambient."""


def worked(
    members: Members,
    numbers: Numbers,
    begins_at_s: Seconds,
    steps: NDArray[np.float64],
    bodies: Bodies,
) -> Shift:
    """Return what becomes of local steps; see `daafl.simulation.world.World.worked`.

    Work waits until the device is online. What holds then, for the tab and the user, holds until
    the end. Heat counts the seconds at work, cooling those between two pieces of work. The charge
    is settled at the end: work that needs more ends when the plug has given it.
    """
    power, heat, traits = members.power, members.heat, members.traits
    since_s, charge, excess_c = bodies.T
    spell = members.spells(begins_at_s)
    start_s = np.maximum(spell.begins_at_s, begins_at_s)
    returns = np.isfinite(start_s)
    start_s = np.where(returns, start_s, begins_at_s)
    charge = power.charge(charge, since_s, start_s)
    excess_c = heat.cooled(excess_c, start_s - since_s)

    cool_s = steps * members.columns.seconds_per_step / members.speed(start_s)
    lasts_s = np.where(returns, heat.lasts(excess_c, cool_s), 0.0)
    crashes = _crashes(members, numbers) & (lasts_s > 0)
    lasts_s = np.where(crashes, lasts_s * _crash_points(members, numbers), lasts_s)

    done_s = members.finished(spell, start_s, lasts_s)
    done_s = _charged(members, done_s, power.affords(charge, start_s, lasts_s))
    is_endless = np.isinf(done_s)  # nothing charges it, or it never comes back
    leaves = (traits.pauses == 0) & (done_s > spell.ends_at_s)
    fails = crashes | is_endless | leaves | ~returns

    if is_endless.any():
        lasts_s = np.where(is_endless, np.minimum(lasts_s, power.lasts(charge)), lasts_s)
        done_s = np.where(is_endless, start_s + lasts_s, done_s)
    if leaves.any():
        lasts_s = np.where(leaves, np.minimum(lasts_s, spell.ends_at_s - start_s), lasts_s)
        done_s = np.where(leaves, np.minimum(done_s, spell.ends_at_s), done_s)
    free_s = np.where(crashes & ~leaves, done_s + traits.restart_s, done_s)
    after = np.empty_like(bodies)
    after[:, 0] = free_s
    after[:, 1] = power.after(charge, start_s, free_s, lasts_s)
    after[:, 2] = heat.heated(excess_c, lasts_s)
    return Shift(np.where(fails, np.inf, done_s), free_s, after, traits.price_per_s * lasts_s)


def _crashes(members: Members, numbers: Numbers) -> NDArray[np.bool_]:
    drawn = uniforms(mixed(key_of(members.seed, Chance.CRASH), numbers))
    return drawn < members.traits.crash_fraction


def _crash_points(members: Members, numbers: Numbers) -> NDArray[np.float64]:
    return uniforms(mixed(key_of(members.seed, Chance.CRASH_POINT), numbers))


def _charged(members: Members, done_s: Seconds, ready_s: Seconds) -> Seconds:
    """Return when work is done that must wait for charge, on a device that must be online."""
    waits = np.flatnonzero(ready_s > done_s)
    if len(waits) == 0:
        return done_s
    done_s = done_s.copy()
    done_s[waits] = members.of(waits).online_from(ready_s[waits])
    return done_s
