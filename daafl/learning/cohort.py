"""Trains many nodes together, in the way that is fastest for the task at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import torch

from daafl.errors import ConfigError, DataError
from daafl.learning.choice import Choice, Method
from daafl.learning.computation import CohortSum, CohortTrained, Computation
from daafl.learning.layout import Packed
from daafl.learning.member import Member, NotBatched
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.learning.trial import chosen

__all__ = ["Choice", "CohortSum", "CohortTrained", "CohortTrainer", "Member"]

Precision: TypeAlias = Literal["float32", "bfloat16"]

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CohortTrainer:
    """Trains the members of a cohort: `TorchTrainer` for many nodes.

    The members' models are stacked and trained as one where that is faster, and one after the other
    where it is not: for most convolutional networks on a CPU, and for what cannot be batched. Both
    give the same arrays up to rounding. It is not for several threads at once.

    Parameters
    ----------
    task
        What to train.
    method
        How; ``auto`` tries all ways on the first members that come, see `choose`.
    device
        Where stacks are trained: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one. One
        member after the other is always trained on the CPU.
    precision
        Number type of products; weights and sums stay in float32.

    Attributes
    ----------
    choice
        How members are trained; ``None`` until the first ones come.

    Raises
    ------
    ConfigError
        If a method that was asked for cannot train this task, or as `TorchTrainer` does.

    Examples
    --------
    >>> import numpy as np
    >>> from daafl.learning.tasks.digits import Digits
    >>> from daafl.learning.work import LocalWork
    >>> task = Digits()
    >>> trainer = CohortTrainer(task, method="dense", device="cpu")
    >>> work = LocalWork(lr=0.1, steps=10, batch_size=16)
    >>> members = [Member(task.node_data(node, 30), work, key=node) for node in range(5)]
    >>> sent = trainer.trainer.initial(seed=0)
    >>> trained = trainer.train(sent, members)
    >>> trained.packed.shape
    (5, 9640)
    >>> single = trainer.trainer.train(sent, members[3].examples, work, key=3)
    >>> bool(np.allclose(trained.packed[3].view("f4"), single.packed.view("f4"), atol=1e-6))
    True
    """

    def __init__(
        self,
        task: Task,
        *,
        method: Literal["auto"] | Method = "auto",
        device: str = "auto",
        precision: Precision = "float32",
    ) -> None:
        if precision not in _DTYPES:
            raise ConfigError(f"precision is {precision!r}; it must be float32 or bfloat16")
        if method not in ("auto", *get_args(Method)):
            names = ", ".join(get_args(Method))
            raise ConfigError(f"method is {method!r}; it must be auto or one of {names}")
        has_gpu = torch.cuda.is_available()
        name = ("cuda" if has_gpu else "cpu") if device == "auto" else device
        self.trainer = TorchTrainer(task)
        self.choice: Choice | None = None
        self._device, self._precision = device, precision
        self._computation = Computation(self.trainer, torch.device(name), _DTYPES[precision])
        if method != "auto":
            self.load(Choice(method, "asked for", {}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as what it was made of: stacks and buffers are made anew where it arrives."""
        return _remade, (self.trainer.task, self._device, self._precision, self.choice)

    @property
    def chunk_size(self) -> int:
        """Members that train in one computation, at most.

        On a CPU it depends on the model alone; on a GPU it is what free memory holds.
        """
        return self._computation.chunk_size

    def choose(self, packed: Packed, members: Sequence[Member]) -> Choice:
        """Try all ways on one chunk of ``members``, then take and return the best.

        A batched way is taken if a few members' models come out as `TorchTrainer` trains them, but
        for rounding, and if it is clearly faster.

        Raises
        ------
        DataError
            If there is no member, or as `TorchTrainer.train` does.
        """
        _check(members)
        choice = chosen(self._computation, packed, members[: self.chunk_size])
        self.load(choice)
        return choice

    def load(self, choice: Choice) -> None:
        """Train as was chosen before, such as in the run that is resumed.

        Raises
        ------
        ConfigError
            If the model cannot be trained so.
        """
        if choice.method != "eager":
            try:
                self._computation.stack(choice.method)
            except NotBatched as error:
                raise ConfigError(
                    f"the model of task {self.trainer.task.name!r} cannot be trained by method "
                    f"{choice.method!r}: {error}; use 'auto'"
                ) from error
        self.choice = choice

    def train(self, packed: Packed, members: Sequence[Member]) -> CohortTrained:
        """Return every member's model after its training.

        Members that turn out not to go together, such as those with examples of different shapes,
        are trained one after the other.

        Parameters
        ----------
        packed
            The model that was sent; stays as it is.
        members
            Who trains, at least one.

        Raises
        ------
        DataError
            If there is no member, or as `TorchTrainer.train` does.
        """
        _check(members)
        choice = self.choice or self.choose(packed, members)
        return self._computation.train(choice.method, packed, members)

    def summed(self, packed: Packed, members: Sequence[Member]) -> CohortSum:
        """Return the mean update of all members, without a model for each.

        Raises
        ------
        DataError
            If there is no member, or as `TorchTrainer.train` does.
        """
        _check(members)
        choice = self.choice or self.choose(packed, members)
        return self._computation.summed(choice.method, packed, members)


def _remade(task: Task, device: str, precision: Precision, choice: Choice | None) -> CohortTrainer:
    trainer = CohortTrainer(task, device=device, precision=precision)
    if choice is not None:
        trainer.load(choice)
    return trainer


def _check(members: Sequence[Member]) -> None:
    if not members:
        raise DataError("a cohort has no member; it needs one at least")
