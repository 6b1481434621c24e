"""A Flower ``Array`` that becomes bytes only if somebody asks for the bytes.

Nodes that are trained together leave their models in one stack. Most code asks a reply's array for
its values, so writing an ``.npy`` file for each node, and reading it again, would cost more than
the training of a small model.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.app import Array

_STYPE: Final = "numpy.ndarray"


class LazyArray(Array):
    """A row of a stack; `numpy` returns it as it is, read-only.

    It is made in this process or in a worker of it, never from what came over a network, so its
    number type and shape are those of its values.

    Parameters
    ----------
    stack
        Arrays of one shape and type, one per row.
    row
        Index of the one meant.

    Examples
    --------
    >>> array = LazyArray(np.array([[1.0, 2.0], [3.0, 4.0]]), 1)
    >>> array.numpy().tolist(), array.shape
    ([3.0, 4.0], (2,))
    >>> array.data == Array(np.array([3.0, 4.0])).data
    True
    """

    _stack: npt.NDArray[Any]
    _row: int

    def __init__(self, stack: npt.NDArray[Any], row: int) -> None:
        # Past Flower's `__setattr__`, which looks after caches that a new array does not have.
        self.__dict__.update(
            _stack=stack, _row=row, dtype=stack.dtype.name, shape=stack.shape[1:], stype=_STYPE
        )

    def numpy(self) -> npt.NDArray[Any]:
        """Return the values, a read-only view of the stack."""
        view: npt.NDArray[Any] = self._stack[self._row]
        view.flags.writeable = False
        return view

    @property
    def num_bytes(self) -> int:
        """Length of `data`, known without making it."""
        return len(self._header) + int(self._stack[self._row].nbytes)

    @property
    def data(self) -> bytes:  # type: ignore[override]  # a field there; here it is made when asked
        """The ``.npy`` file."""
        return self._header + self.numpy().tobytes()

    @property
    def _header(self) -> bytes:
        return _header(self._stack.dtype.str, self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the stack, which goes once for all of its rows."""
        return type(self), (self._stack, self._row)


@lru_cache(maxsize=64)
def _header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Return how an ``.npy`` file begins (NEP 1, format version 1.0)."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
