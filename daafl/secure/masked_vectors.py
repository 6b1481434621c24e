"""What is written into the words that are masked, and read from their sum: header, then update.

The update is weighted before it is quantised: a node with ``n`` examples, where the largest of the
group says it has ``unit``, writes ``n / unit`` times its change of the model. The sum over the
group times ``unit``, divided by the examples in the summed headers, is the weighted mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError
from daafl.secure.header import HEADER_SLOTS, MAX_LOSS, Header, HeaderSum
from daafl.secure.quantisation import Quantiser, Reals, Words


@dataclass(frozen=True)
class Contribution:
    """What one node puts into a sum.

    Parameters
    ----------
    delta
        Change of the model, one-dimensional.
    header
        What it reports; see `weighted` for the number of examples.
    """

    delta: Reals = field(repr=False)
    header: Header


def bytes_of(words: Words) -> npt.NDArray[np.uint8]:
    """Return words as they travel: little-endian bytes."""
    return np.ascontiguousarray(words, "<u4").view(np.uint8)


def words_of(
    contribution: Contribution,
    quantiser: Quantiser,
    unit: int,
    rng: np.random.Generator | None = None,
) -> Words:
    """Return the words of a node, to be masked.

    A change that is not finite is not sent: the node then counts as one without examples, with the
    largest loss there is, so that whoever watches the loss of the sum sees that training diverged.

    Parameters
    ----------
    contribution
        What it puts in.
    quantiser
        As the whole group has it.
    unit
        Examples that weigh 1; more than that count as so many. At least 1.
    rng
        Source of stochastic rounding, for coarse quantisers; ``None`` rounds to the nearest.

    Returns
    -------
    Words
        `HEADER_SLOTS` words, then one for each value.
    """
    delta, header = contribution.delta, contribution.header
    if not np.isfinite(delta).all():
        diverged = Header(0, MAX_LOSS, is_within_clip=False, saturated_fraction=1.0)
        contribution = Contribution(np.zeros_like(delta), diverged)
        delta, header = contribution.delta, contribution.header
    count = min(header.num_examples, unit)
    weighted = delta * (count / unit)
    saturated = float(np.mean(np.abs(weighted) > quantiser.clip)) if weighted.size else 0.0
    header = replace(
        header,
        num_examples=count,
        saturated_fraction=max(saturated, header.saturated_fraction),
    )
    slots = header.slots(quantiser.num_summands)
    return np.concatenate([slots, quantiser.quantised(weighted, rng)])


@dataclass(frozen=True)
class WeightedSum:
    """What a group's sum says.

    Parameters
    ----------
    mean
        Mean change of the model, weighted by examples, float64; zeros where nobody had any.
    header
        The summed reports.
    """

    mean: npt.NDArray[np.float64] = field(repr=False)
    header: HeaderSum


def read_sum(words: Words, num_nodes: int, quantiser: Quantiser, unit: int) -> WeightedSum:
    """Return what the sum of the words of ``num_nodes`` nodes says.

    Raises
    ------
    DataError
        If it cannot be the sum of so many nodes' words: then some node lied.
    """
    if words.ndim != 1 or len(words) < HEADER_SLOTS:
        raise DataError(f"a sum has {words.size} words; it must have {HEADER_SLOTS} or more")
    header = HeaderSum.of(words[:HEADER_SLOTS], num_nodes, quantiser.num_summands)
    if header.num_examples > num_nodes * unit:
        raise DataError(
            f"{num_nodes} nodes report {header.num_examples} examples, at most {unit} each; a node "
            "lied"
        )
    total: npt.NDArray[Any] = quantiser.sum_of(words[HEADER_SLOTS:], num_nodes)
    if header.num_examples == 0:
        return WeightedSum(np.zeros_like(total), header)
    return WeightedSum(total * (unit / header.num_examples), header)
