"""Strict reading of plain values that came from the network, one named field at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from daafl.errors import MessageError

MAX_INTEGER: Final = 1 << 63
MAX_FIELDS: Final = 64
MAX_ROWS: Final = 1 << 20
MAX_DATA: Final = 1 << 34


class Fields:
    """The fields of one message that have not been read yet; `end` refuses any left over.

    Parameters
    ----------
    values
        What was received, copied one level deep.
    message
        Name of the message, for errors.
    """

    def __init__(self, values: dict[str, object], message: str) -> None:
        self._values = values
        self._message = message

    @classmethod
    def of(cls, values: object, message: str) -> Fields:
        """Return the fields of ``values``, which must be a mapping by strings."""
        if not isinstance(values, Mapping) or len(values) > MAX_FIELDS:
            raise MessageError("schema", f"{message} is not a mapping of at most {MAX_FIELDS}")
        if not all(type(key) is str for key in values):
            raise MessageError("schema", f"{message} has a field whose name is not a string")
        return cls(dict(values), message)

    def integer(self, name: str) -> int:
        """Return an integer in [0, 2**63)."""
        return self._checked(name, self._take(name))

    def text(self, name: str, longest: int) -> str:
        """Return a string of 1 to ``longest`` characters."""
        value = self._take(name)
        if type(value) is not str or not 0 < len(value) <= longest:
            raise self._error(name, f"a string of 1 to {longest} characters")
        if not value.isprintable():
            raise self._error(name, "printable")
        return value

    def data(self, name: str, length: int | None = None) -> bytes:
        """Return bytes, of a certain length if one is given."""
        value = self._take(name)
        if type(value) is not bytes or len(value) > MAX_DATA:
            raise self._error(name, "bytes")
        if length is not None and len(value) != length:
            raise self._error(name, f"{length} bytes long, not {len(value)}")
        return value

    def rows(self, name: str, width: int, count: int | None = None) -> tuple[bytes, ...]:
        """Return bytes cut into rows of ``width``, ``count`` of them if given."""
        value = self.data(name, None if count is None else count * width)
        if len(value) % width or len(value) // width > MAX_ROWS:
            raise self._error(name, f"rows of {width} bytes")
        return tuple(_rows(value, width))

    def words(self, name: str) -> npt.NDArray[np.uint32]:
        """Return little-endian 32-bit words as a read-only view of their bytes."""
        value = self.data(name)
        if len(value) % 4:
            raise self._error(name, "whole 32-bit words")
        return np.frombuffer(value, "<u4")

    def nodes(self, name: str, longest: int = MAX_ROWS) -> tuple[int, ...]:
        """Return a strictly ascending list of integers in [0, 2**63)."""
        value = self._take(name)
        if not isinstance(value, list | tuple) or len(value) > longest:
            raise self._error(name, f"a list of at most {longest} nodes")
        nodes = tuple(self._checked(name, item) for item in value)
        if any(a >= b for a, b in itertools.pairwise(nodes)):
            raise self._error(name, "ascending, without repetition")
        return nodes

    def end(self) -> None:
        """Refuse a message with fields that nobody read."""
        if self._values:
            raise MessageError("schema", f"{self._message} has {len(self._values)} unknown fields")

    def _take(self, name: str) -> object:
        if name not in self._values:
            raise MessageError("schema", f"{self._message} has no field {name!r}")
        return self._values.pop(name)

    def _checked(self, name: str, value: object) -> int:
        if type(value) is not int or not 0 <= value < MAX_INTEGER:
            raise self._error(name, "integer, from 0 to below 2**63")
        return value

    def _error(self, name: str, rule: str) -> MessageError:
        return MessageError("schema", f"field {name!r} of {self._message} must be {rule}")


def _rows(value: bytes, width: int) -> Iterator[bytes]:
    for start in range(0, len(value), width):
        yield value[start : start + width]
