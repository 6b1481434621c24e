"""Private training of one node: the steps of `TorchTrainer` on noised gradients.

What is random about the gradients, the samples and the noise, comes from a keystream. Descent, with
momentum, weight decay and FedProx's term, is post-processing. No loss is measured: it would tell
about the examples, and no budget knows of it.
"""

from __future__ import annotations

import math
from typing import Final

from daafl.errors import ConfigError
from daafl.keyed_random import mixed
from daafl.learning.descent import Descent
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.packed_model import seeded
from daafl.learning.trainer import TorchTrainer, Trained
from daafl.learning.work import LocalWork
from daafl.privacy.dpsgd import PrivateGradients, SampleLevel, check_supported
from daafl.privacy.keystream import Keystream

_NOISE: Final = 1
"""Sets what is random in a model apart from the other uses of a key."""

NO_LOSS: Final = math.nan
"""In place of a loss that is not measured."""


def check_private(trainer: TorchTrainer) -> None:
    """Refuse a model that cannot be trained privately.

    Raises
    ------
    ConfigError
        Naming the first layer that mixes examples and what to use in its place, or a buffer that
        training would write to.
    """
    check_supported(trainer.loaded(trainer.untrained))


def trained_privately(
    trainer: TorchTrainer,
    packed: Packed,
    examples: Examples,
    work: LocalWork,
    key: int,
    *,
    privacy: SampleLevel,
    keystream: Keystream,
) -> Trained:
    """Return the model after ``work.steps`` steps of differentially private descent.

    Parameters
    ----------
    trainer
        Whose task and model they are.
    packed
        The model that was sent; stays as it is.
    examples
        The node's training examples; each step takes each of them with the same probability.
    work
        Settings of the training; ``batch_size`` is what a step takes on average.
    key
        64 bits for what is random in the model, such as dropout, which protects nothing.
    privacy, keystream
        Clipping and noise, and where noise and samples come from.

    Raises
    ------
    ConfigError
        If a layer of the model mixes examples; it says what to use in its place.
    DataError
        If there is no example, or examples, model and loss do not fit together.
    """
    inputs, targets = trainer.judge.tensors(examples)
    module = trainer.loaded(packed)
    gradients = PrivateGradients(module, trainer.task.loss, privacy, keystream)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError(f"the model of task {trainer.task.name!r} has no trainable parameter")
    descent = Descent(parameters, work)
    module.train()
    with seeded(int(mixed(key, _NOISE))):
        for _ in range(work.steps):
            descent.step(gradients.step(inputs, targets, work.batch_size))
    return Trained(trainer.exported(), NO_LOSS, len(examples), work.steps)
