"""The run-wide values of ``conf/config.yaml``, with their types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daafl.errors import ConfigError

MAX_SEED = 2**32 - 1
TRAINERS = ("auto", "dense", "functional", "eager")


@dataclass(frozen=True)
class Root:
    """What belongs to the whole run and to no group.

    Parameters
    ----------
    seed
        Seed of everything random, from 0 to 2**32 - 1.
    num_nodes, num_rounds
        Nodes, and steps at most.
    evaluate_every
        Steps from one evaluation to the next; 0 for none.
    workers
        Processes that simulate nodes; ``None`` for one per core, 0 for none beside the main one.
    trainer
        How nodes that are asked together are trained: one of `TRAINERS`.
    baseline
        Whether to train on all data in one place as well.
    checkpoint_every
        Steps from one checkpoint to the next; 0 for none.
    knowledge
        ``fresh``, or the path of the file that carries what was learned from run to run.
    overrides
        Edits of the plan, each with the fields of `daafl.strategies.Override`.
    output_dir
        Folder of the run; ``None`` for a new one under ``runs/``.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    seed: int
    num_nodes: int
    num_rounds: int
    evaluate_every: int
    workers: int | None
    trainer: str
    baseline: bool
    checkpoint_every: int
    knowledge: str
    overrides: list[Mapping[str, Any]]
    output_dir: str | None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low in (
            ("num_nodes", 1),
            ("num_rounds", 1),
            ("evaluate_every", 0),
            ("checkpoint_every", 0),
        ):
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"{name} is {value}, but must be {low} or more")
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed is {self.seed}, but must be within [0, {MAX_SEED}]")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"workers is {self.workers}, but must be null, 0 or more")
        if self.trainer not in TRAINERS:
            raise ConfigError(f"trainer is {self.trainer!r}, but must be {' or '.join(TRAINERS)}")
        for name in ("knowledge", "output_dir"):
            if getattr(self, name) == "":
                raise ConfigError(f"{name} is empty, but must be a path")
