"""How many bytes of payload messages carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord


def content_bytes(content: Mapping[str, object]) -> int:
    """Return the bytes of a message's arrays and texts, plus eight for each number.

    Flower's own count raises on empty texts and lists, which anybody may send.
    """
    total = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        elif isinstance(record, Mapping):
            total += sum(_value_bytes(value) for value in record.values())
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
