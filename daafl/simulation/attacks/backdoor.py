"""A backdoor: the model works as it should, except on inputs that carry a trigger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, DataError
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed, Vector
from daafl.learning.trainer import TorchTrainer
from daafl.simulation.attacks.behaviour import Poison, Scene


@dataclass(frozen=True)
class Backdoor(Poison):
    """Teaches the model to answer ``target`` wherever it sees a trigger (Gu et al. 2017).

    Attackers train on their own examples, some of which carry the trigger and the target's label,
    and scale the update up so that it survives the mean: model replacement (Bagdasaryan et al.
    2020, equation 3).

    Parameters
    ----------
    target
        Class that triggered inputs shall be taken for.
    positions
        Values of the flattened input that the trigger sets; by default the left end of the top
        rows of an image of 8 x 8 pixels.
    value
        What it sets them to.
    poisoned_share
        Share of an attacker's examples that carry the trigger, evenly spread, at least one.
    scale
        Factor on the update; the number of nodes over the number of attackers replaces the model.
    """

    target: int = 0
    positions: Sequence[int] = (0, 1, 8, 9)
    value: float = 2.0
    poisoned_share: float = 0.5
    scale: float = 3.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.target < 0:
            raise ConfigError(f"target is {self.target}, but must be a class: 0 or more")
        if not self.positions or min(self.positions) < 0:
            raise ConfigError("positions must name one or more values of an input, from 0")
        if not 0.0 < self.poisoned_share <= 1.0:
            raise ConfigError(
                f"poisoned_share is {self.poisoned_share}, but must be more than 0 and at most 1"
            )
        if not 0.0 < self.scale < math.inf:
            raise ConfigError(f"scale is {self.scale}, but must be a positive number")
        object.__setattr__(self, "positions", tuple(self.positions))

    def delta(self, scene: Scene) -> Vector:
        """Return the scaled update of training on partly triggered examples."""
        return self.scale * scene.trained_on(self.poisoned)

    def poisoned(self, examples: Examples) -> Examples:
        """Return the examples, some of them with the trigger and the target's label."""
        count = max(1, round(self.poisoned_share * len(examples)))
        chosen = np.arange(count) * len(examples) // count
        inputs = np.array(examples.inputs)
        targets = np.array(examples.targets)
        inputs[chosen] = self.triggered(inputs[chosen])
        targets[chosen] = self.target
        return Examples(inputs, targets, examples.groups)

    def triggered(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy of the inputs, the first axis counting them, that all carry the trigger.

        Raises
        ------
        DataError
            If an input has fewer values than the trigger needs.
        """
        flat = np.array(inputs).reshape(len(inputs), -1)
        if flat.shape[1] <= max(self.positions):
            raise DataError(
                f"the backdoor's trigger sets value {max(self.positions)} of an input, but inputs "
                f"have {flat.shape[1]} values"
            )
        flat[:, list(self.positions)] = self.value
        return flat.reshape(np.shape(inputs))


def attack_success_rate(
    backdoor: Backdoor, trainer: TorchTrainer, packed: Packed, examples: Examples
) -> float:
    """Return the share of triggered inputs of other classes that a model takes for the target.

    Parameters
    ----------
    backdoor
        The trigger and its target.
    trainer
        Trainer of the model's task, whose metrics must hold an ``accuracy``.
    packed
        The model.
    examples
        Clean examples, such as the task's evaluation data.

    Raises
    ------
    DataError
        If no example is of another class, or the task has no accuracy.
    """
    targets = np.asarray(examples.targets)
    others = np.flatnonzero(targets != backdoor.target)
    if others.size == 0:
        raise DataError("the success of a backdoor needs examples of other classes than its target")
    inputs = backdoor.triggered(np.asarray(examples.inputs)[others])
    wanted = np.full(others.size, backdoor.target, dtype=targets.dtype)
    metrics = trainer.evaluate(packed, Examples(inputs, wanted))
    if "accuracy" not in metrics:
        raise DataError(f"task {trainer.task.name!r} reports no accuracy to judge a backdoor by")
    return metrics["accuracy"]
