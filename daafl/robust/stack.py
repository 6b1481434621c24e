"""Updates one below the other, without copying them, and what is computed of them in blocks.

A hundred updates of a million values are 400 MB, so nothing here makes a second copy of them. A
rule either looks at one column after another, or only at inner products (`gram`) and answers with a
coefficient per update (`combination`); both pass over blocks of columns that fit a core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import daxpy, saxpy

from daafl.errors import DataError
from daafl.learning.layout import Vector

Matrix: TypeAlias = npt.NDArray[np.floating[Any]]
"""Updates as rows, of shape ``[num_updates, num_parameters]``."""

Numbers: TypeAlias = npt.NDArray[np.float64]
"""A number per update, ``[num_updates]``, or per pair of them, ``[num_updates, num_updates]``."""

Spans: TypeAlias = Sequence[tuple[int, int]]
"""Columns, as ``(start, stop)`` of runs in ascending order."""

_BLOCK_VALUES: Final = 1 << 18  # values worked on at a time: with a copy they fit a 2 MiB cache
_MIN_WIDTH: Final = (
    1 << 10
)  # columns; of many rows a narrower block costs more than the cache saves
_MAX_WIDTH: Final = 1 << 16
_SUM_WIDTH: Final = 1 << 16
_PADDING: Final = 16  # keeps rows of a block off addresses that share a cache line's place

_AXPY: Final[dict[np.dtype[Any], Callable[..., Any]]] = {
    np.dtype(np.float32): saxpy,
    np.dtype(np.float64): daxpy,
}


@dataclass(frozen=True, eq=False)
class Stack:
    """Rows that are sums of scaled vectors, mostly of a single one each.

    Parameters
    ----------
    vectors
        One or more, one-dimensional, all of the same length and type (float32 or float64).
    factors
        What each vector is multiplied by, ``[num_vectors]``.
    starts
        First vector of each row, ascending from 0: row ``i`` is the sum of the scaled vectors from
        ``starts[i]`` to before ``starts[i + 1]``.

    Raises
    ------
    DataError
        If there is no vector, or lengths or types differ or cannot be worked with.

    Examples
    --------
    >>> one, two, three = np.eye(3)
    >>> stack = Stack([one, two, three], np.array([1.0, 0.5, 0.5]), np.array([0, 1]))
    >>> stack.num_rows  # the first vector, and the mean of the other two
    2
    >>> gram(stack)
    array([[1. , 0. ],
           [0. , 0.5]])
    >>> combination(stack, np.array([1.0, 2.0]))
    array([1., 1., 1.])
    """

    vectors: Sequence[Vector]
    factors: Numbers
    starts: npt.NDArray[np.intp]

    def __post_init__(self) -> None:
        if not len(self.vectors):
            raise DataError("a rule needs at least one update, and there is none")
        first = self.vectors[0]
        if first.ndim != 1 or first.dtype not in _AXPY:
            raise DataError(
                f"an update has {first.ndim} dimensions of type {first.dtype}; it must be "
                "one-dimensional, of float32 or float64"
            )
        for vector in self.vectors:
            if vector.shape != first.shape or vector.dtype != first.dtype:
                raise DataError(
                    f"an update has shape {vector.shape} and type {vector.dtype}; expected "
                    f"{first.shape} and {first.dtype}, as the first one has"
                )

    @classmethod
    def of(cls, vectors: Matrix | Sequence[Vector], factors: Sequence[float] | None = None) -> Self:
        """Return a stack with a row per vector, each times its factor, if there are any."""
        count = len(vectors)
        scales = np.ones(count) if factors is None else np.asarray(factors, np.float64)
        return cls(list(vectors), scales, np.arange(count))

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.starts)

    @property
    def num_columns(self) -> int:
        """Length of each row."""
        return self.vectors[0].size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the rows."""
        return self.vectors[0].dtype

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Number of vectors behind each row."""
        return np.diff(self.starts, append=len(self.vectors))

    def fill(self, block: Matrix, start: int) -> None:
        """Write the columns from ``start`` on into ``block``, ``[num_rows, any number]``."""
        stop = start + block.shape[1]
        bounds = [*self.starts.tolist(), len(self.vectors)]
        for row, (first, end) in zip(block, pairwise(bounds), strict=True):
            for index in range(first, end):
                part, factor = self.vectors[index][start:stop], self.dtype.type(self.factors[index])
                if index > first:
                    row += part * factor
                elif factor == 1:
                    row[...] = part
                else:
                    np.multiply(part, factor, out=row)


Updates: TypeAlias = Matrix | Stack
"""What a rule combines: a plain matrix, or a stack where there is no room for one."""

Rule: TypeAlias = Callable[[Updates, Numbers], Vector]
"""Combines updates, with a positive weight for each, into one."""


def stacked(updates: Updates) -> Stack:
    """Return updates as a stack."""
    return updates if isinstance(updates, Stack) else Stack.of(updates)


def blocks(
    stack: Stack, dtype: np.dtype[Any], spans: Spans | None = None
) -> Iterator[tuple[int, int, Matrix]]:
    """Yield ``(start, stop, block)`` over the columns; the next block overwrites the last one.

    Parameters
    ----------
    stack
        The rows.
    dtype
        Number type of the blocks.
    spans
        Columns to pass over; ``None`` for all.
    """
    width = max(_MIN_WIDTH, min(_MAX_WIDTH, _BLOCK_VALUES // stack.num_rows))
    width = min(width, max(stack.num_columns, 1))
    memory = np.empty((stack.num_rows, width + _PADDING), dtype)
    for start, stop in pieces(stack.num_columns, width, spans):
        block = memory[:, : stop - start]
        stack.fill(block, start)
        yield start, stop, block


def pieces(num_columns: int, width: int, spans: Spans | None = None) -> Iterator[tuple[int, int]]:
    """Yield spans cut into parts of at most ``width`` columns; ``None`` stands for all columns.

    Examples
    --------
    >>> list(pieces(9, 3, [(0, 4), (8, 9)]))
    [(0, 3), (3, 4), (8, 9)]
    """
    for first, end in ((0, num_columns),) if spans is None else spans:
        for start in range(first, end, width):
            yield start, min(start + width, end)


def gram(stack: Stack, spans: Spans | None = None) -> Numbers:
    """Return the inner products of the rows, over some columns, in float64.

    Float32 values cannot overflow in it. Distances follow from it (`squared_distances`) up to about
    1e-8 of the rows' lengths, which is less than float32 values are rounded by.

    Returns
    -------
    products
        Shape ``[num_rows, num_rows]``; NaN or infinity where a row's values are too large.
    """
    total = np.zeros((stack.num_rows, stack.num_rows))
    with np.errstate(over="ignore", invalid="ignore"):
        for _, _, block in blocks(stack, np.dtype(np.float64), spans):
            total += block @ block.T
    return total


def squared_distances(products: Numbers) -> Numbers:
    """Return the squared distance between every two rows, from their inner products.

    It is NaN or infinite where an inner product is.
    """
    squares = np.diag(products)
    with np.errstate(invalid="ignore"):
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def distances_to(products: Numbers, coefficients: Numbers) -> Numbers:
    """Return the distance of every row to a combination of them, from their inner products.

    For ``z = sum(c_j x_j)``: ``|x_i - z|^2 = x_i.x_i - 2 x_i.z + z.z``.
    """
    along = products @ coefficients
    return np.sqrt(np.maximum(np.diag(products) - 2 * along + coefficients @ along, 0.0))


def combination(stack: Stack, coefficients: Numbers) -> Vector:
    """Return the sum of the rows times their coefficients, in the rows' number type.

    A row with coefficient 0 is not looked at, so that nothing in it can do harm.
    """
    total = np.zeros(stack.num_columns, stack.dtype)
    axpy = _AXPY[stack.dtype]
    scales = np.repeat(coefficients, stack.sizes) * stack.factors
    terms = [
        (vector, factor)
        for vector, factor in zip(stack.vectors, scales.tolist(), strict=True)
        if factor != 0
    ]
    for start, stop in pieces(stack.num_columns, _SUM_WIDTH):
        part = total[start:stop]
        for vector, factor in terms:
            axpy(vector[start:stop], part, a=factor)
    return total


def bounded(products: Numbers) -> npt.NDArray[np.intp]:
    """Return the rows whose inner products are finite; the others are too long to be compared."""
    return np.flatnonzero(np.isfinite(np.diag(products)))


def checked_weights(weights: Numbers, num_rows: int) -> Numbers:
    """Return weights as float64 that add up to one.

    Raises
    ------
    DataError
        If there is not one for each update, or one is not positive and finite.
    """
    values = np.asarray(weights, np.float64)
    if values.shape != (num_rows,):
        raise DataError(f"{num_rows} updates come with weights of shape {values.shape}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise DataError("every update needs a positive, finite weight")
    largest = values / values.max()  # a sum of large weights could overflow
    shares: Numbers = largest / math.fsum(largest)
    return shares
