"""What a caller of `daafl.run` gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from daafl.learning.task import Task
from daafl.observability.events import RunSummary, Status


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Parameters
    ----------
    summary
        As in ``summary.json``.
    arrays
        The final model, named as in ``state_dict``.
    output_dir
        The run's folder, with ``report.html`` and the final model in ``checkpoints/model.npz``.
    task
        What was trained.
    """

    summary: RunSummary
    arrays: Mapping[str, npt.NDArray[Any]]
    output_dir: Path
    task: Task

    @property
    def status(self) -> Status:
        """How the run ended."""
        return self.summary.status

    def model(self) -> nn.Module:
        """Return the trained model, in evaluation mode."""
        module = self.task.model()
        module.load_state_dict({name: torch.tensor(array) for name, array in self.arrays.items()})
        return module.eval()
