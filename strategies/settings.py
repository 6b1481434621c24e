"""How a federation runs, apart from the model and its optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass

from daafl.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How a federation runs, apart from the model and its optimiser.

    Parameters
    ----------
    seed
        Seed of everything random in the run.
    federation
        Name of the federation; updates that name another are refused.
    task
        Name of what is trained, for reports.
    min_nodes, node_timeout_s
        Nodes without which there is no federation, and how long to wait for them: at the start,
        and whenever fewer are left.
    evaluate_every
        Steps from one evaluation to the next; 0 for none.
    checkpoint_every
        Steps from one checkpoint to the next, if there is a folder for them; 0 for none.
    attackers
        Nodes that a simulation makes hostile, for the report alone; ``None`` where nobody can know.
    """

    seed: int = 0
    federation: str = "federation"
    task: str = "model"
    min_nodes: int = 2
    node_timeout_s: float = 60.0
    evaluate_every: int = 1
    checkpoint_every: int = 1
    attackers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, low in (
            ("seed", 0),
            ("min_nodes", 1),
            ("evaluate_every", 0),
            ("checkpoint_every", 0),
        ):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be {low} or more")
        if not 0 < self.node_timeout_s < math.inf:
            raise ConfigError(
                f"node_timeout_s is {self.node_timeout_s}, but must be a positive number of seconds"
            )
