"""How many bytes of payload messages carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

from daafl.lazy_array import LazyArray

_NUMBERS: Final = frozenset({bool, int, float})


def content_bytes(content: Mapping[str, object]) -> int:
    """Return the bytes of a message's arrays and texts, plus eight for each number.

    Flower's own count raises on empty texts and lists, which anybody may send.
    """
    total = 0
    for record in content.values():
        # A look at the exact type comes first: to ask an abstract class takes ten times as long.
        if type(record) is ConfigRecord or type(record) is MetricRecord:
            total += _values_bytes(record.values())
        elif isinstance(record, ArrayRecord):
            for array in record.values():
                total += array.num_bytes if isinstance(array, LazyArray) else len(array.data)
        elif isinstance(record, Mapping):
            total += _values_bytes(record.values())
    return total


def _values_bytes(values: Iterable[object]) -> int:
    total = 0
    for value in values:
        if type(value) is str:
            total += len(value)
        else:
            total += 8 if type(value) in _NUMBERS else _value_bytes(value)
    return total


def _value_bytes(value: object) -> int:
    match value:
        case str() | bytes():
            return len(value)
        case [str() | bytes(), *_]:
            return sum(len(text) for text in value if isinstance(text, str | bytes))
        case list():
            return 8 * len(value)
    return 8


def cohort_bytes(contents: Sequence[Mapping[str, object]]) -> list[int]:
    """Return each message's size; messages of one cohort share their arrays, counted each."""
    known: dict[int, int] = {}
    sizes = []
    for content in contents:
        size = 0
        for record in content.values():
            if id(record) not in known:
                known[id(record)] = content_bytes({"": record})
            size += known[id(record)]
        sizes.append(size)
    return sizes
