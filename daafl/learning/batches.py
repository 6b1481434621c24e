"""Which examples go into which step.

Shuffling is by counter hash: epoch ``e`` of a training visits its examples in the order of
``mixed(key, e, example)``. So the batches of one training, or of many at once
(`daafl.learning.schedule`), are the same whoever computes them.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.keyed_random import mixed

Indices = npt.NDArray[np.int64]

_ORDERED_AT_ONCE: Final = 1 << 16  # examples, so that memory does not grow with the epochs


def batches(
    num_examples: int, *, batch_size: int, steps: int, key: int, least: int = 1
) -> Iterator[Indices]:
    """Yield the example indices of each of ``steps`` batches.

    Examples are drawn without replacement and reshuffled when all are used; the last batch of such
    an epoch holds what is left, which joins the batch before if that is fewer than ``least``.
    Fewer examples than ``batch_size`` are one batch.

    Parameters
    ----------
    num_examples
        Examples there are, at least one.
    batch_size
        Examples of a batch.
    steps
        Number of batches.
    key
        64 bits that the shuffling depends on.
    least
        Fewest examples that a batch may hold, if there are as many.

    Examples
    --------
    >>> [len(batch) for batch in batches(5, batch_size=2, steps=4, key=0)]
    [2, 2, 1, 2]
    >>> [len(batch) for batch in batches(5, batch_size=2, steps=4, key=0, least=2)]
    [2, 3, 2, 3]
    """
    per_epoch = batches_per_epoch(num_examples, batch_size, least)
    last = per_epoch - 1
    examples = np.arange(num_examples)
    num_epochs = -(-steps // per_epoch)
    block = max(_ORDERED_AT_ONCE // num_examples, 1)
    for first in range(0, num_epochs, block):
        epochs = np.arange(first, min(first + block, num_epochs))
        orders = np.argsort(mixed(key, epochs[:, None], examples), axis=1)
        for order in orders:
            for number in range(min(per_epoch, steps)):
                start = number * batch_size
                yield order[start:] if number == last else order[start : start + batch_size]
            steps -= per_epoch


def batches_per_epoch(num_examples: int, batch_size: int, least: int = 1) -> int:
    """Return how many batches it takes to use every example once.

    Examples
    --------
    >>> batches_per_epoch(5, 2), batches_per_epoch(5, 2, least=2), batches_per_epoch(3, 8)
    (3, 2, 1)
    """
    return max((num_examples - batch_size - least) // batch_size + 2, 1)


def spread(num_examples: int, limit: int) -> Indices:
    """Return at most ``limit`` indices, evenly spread, so that sorted data is seen as a whole.

    Examples
    --------
    >>> spread(7, 3).tolist()
    [0, 2, 4]
    """
    count = min(num_examples, limit)
    return np.arange(count) * num_examples // max(count, 1)
