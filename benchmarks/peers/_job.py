"""What every system is started with, and what it leaves: needs numpy alone."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _work import WORKS, Data, Work, load


@dataclass(frozen=True, eq=False)
class Job:
    """What one process is to do.

    Attributes
    ----------
    name, work, data
        The work's name in `WORKS`, the work, and its data.
    data_path
        File of the data.
    rounds, seed
        Number of rounds, and seed of what the system draws.
    variant
        What the system is to do differently; empty for nothing.
    out
        File for the result.
    """

    name: str
    work: Work
    data: Data
    data_path: Path
    rounds: int
    seed: int
    variant: str
    out: Path

    def finish(self, stamps: Sequence[float], weights: Sequence[Any], remark: str = "") -> None:
        """Write the result.

        Parameters
        ----------
        stamps
            `time.time` when the first round began, and at the end of every round.
        weights
            Arrays of the trained model, in the order and the shapes of `Work.shapes`.
        remark
            What is to be said on the run.
        """
        if len(stamps) != self.rounds + 1:
            sys.exit(f"{len(stamps) - 1} rounds were timed, not {self.rounds}")
        arrays = {f"weight{i}": np.asarray(a, np.float32) for i, a in enumerate(weights)}
        shapes = [a.shape for a in arrays.values()]
        if shapes != self.work.shapes:
            sys.exit(f"the model has arrays of shapes {shapes}, not {self.work.shapes}")
        np.savez(self.out, stamps=np.array(stamps), remark=np.array(remark), **arrays)


def job() -> Job:
    """Return the job that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=WORKS, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    return Job(
        given.work,
        WORKS[given.work],
        load(given.data),
        given.data.resolve(),
        given.rounds,
        given.seed,
        given.variant,
        given.out,
    )


def stamp() -> float:
    """Return the time, on the clock of all processes of the machine."""
    return time.time()
