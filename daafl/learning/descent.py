"""Stochastic gradient descent without an optimiser object."""

from collections.abc import Sequence

from torch import Tensor

from daafl.learning.work import LocalWork


class Descent:
    """Steps of one local training: momentum, weight decay and FedProx's proximal term.

    With momentum ``m``: ``g = gradient + weight_decay * w + mu * (w - w_sent)``, then ``v = m * v +
    g`` from ``v = 0``, then ``w = w - lr * v``, as `torch.optim.SGD` does. A parameter that took no
    part in the loss stays as it is.

    Parameters
    ----------
    parameters
        Trainable parameters, at the values that were sent; updated in place.
    work
        Settings of the training.
    """

    def __init__(self, parameters: Sequence[Tensor], work: LocalWork) -> None:
        self._work = work
        self._weights = [parameter.detach() for parameter in parameters]
        self._sent = [weight.clone() for weight in self._weights] if work.proximal_mu else []
        self._velocities: dict[int, Tensor] = {}

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Move each parameter against its gradient."""
        work = self._work
        for index, (weight, gradient) in enumerate(zip(self._weights, gradients, strict=True)):
            if gradient is None:
                continue
            # Autograd may hand out one tensor for two parameters, and sparse ones, so a gradient
            # is added to something else and never written to.
            direction = gradient
            if work.weight_decay:
                direction = weight.mul(work.weight_decay).add_(direction)
            if work.proximal_mu:
                direction = weight.sub(self._sent[index]).mul_(work.proximal_mu).add_(direction)
            if work.momentum:
                direction = self._velocity(index, direction)
            weight.add_(direction, alpha=-work.lr)

    def _velocity(self, index: int, direction: Tensor) -> Tensor:
        velocity = self._velocities.get(index)
        if velocity is None:
            self._velocities[index] = direction.clone()
        else:
            velocity.mul_(self._work.momentum).add_(direction)
        return self._velocities[index]
