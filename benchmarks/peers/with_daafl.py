"""daafl's side: the same work as a `Task`, run by `daafl.run` in one of several variants."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from _job import job, stamp
from _models import model
from _work import LR, Data, Work
from torch import nn

import daafl
from daafl.learning import Examples
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.strategies import LocalTraining, Pacing

_BARE: Final[dict[str, Any]] = {"loops": (), "checkpoint_every": 0, "workers": 0}

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "summed": {**_BARE, "exchange": "summed"},
    "lazy": {**_BARE, "exchange": "plain"},
    "default": {**_BARE, "loops": None},
    "default with checkpoints": {**_BARE, "loops": None, "checkpoint_every": 1},
    "lazy, all cores": {**_BARE, "workers": None},
    "summed, all cores": {**_BARE, "exchange": "summed", "workers": None},
}
"""Arguments of `daafl.run`; nobody evaluates, since the peers do not either."""


@dataclass(frozen=True)
class FromFile(daafl.Task):
    """A work as a task; it has no data to evaluate on."""

    name: ClassVar[str] = "peers"

    work: Work
    data: Data

    def model(self) -> nn.Module:
        """Return the model with the starting weights that all systems have."""
        return model(self.work, self.data.weights)

    def partition(self, node: int, num_nodes: int) -> Examples:
        """Return the examples of a client."""
        begin, end = self.data.ends[node : node + 2]
        return Examples(self.data.inputs[begin:end], self.data.targets[begin:end])


class Stamps:
    """Notes when steps end."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def started(self, info: RunInfo) -> None:
        """Note when the run begins."""
        self.stamps.append(stamp())

    def stepped(self, record: StepRecord) -> None:
        """Note that a step is over; a probe counts to the step that it precedes."""
        if record.kind == "train":
            self.stamps.append(stamp())

    def finished(self, summary: RunSummary) -> None:
        """Do nothing: the result has everything."""


def main() -> None:
    """Do the job of the command line."""
    torch.set_num_threads(1)
    given = job()
    work = given.work
    watch = Stamps()
    folder = Path(tempfile.mkdtemp(prefix="daafl-peers-"))
    try:
        result = daafl.run(
            FromFile(work, given.data),
            num_nodes=work.clients,
            num_rounds=given.rounds,
            pacing=Pacing(concurrency=work.cohort, quorum=work.cohort),
            training=LocalTraining(lr=LR, local_steps=work.steps, batch_size=work.batch),
            seed=given.seed,
            evaluate_every=0,
            output_dir=folder / "run",
            progress=watch,
            **VARIANTS[given.variant],
        )
    finally:
        shutil.rmtree(folder)
    given.finish(watch.stamps, list(result.arrays.values()), result.summary.reason)


if __name__ == "__main__":
    main()
