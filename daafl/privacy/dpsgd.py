"""Differentially private stochastic gradient descent on the examples of one node.

Abadi et al. (2016), *Deep Learning with Differential Privacy*, algorithm 1, with Opacus's
conventions: every example joins a step independently with probability ``q`` (Poisson sampling), its
gradient is clipped to ``C`` over all parameters together, Gaussian noise of standard deviation
``z * C`` is added to the sum, and the result is divided by the expected batch size ``q * n``. A
step for which nobody was drawn is noise only, and is done all the same. What follows (momentum,
weight decay, FedProx) is post-processing.

The number of a node's examples is taken as public. What is random in a model, such as dropout, may
come from torch's generator: the guarantee holds for each outcome of it. Noise and sampling never
do.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from daafl.errors import ConfigError
from daafl.privacy.gaussian import noised
from daafl.privacy.keystream import Keystream, poisson_sample
from daafl.privacy.per_example import Loss, clipped_sums
from daafl.privacy.release import Release

BATCH_NORMS: Final = (nn.modules.batchnorm._BatchNorm,)
RECURRENT: Final = (nn.RNNBase,)
GROUPS: Final = 32


@dataclass(frozen=True)
class SampleLevel:
    """Settings of sample-level privacy.

    Attributes
    ----------
    bound
        Norm that each example's gradient is clipped to (C).
    noise_multiplier
        Standard deviation of the noise over the bound (z); 0 adds none and protects nothing.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    bound: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.bound < math.inf:
            raise ConfigError(f"bound={self.bound} of gradients must be positive and finite")
        if not 0.0 <= self.noise_multiplier < math.inf:
            raise ConfigError(
                f"noise_multiplier={self.noise_multiplier} must be finite and at least 0"
            )

    def release(self, num_examples: int, *, batch_size: int, steps: int) -> Release:
        """Return what a training costs, to be debited before it starts."""
        rate = sampling_rate(num_examples, batch_size)
        return Release(self.noise_multiplier, steps, rate, "poisson")


class PrivateGradients:
    """Makes the noised gradients of a training's steps.

    Parameters
    ----------
    module
        The model, in training mode and with the values of the step; its gradients stay as they are.
    loss
        Mean loss of a batch of outputs and targets.
    privacy
        Clipping and noise.
    keystream
        Where samples and noise come from.
    at_once
        Examples whose gradients are in memory at a time.

    Raises
    ------
    ConfigError
        If a layer of the model is not supported; it says which and what to do.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        privacy: SampleLevel,
        keystream: Keystream,
        *,
        at_once: int = 64,
    ) -> None:
        check_supported(module)
        self._module = module
        self._loss = loss
        self._privacy = privacy
        self._keystream = keystream
        self._at_once = at_once

    def step(self, inputs: Tensor, targets: Tensor, batch_size: int) -> list[Tensor]:
        """Return the noised mean gradient of one step, one tensor for each trainable parameter.

        Parameters
        ----------
        inputs, targets
            All examples of the node.
        batch_size
            Expected number of examples in the step.
        """
        rate = sampling_rate(len(inputs), batch_size)
        chosen = torch.from_numpy(poisson_sample(len(inputs), rate, self._keystream))
        sums = clipped_sums(
            self._module,
            inputs.index_select(0, chosen),
            targets.index_select(0, chosen),
            loss=self._loss,
            bound=self._privacy.bound,
            at_once=self._at_once,
        )
        return self._noised(sums, rate * len(inputs))

    def _noised(self, sums: list[Tensor], expected: float) -> list[Tensor]:
        flat = torch.cat([total.flatten() for total in sums]).numpy()
        if self._privacy.noise_multiplier > 0.0:
            flat = noised(
                flat,
                noise_multiplier=self._privacy.noise_multiplier,
                sensitivity=self._privacy.bound,
                keystream=self._keystream,
            )
        flat = np.divide(flat, expected)
        trained = [p for p in self._module.parameters() if p.requires_grad]
        starts = np.cumsum([p.numel() for p in trained])[:-1]
        parts = map(torch.from_numpy, np.split(flat, starts))
        return [part.reshape(p.shape).to(p.dtype) for part, p in zip(parts, trained, strict=True)]


def sampling_rate(num_examples: int, batch_size: int) -> float:
    """Return the probability with which an example joins a step of ``batch_size`` on average.

    Examples
    --------
    >>> sampling_rate(100, 10), sampling_rate(5, 10)
    (0.1, 1.0)
    """
    return min(1.0, batch_size / num_examples)


def check_supported(module: nn.Module) -> None:
    """Refuse a model in which examples of a batch touch each other, or that vmap cannot run.

    Raises
    ------
    ConfigError
        Naming the first such layer, and what to use in its place.
    """
    for name, layer in module.named_modules():
        where = f"layer {name or 'at the root'!r} ({type(layer).__name__})"
        if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
            if layer.track_running_stats:
                raise ConfigError(
                    f"{where} keeps statistics of its examples without noise; set "
                    "track_running_stats=False"
                )
        elif isinstance(layer, BATCH_NORMS):
            raise ConfigError(
                f"{where} mixes the examples of a batch, so that none can be protected; use "
                "GroupNorm, for example by daafl.privacy.dpsgd.with_group_norm"
            )
        elif isinstance(layer, RECURRENT):
            raise ConfigError(
                f"{where} has no gradients per example in torch; write the recurrence with "
                "nn.Linear or nn.RNNCell, or use attention or convolutions"
            )


def with_group_norm(module: nn.Module) -> nn.Module:
    """Return the model with each batch normalisation replaced by a group normalisation.

    The new layers start untrained and the others are shared, so it belongs into ``Task.model()``.
    Groups are the largest number that divides the channels and 32.
    """
    if isinstance(module, BATCH_NORMS):
        return nn.GroupNorm(
            math.gcd(GROUPS, module.num_features),
            module.num_features,
            eps=module.eps,
            affine=module.affine,
        )
    for name, child in module.named_children():
        setattr(module, name, with_group_norm(child))
    return module
