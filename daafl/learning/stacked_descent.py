"""Stochastic gradient descent of many models at once, each with settings of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daafl.learning.chunk import Rates


class StackedDescent:
    """`daafl.learning.descent.Descent` on stacks: parameters of many members, member axis first.

    Parameters
    ----------
    stacks
        Trainable parameters, all at the values that were sent; updated in place. Shape of each:
        ``[members, ...]``.
    rates
        The members' settings.
    """

    def __init__(self, stacks: Sequence[Tensor], rates: Rates) -> None:
        self._stacks = stacks
        self._lr = torch.from_numpy(rates.lr).to(stacks[0])
        self._momentum = _unless_zero(rates.momentum, stacks[0])
        self._weight_decay = _unless_zero(rates.weight_decay, stacks[0])
        self._proximal_mu = _unless_zero(rates.proximal_mu, stacks[0])
        # All members start at the same values, so one of them tells what was sent.
        self._sent = [] if self._proximal_mu is None else [stack[:1].clone() for stack in stacks]
        self._velocities: dict[int, Tensor] = {}

    def step(self, index: int, gradient: Tensor) -> None:
        """Move the parameter at ``index`` of the first ``len(gradient)`` members.

        A gradient is added to something else and never written to: autograd may hand out one
        tensor for two parameters.
        """
        live = len(gradient)
        weight = self._stacks[index][:live]
        shape = (live, *[1] * (weight.dim() - 1))
        direction = gradient
        if self._weight_decay is not None:
            direction = torch.addcmul(direction, weight, self._weight_decay[:live].view(shape))
        if self._proximal_mu is not None:
            moved = weight - self._sent[index]
            direction = torch.addcmul(direction, moved, self._proximal_mu[:live].view(shape))
        if self._momentum is not None:
            direction = self._velocity(index, direction, self._momentum[:live].view(shape))
        weight.addcmul_(direction, self._lr[:live].view(shape), value=-1)

    def _velocity(self, index: int, direction: Tensor, momentum: Tensor) -> Tensor:
        velocity = self._velocities.get(index)
        if velocity is None:
            self._velocities[index] = direction.clone()
            return direction
        return velocity[: len(direction)].mul_(momentum).add_(direction)


def _unless_zero(values: npt.NDArray[np.float64], like: Tensor) -> Tensor | None:
    return torch.from_numpy(values).to(like) if values.any() else None
