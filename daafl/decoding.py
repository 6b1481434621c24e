"""Reading an array that came from the network, without copying it.

Flower's ``Array`` carries the bytes of an ``.npy`` file. NumPy's own reader copies them, accepts
any number type and shape, and evaluates the header as a Python literal. Here the header must be
what ``numpy.save`` writes for the array that is expected; the result is a view of the bytes.

Source: NEP 1, "A simple file format for NumPy arrays", format version 1.0.
"""

import math
import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.app import Array

from daafl.errors import MessageError
from daafl.lazy_array import LazyArray

_STYPE: Final = "numpy.ndarray"
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_HEADER_START: Final = len(_MAGIC) + 2  # after the two bytes that hold the header's length
_MAX_HEADER: Final = 1024
_HEADER: Final = re.compile(
    rb"\{'descr': '([|<>=]?[a-zA-Z]\d{1,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}(?:, ?|(?=\))))*)\),? ?\} *\n"
)


def decoded(array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the array that ``array`` carries, as a read-only view of its bytes.

    Parameters
    ----------
    array
        What was received; nothing in it is trusted.
    dtype, shape
        What it must be; the bytes must be little-endian and in C order.

    Raises
    ------
    MessageError
        With reason ``schema`` if it is not a plain ``.npy`` file, ``dtype`` or ``shape`` if it
        holds something else than expected, and ``size`` if bytes are missing or left over.

    Examples
    --------
    >>> decoded(Array(np.array([3, 4], np.uint8)), np.dtype(np.uint8), (2,))
    array([3, 4], dtype=uint8)
    """
    if isinstance(array, LazyArray):  # made here, and not by whoever is at the other end
        return _checked(array.numpy(), dtype, shape)
    data = array.data
    if array.stype != _STYPE or not isinstance(data, bytes):
        raise MessageError("schema", f"an array is serialised as {array.stype!r}, not {_STYPE!r}")
    descr, is_fortran, found, start = _header(data)
    expected = dtype.newbyteorder("<")
    if descr != expected.str or array.dtype != dtype.name:
        raise MessageError(
            "dtype", f"an array of type {descr!r} ({array.dtype}), expected {dtype.name}"
        )
    if found != shape or tuple(array.shape) != shape:
        raise MessageError("shape", f"an array of shape {found}, expected {shape}")
    if is_fortran:
        raise MessageError("schema", "an array in Fortran order, expected C order")
    size = start + math.prod(shape) * expected.itemsize
    if len(data) != size:
        raise MessageError("size", f"an array of {len(data)} bytes, expected {size}")
    return np.frombuffer(data, expected, offset=start).reshape(shape)


def _checked(
    values: npt.NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    if values.dtype != dtype:
        raise MessageError("dtype", f"an array of type {values.dtype.name}, expected {dtype.name}")
    if values.shape != shape:
        raise MessageError("shape", f"an array of shape {values.shape}, expected {shape}")
    return values


def _header(data: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Return number type, memory order, shape, and where the values start."""
    start = _HEADER_START + int.from_bytes(data[len(_MAGIC) : _HEADER_START], "little")
    if not data.startswith(_MAGIC) or start > min(len(data), _HEADER_START + _MAX_HEADER):
        raise MessageError("schema", "an array is not an .npy file of format 1.0")
    match = _HEADER.fullmatch(data, _HEADER_START, start)
    if match is None:
        raise MessageError("schema", "an array has a header that NumPy does not write")
    shape = tuple(int(length) for length in match[3].split(b",") if length.strip())
    return match[1].decode(), match[2] == b"True", shape, start
