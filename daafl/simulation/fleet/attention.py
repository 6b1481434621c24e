"""Browser tabs: a hidden tab is throttled, and so is one in which the user is busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from daafl.keyed_random import mixed, uniforms
from daafl.simulation.fleet.checking import check_fraction, check_positive
from daafl.simulation.fleet.presence import whole
from daafl.simulation.world import Nodes, Seconds


@dataclass(frozen=True)
class Attention:
    """Whether the tab is visible and the user active, drawn anew every few minutes.

    What holds when work begins holds until it ends.

    Parameters
    ----------
    visible_fraction, active_fraction
        How often the tab is visible, and how often the user is active.
    hidden_speed, active_speed
        Speed of a hidden tab, and of one with an active user, relative to full speed.
    minutes
        How long each of both stays as it is.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    visible_fraction: float
    active_fraction: float
    hidden_speed: float = 0.25
    active_speed: float = 0.5
    minutes: float = 5.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fraction(
            visible_fraction=self.visible_fraction,
            active_fraction=self.active_fraction,
            hidden_speed=self.hidden_speed,
            active_speed=self.active_speed,
        )
        check_positive(
            hidden_speed=self.hidden_speed, active_speed=self.active_speed, minutes=self.minutes
        )


class Regard(NamedTuple):
    """Whether tabs are visible and users active; arrays of shape [k]."""

    is_visible: NDArray[np.bool_]
    is_active: NDArray[np.bool_]


def regard(
    keys: tuple[int, int],
    nodes: Nodes,
    at_s: Seconds,
    *,
    lasts_s: Seconds,
    fractions: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Regard:
    """Return what holds at given times.

    Parameters
    ----------
    keys
        Key of the visibility and key of the activity.
    nodes, at_s
        Nodes and times; shape [k].
    lasts_s
        How long each stays as it is; shape [k].
    fractions
        How often tabs are visible and users active; shape [k] each.
    """
    interval = whole(at_s / lasts_s)
    visible, active = (uniforms(mixed(key, nodes, interval)) for key in keys)
    return Regard(visible < fractions[0], active < fractions[1])
