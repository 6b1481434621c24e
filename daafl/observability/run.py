"""A run as it is read back: what a report is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from daafl.observability.events import RunInfo, RunSummary, StepRecord


@dataclass(frozen=True)
class Baseline:
    """What the same model reaches when it is trained on all data in one place.

    Parameters
    ----------
    accuracy, loss
        On the evaluation data of the run; ``None`` when not measured.
    description
        How it was trained, in words.

    Raises
    ------
    ValueError
        For a loss that is not finite, or an accuracy outside [0, 1].
    """

    accuracy: float | None = None
    loss: float | None = None
    description: str = "centralised training"

    def __post_init__(self) -> None:
        """Refuse numbers that could not be drawn."""
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"Baseline.accuracy must be in [0, 1], got {self.accuracy}")
        if self.loss is not None and not math.isfinite(self.loss):
            raise ValueError(f"Baseline.loss must be finite, got {self.loss}")


@dataclass(frozen=True)
class Run:
    """Everything that a run folder tells.

    Parameters
    ----------
    name
        Name of the folder.
    info, steps, summary
        The observer's events; ``summary`` is ``None`` when the run was cut off or still goes on.
    config
        Text of ``config.yaml``; empty when the run was not started from one.
    header, journal
        First line and further lines of ``journal.jsonl``; ``None`` and empty without a journal.
    baseline
        Centralised training to compare with, if somebody measured it.
    notes
        What was found damaged while reading, one sentence each.
    left_out
        Numbers of the lines of ``rounds.jsonl`` that are damaged and missing from ``steps``.
    """

    name: str
    info: RunInfo
    steps: tuple[StepRecord, ...]
    summary: RunSummary | None = None
    config: str = ""
    header: Mapping[str, object] | None = None
    journal: tuple[Mapping[str, object], ...] = ()
    baseline: Baseline | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()

    @property
    def rounds(self) -> tuple[StepRecord, ...]:
        """The steps that trained, without the probes."""
        return tuple(step for step in self.steps if step.kind == "train")
