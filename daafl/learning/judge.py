"""Runs a batch through a task's model, loss and metrics, and says clearly what does not fit."""

from copy import deepcopy
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from daafl.errors import DataError
from daafl.learning.examples import Examples
from daafl.learning.packed_model import seeded
from daafl.learning.task import Task

IMAGE_DIMENSIONS: Final = 4
"""Axes of a batch of images: examples, channels, height, width."""

_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What torch and users' code raise when shapes, types or class numbers do not fit."""


class Judge:
    """The loss and the metrics of one model.

    Parameters
    ----------
    task
        Whose loss and metrics count.
    module
        The model; its first parameter gives the number type of inputs.

    Attributes
    ----------
    dtype
        Number type of inputs.
    """

    def __init__(self, task: Task, module: nn.Module) -> None:
        self._task = task
        self._module = module
        self._has_channels_last: bool | None = None
        self.dtype = next(
            (p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32
        )

    def tensors(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Return inputs and targets as tensors: numbers in the model's type, integers as int64.

        Raises
        ------
        DataError
            If there is no example, or something that is not a number.
        """
        if len(examples) == 0:
            raise DataError(f"task {self._task.name!r} got no examples; at least one is needed")
        return self._tensor(examples.inputs, "inputs"), self._tensor(examples.targets, "targets")

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Raises
        ------
        DataError
            If the model or the loss fails on the batch, or the loss is no scalar.
        """
        return self._outputs_and_loss(inputs, targets)[1]

    def losses(self, inputs: Tensor, targets: Tensor) -> list[float]:
        """Return the loss of each example of a batch, taken as a batch of its own.

        The model is called once for all of them if its output is one tensor with a row for each.

        Raises
        ------
        DataError
            As `loss` does.
        """
        outputs = self._outputs(inputs)
        has_rows = isinstance(outputs, Tensor) and outputs.dim() > 0 and len(outputs) == len(inputs)
        if has_rows and self._is_usual_loss(targets):
            return self._cross_entropies(outputs, targets)
        losses = []
        for index in range(len(inputs)):
            own = slice(index, index + 1)
            row = outputs[own] if has_rows else self._outputs(inputs[own])
            losses.append(float(self._loss_of(row, targets[own])))
        return losses

    def _is_usual_loss(self, targets: Tensor) -> bool:
        """Return whether the loss is the mean cross entropy, over every single target."""
        is_own = type(self._task).loss is not Task.loss
        return not is_own and not targets.is_floating_point() and bool((targets >= 0).all())

    def _cross_entropies(self, outputs: Tensor, targets: Tensor) -> list[float]:
        """Return the loss of each example at once: a call for each takes longer than the model."""
        try:
            each = functional.cross_entropy(
                outputs.flatten(0, -2), targets.flatten(), reduction="none"
            )
        except _MISFITS as error:
            raise self._misfit("loss()", outputs, targets, error) from error
        losses: list[float] = each.reshape(len(outputs), -1).mean(1).tolist()
        return losses

    def figures(self, inputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the mean ``loss`` of a batch and the task's metrics.

        Raises
        ------
        DataError
            As `loss` does, and if the metrics fail.
        """
        outputs, loss = self._outputs_and_loss(inputs, targets)
        try:
            metrics = self._task.metrics(outputs, targets)
            figures = {name: float(value) for name, value in metrics.items()}
        except _MISFITS as error:
            raise self._misfit("metrics()", outputs, targets, error) from error
        return {"loss": float(loss)} | {k: v for k, v in figures.items() if k != "loss"}

    def _outputs_and_loss(self, inputs: Tensor, targets: Tensor) -> tuple[Any, Tensor]:
        outputs = self._outputs(inputs)
        return outputs, self._loss_of(outputs, targets)

    def _outputs(self, inputs: Tensor) -> Any:
        if inputs.dim() == IMAGE_DIMENSIONS and self._takes_channels_last(inputs):
            inputs = inputs.to(memory_format=torch.channels_last)
        try:
            return self._module(inputs)
        except _MISFITS as error:
            raise DataError(
                f"the model of task {self._task.name!r} failed on inputs {_kind(inputs)}: "
                f"{_sentence(error)}"
            ) from error

    def _takes_channels_last(self, images: Tensor) -> bool:
        """Return whether the model runs on images whose channels lie side by side.

        Convolutions and above all pooling take a third less time then. A model that calls ``view``
        on what comes out of them fails; a copy of it is asked once, so that nothing is changed.
        """
        if self._has_channels_last is None:
            pair = images[[0, -1]].to(memory_format=torch.channels_last)
            try:
                module = deepcopy(self._module)
                with torch.no_grad(), seeded(0):
                    module.train()(pair)
                    module.eval()(pair)
                self._has_channels_last = True
            except _MISFITS:
                self._has_channels_last = False
        return self._has_channels_last

    def _loss_of(self, outputs: Any, targets: Tensor) -> Tensor:
        try:
            loss = self._task.loss(outputs, targets)
        except _MISFITS as error:
            raise self._misfit("loss()", outputs, targets, error) from error
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise DataError(
                f"loss() of task {self._task.name!r} returned {_kind(loss)}; it must return a "
                "scalar tensor, such as the mean over the batch"
            )
        return loss

    def _misfit(self, what: str, outputs: Any, targets: Tensor, error: Exception) -> DataError:
        return DataError(
            f"{what} of task {self._task.name!r} failed on outputs {_kind(outputs)} and targets "
            f"{_kind(targets)}: {_sentence(error)}"
        )

    def _tensor(self, values: object, what: str) -> Tensor:
        if isinstance(values, Tensor):
            tensor = values.detach()
        else:
            array = np.ascontiguousarray(np.asarray(values))
            try:
                tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
            except TypeError as error:
                raise DataError(
                    f"the {what} of task {self._task.name!r} have number type {array.dtype}; "
                    "they must be numbers"
                ) from error
        if tensor.is_floating_point():
            return tensor.to(self.dtype)
        return tensor if tensor.dtype in (torch.bool, torch.int64) else tensor.to(torch.int64)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype}{list(value.shape)}".removeprefix("torch.")
    return type(value).__name__


def _sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
