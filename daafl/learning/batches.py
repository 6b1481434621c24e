"""Which examples go into which step."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def batches(
    num_examples: int,
    *,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    least: int = 1,
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the example indices of each of ``steps`` batches.

    Examples are drawn without replacement and reshuffled when all are used; the last batch of such
    an epoch holds what is left, which joins the batch before if that is fewer than ``least``.
    Fewer examples than ``batch_size`` are one batch.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [len(batch) for batch in batches(5, batch_size=2, steps=4, rng=rng)]
    [2, 2, 1, 2]
    >>> [len(batch) for batch in batches(5, batch_size=2, steps=4, rng=rng, least=2)]
    [2, 3, 2, 3]
    """
    start = num_examples
    for _ in range(steps):
        if start >= num_examples:
            order = rng.permutation(num_examples)
            start = 0
        end = start + batch_size
        if num_examples - end < least:
            end = num_examples
        yield order[start:end]
        start = end


def spread(num_examples: int, limit: int) -> npt.NDArray[np.int64]:
    """Return at most ``limit`` indices, evenly spread, so that sorted data is seen as a whole.

    Examples
    --------
    >>> spread(7, 3).tolist()
    [0, 2, 4]
    """
    count = min(num_examples, limit)
    return np.arange(count) * num_examples // max(count, 1)
