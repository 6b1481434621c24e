"""The few numbers about an update that travel in front of it, inside the masked vector.

Nobody but the node itself sees its own; the server reads their sums over the nodes of a group. A
node's share of each slot is bounded such that no sum wraps around, so all are exact integers.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from daafl.errors import DataError
from daafl.secure.quantisation import WORD_MODULUS, Words

HEADER_SLOTS: Final = 6
"""Nodes, examples, loss, nodes with a loss, nodes within the clip bound, saturated share."""

MAX_LOSS: Final = 64.0
"""Losses above it count as this much."""


@dataclass(frozen=True)
class Header:
    """What one node reports.

    Parameters
    ----------
    num_examples
        Examples behind the update; more than `capacity` count as that many.
    loss
        Mean loss of the incoming model on the node's data, not negative; ``None`` if unknown. The
        sum weighs nodes equally.
    is_within_clip
        Whether the update's norm was within the clip bound before clipping (Andrew et al. 2021,
        "Differentially private learning with adaptive clipping", algorithm 1).
    saturated_fraction
        Share of the update's values that quantisation cut, 0 to 1.
    """

    num_examples: int
    loss: float | None = None
    is_within_clip: bool = True
    saturated_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no report."""
        if self.num_examples < 0:
            raise DataError(f"an update has {self.num_examples} examples; it must not be negative")
        if self.loss is not None and not self.loss >= 0:
            raise DataError("the loss in a header must be a number that is not negative")
        if not 0 <= self.saturated_fraction <= 1:
            raise DataError(
                f"the saturated fraction is {self.saturated_fraction}; it must be 0 to 1"
            )

    def slots(self, num_summands: int) -> Words:
        """Return the six words of this header for a sum of at most ``num_summands`` nodes."""
        top = capacity(num_summands)
        has_loss = self.loss is not None
        loss = min(self.loss, MAX_LOSS) if self.loss is not None else 0.0
        return np.array(
            [
                1,
                min(self.num_examples, top),
                math.floor(loss / MAX_LOSS * top + 0.5),
                has_loss,
                self.is_within_clip,
                math.floor(self.saturated_fraction * top + 0.5),
            ],
            np.uint32,
        )


@dataclass(frozen=True)
class HeaderSum:
    """What the nodes of a group report together.

    Parameters
    ----------
    num_nodes, num_examples
        Sums over the group.
    mean_loss
        Over the nodes that reported one; ``None`` if none did.
    within_clip_fraction
        Share of the nodes whose norm was within the clip bound.
    saturated_fraction
        Mean over the nodes.
    """

    num_nodes: int
    num_examples: int
    mean_loss: float | None
    within_clip_fraction: float
    saturated_fraction: float

    @classmethod
    def of(cls, total: Words, num_nodes: int, num_summands: int) -> "HeaderSum":
        """Return what the summed slots of ``num_nodes`` nodes say.

        Raises
        ------
        DataError
            If they cannot be the sum of that many headers: then some node lied.
        """
        if total.shape != (HEADER_SLOTS,):
            raise DataError(f"a header has {total.size} slots; it must have {HEADER_SLOTS}")
        top = capacity(num_summands)
        nodes, examples, loss, with_loss, within, saturated = (int(word) for word in total)
        limits = (num_nodes * top, with_loss * top, num_nodes, num_nodes, num_nodes * top)
        found = (examples, loss, with_loss, within, saturated)
        if nodes != num_nodes or any(x > limit for x, limit in zip(found, limits, strict=True)):
            raise DataError(f"the summed header is not one of {num_nodes} nodes; a node lied")
        return cls(
            num_nodes=nodes,
            num_examples=examples,
            mean_loss=loss / top * MAX_LOSS / with_loss if with_loss else None,
            within_clip_fraction=within / nodes,
            saturated_fraction=saturated / top / nodes,
        )


def capacity(num_summands: int) -> int:
    """Return the largest value one node may put in a slot.

    Examples
    --------
    >>> capacity(1000)
    4294967
    """
    if not 1 <= num_summands < WORD_MODULUS:
        raise DataError(f"{num_summands} summands; there must be 1 to {WORD_MODULUS - 1}")
    return (WORD_MODULUS - 1) // num_summands
