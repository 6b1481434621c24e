"""Which nodes of a simulated federation are hostile, when, and in what way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from daafl.errors import ConfigError
from daafl.simulation.attacks.behaviour import Behaviour
from daafl.simulation.attacks.lies import Lies

_STREAM: Final = 0xA77AB  # keeps the draw of the attackers apart from other draws of the run


@dataclass(frozen=True)
class Attack:
    """Some nodes that do not follow the protocol.

    Rounds are counted by the version of the model that nodes are sent: round 1 trains version 0.
    They are the run's own rounds unless a step gave no new model or the run went back to an older
    one.

    Parameters
    ----------
    does
        What attackers do when they are asked to train.
    share
        Share of the nodes that are hostile, rounded down, but at least one node.
    nodes
        Exactly which nodes, in place of a draw; ``None`` draws them.
    start, stop
        First and last round of the attack; ``None`` for no end.
    lies
        What attackers say about themselves in those rounds; the truth by default.
    seed
        Seed of the draw of the attackers.
    start_s, stop_s
        Virtual times between which attackers are hostile, the last one excluded; ``None`` for no
        end. Rounds and times must both agree.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> from daafl.simulation.attacks import SignFlip
    >>> attack = Attack(SignFlip(scale=3.0), share=0.2, start=15)
    >>> attack.attackers(10)
    (2, 7)
    >>> attack.is_active(14), attack.is_active(15)
    (False, True)
    """

    does: Behaviour
    share: float = 0.2
    nodes: Sequence[int] | None = None
    start: int = 1
    stop: int | None = None
    lies: Lies = field(default_factory=Lies)
    seed: int = 0
    start_s: float = 0.0
    stop_s: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.share < 1.0:
            raise ConfigError(f"attack.share is {self.share}, but must be between 0 and 1")
        if self.start < 1:
            raise ConfigError(f"attack.start is {self.start}, but must be 1 or more")
        if self.stop is not None and self.stop < self.start:
            raise ConfigError(
                f"attack.stop is {self.stop}, but must not come before attack.start={self.start}"
            )
        if self.seed < 0:
            raise ConfigError(f"attack.seed is {self.seed}, but must be 0 or more")
        if not 0.0 <= self.start_s < math.inf:
            raise ConfigError(f"attack.start_s is {self.start_s}, but must be 0 or more")
        if self.stop_s is not None and not self.stop_s > self.start_s:
            raise ConfigError(
                f"attack.stop_s is {self.stop_s}, but must come after attack.start_s={self.start_s}"
            )
        if self.nodes is not None:
            # A list from a configuration file would make the attack unhashable.
            object.__setattr__(self, "nodes", tuple(sorted(set(self.nodes))))

    def attackers(self, num_nodes: int) -> tuple[int, ...]:
        """Return the logical ids of the attackers among so many nodes, ascending.

        Raises
        ------
        ConfigError
            If there is no such node.
        """
        if self.nodes is not None:
            for node in self.nodes:
                if not 0 <= node < num_nodes:
                    raise ConfigError(
                        f"attack.nodes names node {node}, but nodes are 0 to {num_nodes - 1}"
                    )
            return tuple(self.nodes)
        # Rounded first: 0.3 * 30 is a little less than 9.
        count = max(1, int(round(self.share * num_nodes, 6)))
        rng = np.random.default_rng([self.seed, _STREAM])
        return tuple(sorted(int(node) for node in rng.choice(num_nodes, count, replace=False)))

    def is_active(self, round_number: int, time_s: float = 0.0) -> bool:
        """Return whether attackers misbehave in a round, counted from 1, at a virtual time."""
        if time_s < self.start_s or (self.stop_s is not None and time_s >= self.stop_s):
            return False
        if round_number < self.start or (self.stop is not None and round_number > self.stop):
            return False
        return self.does.strikes(round_number - self.start)
