"""Trains and judges any torch model on the examples of one node, on the CPU."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from daafl.errors import ConfigError, DataError
from daafl.keyed_random import mixed
from daafl.learning.batches import batches, spread
from daafl.learning.descent import Descent
from daafl.learning.examples import Examples
from daafl.learning.judge import Judge
from daafl.learning.layout import Layout, Packed
from daafl.learning.packed_model import PackedModel, seeded
from daafl.learning.task import Task
from daafl.learning.work import LocalWork

__all__ = ["LocalWork", "TorchTrainer", "Trained"]

LOSS_EXAMPLES = 512
"""Most examples on which the losses of models are compared."""

EVALUATION_BATCH = 1024

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_NOISE = 1
"""Sets what is random in a model apart from the other uses of a key."""

LOWEST_PROBED_LOSS, HIGHEST_PROBED_LOSS = 1e-3, 1e3


@dataclass(frozen=True, eq=False)
class Trained:
    """What a local training gives.

    Attributes
    ----------
    packed
        The trained model.
    loss_before
        Mean loss of the model as it came in, on at most `LocalWork.judged_examples` of the node's
        examples, evenly spread and without dropout. Infinite or NaN if it is: guards look for that.
    num_examples
        Examples that the node has.
    steps
        Steps that were done.
    """

    packed: Packed
    loss_before: float
    num_examples: int
    steps: int


class TorchTrainer:
    """Trains the model of a task, with one model instance for all nodes.

    A training depends on nothing but its arguments. Parameters, buffers and counters all travel,
    in the order of ``state_dict``; parameters may have any number type that `Layout` knows. It is
    not for several threads at once, since they would share the instance.

    Parameters
    ----------
    task
        What to train.

    Attributes
    ----------
    judge
        Runs batches through the model and the loss.

    Raises
    ------
    ConfigError
        If ``task.model()`` does not return a model that can be trained and sent.

    Examples
    --------
    >>> from daafl.learning.tasks.digits import Digits
    >>> task = Digits()
    >>> trainer = TorchTrainer(task)
    >>> sent = trainer.initial(seed=0)
    >>> work = LocalWork(lr=0.1, steps=10, batch_size=16)
    >>> trained = trainer.train(sent, task.node_data(0, 30), work, key=0)
    >>> trained.packed.shape, trained.steps
    ((9640,), 10)
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._module = _new_module(task, seed=0)
        self._parameters = [p for p in self._module.parameters() if p.requires_grad]
        if not self._parameters:
            raise ConfigError(f"the model of task {task.name!r} has no trainable parameter")
        self._model = PackedModel(self._module)
        self.judge = Judge(task, self._module)
        # Batch normalisation has no variance to divide by in a batch of one.
        is_normalised = any(isinstance(m, BATCH_NORMS) for m in self._module.modules())
        self._least_batch = 2 if is_normalised else 1

    @property
    def layout(self) -> Layout:
        """Where the model's arrays lie in a packed one."""
        return self._model.layout

    def loaded(self, packed: Packed) -> nn.Module:
        """Return the model with the values of a packed one: the trainer's own, so nobody's to keep.

        Raises
        ------
        DataError
            If ``packed`` is not of this model's layout.
        """
        self._model.load(packed)
        return self._module

    def exported(self) -> Packed:
        """Return the values that the model of `loaded` has now."""
        return self._model.export()

    def initial(self, seed: int) -> Packed:
        """Return a new model's starting values; the same seed gives the same ones.

        Raises
        ------
        ConfigError
            If ``task.model()`` returns the same object, or another layout, than it did before.
        """
        module = _new_module(self.task, seed)
        if module is self._module:
            raise ConfigError(
                f"model() of task {self.task.name!r} returned the same model twice; it must build "
                "a new one each time"
            )
        model = PackedModel(module)
        if model.layout != self.layout:
            raise ConfigError(
                f"model() of task {self.task.name!r} returned models of different shapes; it must "
                "build the same one each time"
            )
        return model.export()

    @cached_property
    def untrained(self) -> Packed:
        """A new model's values, always the same: what a loss without any training is measured on.

        Raises
        ------
        ConfigError
            As `initial` does.
        """
        return self.initial(seed=0)

    def pack(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Packed:
        """Return arrays named as in ``state_dict`` as a packed model; see `PackedModel.pack`."""
        return self._model.pack(arrays)

    def unpack(self, packed: Packed) -> dict[str, npt.NDArray[Any]]:
        """Return a packed model as arrays named as in ``state_dict``, views into it."""
        return self._model.unpack(packed)

    def train(self, packed: Packed, examples: Examples, work: LocalWork, key: int) -> Trained:
        """Return the model after ``work.steps`` steps on a node's examples.

        Parameters
        ----------
        packed
            The model that was sent; stays as it is.
        examples
            The node's training examples.
        work
            Settings of the training.
        key
            64 bits that the batches, and what is random in the model such as dropout, depend on.

        Raises
        ------
        DataError
            If there is no example, or examples, model and loss do not fit together.
        """
        inputs, targets = self.judge.tensors(examples)
        self._model.load(packed)
        loss_before = self._spread_loss(inputs, targets, work.judged_examples)
        self._descend(inputs, targets, work, key)
        return Trained(self._model.export(), loss_before, len(examples), work.steps)

    def evaluate(self, packed: Packed, examples: Examples) -> dict[str, float]:
        """Return the mean ``loss`` and the task's metrics over all examples.

        Means of batches of 1,024 are weighted by their size. Values may be NaN or infinite.

        Raises
        ------
        DataError
            If there is no example, or examples, model, loss and metrics do not fit together.
        """
        inputs, targets = self.judge.tensors(examples)
        self._model.load(packed)
        self._module.eval()
        sums: dict[str, float] = {}
        with torch.no_grad():
            for start in range(0, len(examples), EVALUATION_BATCH):
                stop = min(start + EVALUATION_BATCH, len(examples))
                figures = self.judge.figures(inputs[start:stop], targets[start:stop])
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value * (stop - start)
        return {name: total / len(examples) for name, total in sums.items()}

    def losses(self, packed: Packed, examples: Examples) -> npt.NDArray[np.float64]:
        """Return the loss of each of at most 512 examples, evenly spread, without dropout.

        Values may be NaN or infinite.

        Raises
        ------
        DataError
            As `evaluate` does.
        """
        indices = torch.from_numpy(spread(len(examples), LOSS_EXAMPLES))
        inputs, targets = self.judge.tensors(examples)
        self._model.load(packed)
        self._module.eval()
        with torch.no_grad():
            return np.array(self.judge.losses(inputs[indices], targets[indices]))

    def probe(
        self,
        packed: Packed,
        examples: Examples,
        lrs: Sequence[float],
        work: LocalWork,
        key: int,
    ) -> tuple[float, ...]:
        """Return the log loss that throw-away copies end at, one for each learning rate.

        Every copy sees the same batches. The loss is measured as `Trained.loss_before` is and
        clipped to [0.001, 1000]; NaN counts as 1000.

        Raises
        ------
        DataError
            As `train` does.
        """
        inputs, targets = self.judge.tensors(examples)
        log_losses = []
        for lr in lrs:
            self._model.load(packed)
            self._descend(inputs, targets, replace(work, lr=lr), key)
            loss = self._spread_loss(inputs, targets, LOSS_EXAMPLES)
            loss = HIGHEST_PROBED_LOSS if math.isnan(loss) else loss
            log_losses.append(math.log(min(max(loss, LOWEST_PROBED_LOSS), HIGHEST_PROBED_LOSS)))
        return tuple(log_losses)

    def _descend(self, inputs: Tensor, targets: Tensor, work: LocalWork, key: int) -> None:
        descent = Descent(self._parameters, work)
        self._module.train()
        with seeded(int(mixed(key, _NOISE))):
            for batch in batches(
                len(inputs),
                batch_size=work.batch_size,
                steps=work.steps,
                key=key,
                least=self._least_batch,
            ):
                indices = torch.from_numpy(batch)
                loss = self.judge.loss(
                    inputs.index_select(0, indices), targets.index_select(0, indices)
                )
                if not loss.requires_grad:
                    raise DataError(
                        f"the loss of task {self.task.name!r} does not depend on the model's "
                        "parameters; compute it from the outputs, in torch"
                    )
                descent.step(torch.autograd.grad(loss, self._parameters, allow_unused=True))

    def _spread_loss(self, inputs: Tensor, targets: Tensor, limit: int) -> float:
        self._module.eval()
        if len(inputs) > limit:
            indices = torch.from_numpy(spread(len(inputs), limit))
            inputs, targets = inputs[indices], targets[indices]
        with torch.no_grad():
            return float(self.judge.loss(inputs, targets))


def _new_module(task: Task, seed: int) -> nn.Module:
    with seeded(seed):
        module = task.model()
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model() of task {task.name!r} returned {type(module).__name__}; it must return a "
            "torch.nn.Module"
        )
    return module
