"""What an update is once it has been received, decoded and validated."""

from collections.abc import Mapping
from dataclasses import dataclass

from daafl.learning.layout import Packed, Vector


@dataclass(frozen=True, eq=False)
class Update:
    """What one node, or a cohort summed together, changed in a model.

    Updates are compared by identity, since arrays have no single truth value.

    Attributes
    ----------
    delta
        Trained minus sent weights, averaged over the senders' examples.
    num_examples
        Training examples behind the update; its weight in a mean.
    senders
        Node ids; several for a masked sum, a region or a vectorised batch.
    version
        Version of the model that was sent and that ``delta`` refers to.
    metrics
        What the senders reported, by the keys of `daafl.messages`.
    damping
        Factor on ``delta`` for staleness and norm clipping, in [0, 1]. It never enters
        ``num_examples``: weights are normalised, so with few updates it would do nothing there.
    received
        The weights as they were received, while fresh and untouched; `None` otherwise. With it a
        server optimiser computes bit for bit what Flower computes.
    """

    delta: Vector
    num_examples: float
    senders: tuple[int, ...]
    version: int
    metrics: Mapping[str, float]
    damping: float = 1.0
    received: Packed | None = None
