"""The work that all systems do, as numbers: needs numpy alone, so that every environment has it.

Data, starting weights and sizes are written once, to a file that all systems read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
NUM_CLASSES: Final = 10
NUM_TEST: Final = 2000
LR: Final = 0.1


@dataclass(frozen=True)
class Work:
    """One federation: who trains what, on how much data.

    Attributes
    ----------
    title
        What it is, for people.
    shape
        Shape of one input.
    clients, cohort
        All clients, and those that train in a round.
    fewest, most
        Examples of a client. One epoch is the same number of batches for all of them, so that
        systems that count epochs and systems that count steps do the same work.
    batch
        Examples of a step.
    signal
        How far the centres of two classes lie apart, in deviations of the noise.
    rounds
        Rounds of a full run.
    """

    title: str
    shape: tuple[int, ...]
    clients: int
    cohort: int
    fewest: int
    most: int
    batch: int
    signal: float
    rounds: int

    @property
    def steps(self) -> int:
        """Batches of one epoch."""
        return -(-self.most // self.batch)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the model's arrays, in PyTorch's order: weights are ``[out, in, ...]``."""
        if len(self.shape) == 1:
            return [(64, *self.shape), (64,), (NUM_CLASSES, 64), (NUM_CLASSES,)]
        return [
            (6, 1, 5, 5),
            (6,),
            (16, 6, 5, 5),
            (16,),
            (120, 400),
            (120,),
            (84, 120),
            (84,),
            (NUM_CLASSES, 84),
            (NUM_CLASSES,),
        ]


WORKS: Final = {
    "A": Work("MLP 64-64-10, 50 of 1,000", (64,), 1000, 50, 21, 30, 10, 3.0, 60),
    "B": Work("MLP 784-64-10, 10 of 100 x 100", (784,), 100, 10, 100, 100, 10, 3.0, 60),
    "C": Work("LeNet, 20 of 200 x 60", (1, 28, 28), 200, 20, 60, 60, 20, 40.0, 20),
}


@dataclass(frozen=True, eq=False)
class Data:
    """What a file of a work holds.

    Attributes
    ----------
    inputs, targets
        Examples of all clients, one client after the other.
    ends
        Where each client's examples end, with 0 before; shape [clients + 1].
    test_inputs, test_targets
        What models are judged on.
    weights
        Starting weights, in the order of `Work.shapes`.
    """

    inputs: Floats
    targets: NDArray[np.int64]
    ends: NDArray[np.int64]
    test_inputs: Floats
    test_targets: NDArray[np.int64]
    weights: list[Floats]

    def clients(self, array: Any) -> list[Any]:
        """Return each client's part of an array over all examples."""
        return [array[begin:end] for begin, end in pairwise(self.ends.tolist())]


def make(work: Work, path: Path, seed: int) -> None:
    """Write the data of a work: Gaussian clouds, one per class."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(work.fewest, work.most + 1, work.clients)
    centres = rng.standard_normal((NUM_CLASSES, *work.shape), np.float32)
    centres *= np.float32(work.signal / np.sqrt(2 * prod(work.shape)))
    arrays: dict[str, Any] = {"ends": np.concatenate([[0], np.cumsum(sizes)])}
    for name, count in (("", int(sizes.sum())), ("test_", NUM_TEST)):
        targets = rng.integers(0, NUM_CLASSES, count)
        noise = rng.standard_normal((count, *work.shape), np.float32)
        arrays |= {f"{name}targets": targets, f"{name}inputs": centres[targets] + noise}
    for index, shape in enumerate(work.shapes):
        # As PyTorch draws them: uniform within one over the root of the inputs of a unit.
        fan_in = prod(work.shapes[index - index % 2][1:])
        bound = 1.0 / np.sqrt(fan_in)
        arrays[f"weight{index}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
    np.savez(path, **arrays)


def load(path: Path) -> Data:
    """Return what `make` wrote."""
    with np.load(path) as file:
        weights = [file[f"weight{i}"] for i in range(sum(n.startswith("weight") for n in file))]
        return Data(
            inputs=file["inputs"],
            targets=file["targets"],
            ends=file["ends"],
            test_inputs=file["test_inputs"],
            test_targets=file["test_targets"],
            weights=weights,
        )
