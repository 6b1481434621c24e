"""Per-example clipping for any torch model that treats examples one by one.

Gradients of single examples come from `torch.func.vmap` over `torch.func.grad`, a few examples at a
time, and are summed as soon as they are clipped.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from daafl.errors import DataError

Loss: TypeAlias = Callable[[Any, Tensor], Tensor]
"""Mean loss of a batch of a model's outputs and targets."""

NORM_OFFSET: Final = 1e-6
"""Added to norms before dividing, as Opacus does; norms stay below the bound by as much."""


def clip_factors(norms: Tensor, bound: float) -> Tensor:
    """Return the factors that bring norms within ``bound``; 0 where a norm is not finite.

    An example whose gradient is not finite must not stop a training: that would tell of it.
    """
    factors = (bound / (norms + NORM_OFFSET)).clamp(max=1.0)
    return torch.where(norms.isfinite(), factors, 0.0)


def clipped_sums(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss,
    bound: float,
    at_once: int = 64,
) -> list[Tensor]:
    """Return the sums of clipped gradients, one for each trainable parameter of ``module``.

    Parameters
    ----------
    module
        A model; `daafl.privacy.dpsgd.check_supported` says which ones.
    inputs, targets
        The examples of one step, possibly none.
    loss
        Mean loss of a batch; called with batches of one.
    bound
        Largest norm of an example's gradient over all parameters together.
    at_once
        Examples whose gradients are in memory at a time.

    Returns
    -------
    Doubles, since the sum of many examples must not round away what one of them may change.

    Raises
    ------
    DataError
        If the model or the loss cannot be differentiated example by example.
    """
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}

    def loss_of(parameters: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        outputs = functional_call(module, {**fixed, **parameters}, (example[None],))
        return loss(outputs, target[None])

    gradients_of = vmap(grad(loss_of), in_dims=(None, 0, 0), randomness="different")
    sums = [torch.zeros_like(p, dtype=torch.float64) for p in trained.values()]
    for start in range(0, len(inputs), at_once):
        part = slice(start, start + at_once)
        try:
            gradients = list(gradients_of(trained, inputs[part], targets[part]).values())
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{type(module).__name__} cannot be differentiated example by example, which "
                f"differential privacy needs: {str(error).strip().splitlines()[0]}"
            ) from error
        _add_clipped(sums, gradients, bound)
    return sums


def _add_clipped(sums: Sequence[Tensor], gradients: Sequence[Tensor], bound: float) -> None:
    rows = [gradient.flatten(1).double() for gradient in gradients]
    squares = torch.stack([row.square().sum(1) for row in rows])
    factors = clip_factors(squares.sum(0).sqrt(), bound)
    is_used = factors > 0.0
    for total, row in zip(sums, rows, strict=True):
        kept = row if bool(is_used.all()) else torch.where(is_used[:, None], row, 0.0)
        total += (factors @ kept).reshape(total.shape)
