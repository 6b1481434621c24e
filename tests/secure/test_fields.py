"""Strict reading: exactly the fields there must be, of exactly their types, within bounds."""

import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from daafl.errors import MessageError
from daafl.secure import messages
from daafl.secure.fields import MAX_FIELDS, MAX_INTEGER, MAX_ROWS, Fields

N = (1, 5, 9)
ROWS = {width: tuple(bytes([n]) * width for n in N) for width in (32, 64, 33, 82)}
MESSAGES: dict[str, Any] = {
    "Advertisement": messages.Advertisement(3, b"m" * 32, b"s" * 32, b"g" * 64),
    "Cohort": messages.Cohort(N, ROWS[32], ROWS[32], ROWS[64]),
    "SealedShares": messages.SealedShares(3, b"c" * 32, ROWS[82], b"g" * 64),
    "Delivery": messages.Delivery(N, ROWS[82]),
    "MaskedInput": messages.MaskedInput(3, b"p" * 32, N, np.arange(6, dtype=np.uint32), b"g" * 64),
    "Survivors": messages.Survivors(N, ROWS[32], ROWS[64]),
    "Confirmation": messages.Confirmation(3, b"g" * 64),
    "Confirmations": messages.Confirmations(N, ROWS[64]),
    "Revelation": messages.Revelation(3, N, (2,), ROWS[33], ROWS[33][:1], b"g" * 64),
}


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(getattr(one, entry.name), getattr(other, entry.name))
        if isinstance(getattr(one, entry.name), np.ndarray)
        else getattr(one, entry.name) == getattr(other, entry.name)
        for entry in fields(one)
    )


def refused(kind: type[Any], values: object) -> None:
    with pytest.raises(MessageError) as caught:
        kind.from_dict(values)
    assert caught.value.reason == "schema"


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back_from_plain_values(name: str) -> None:
    message = MESSAGES[name]
    plain = message.to_dict()
    assert same(type(message).from_dict(plain), message)
    for value in plain.values():
        assert isinstance(value, int | bytes | list)
        assert not isinstance(value, list) or all(type(item) is int for item in value)


@pytest.mark.parametrize("name", MESSAGES)
def test_each_field_must_be_there_once_and_no_other(name: str) -> None:
    message = MESSAGES[name]
    plain = message.to_dict()
    for entry in plain:
        refused(type(message), {key: value for key, value in plain.items() if key != entry})
    refused(type(message), {**plain, "more": 1})
    refused(type(message), {**plain, 7: 1})
    refused(type(message), list(plain.items()))


HOSTILE: dict[type, list[object]] = {
    int: [-1, 2**63, 10**30, 1.0, True, "3", b"3", None, [3], np.int64(3)],
    bytes: [None, 3, "x" * 32, bytearray(32), memoryview(b"x" * 32), [1], np.zeros(32)],
    list: [None, 3, b"159", "159", [9, 5], [1, 1], [-1], [2**63], [1.0], [True], [[1]], {1: 1}],
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_field_of_another_type_or_size_is_refused(name: str) -> None:
    message = MESSAGES[name]
    plain = message.to_dict()
    for entry, value in plain.items():
        for hostile in HOSTILE[type(value)]:
            refused(type(message), {**plain, entry: hostile})
        if isinstance(value, bytes):
            refused(type(message), {**plain, entry: value[:-1]})
            refused(type(message), {**plain, entry: value + b"x"})


def test_rows_must_be_as_many_as_their_nodes() -> None:
    plain = MESSAGES["Cohort"].to_dict()
    for nodes in ([1, 5], [1, 5, 9, 12], []):
        refused(messages.Cohort, {**plain, "nodes": nodes})


def test_lists_above_the_bound_are_refused_before_they_are_copied() -> None:
    plain = MESSAGES["Delivery"].to_dict()
    many, long = list(range(MAX_ROWS + 1)), bytes(82 * (MAX_ROWS + 1))
    tracemalloc.start()
    refused(messages.Delivery, {**plain, "participants": many})
    refused(messages.Delivery, {**plain, "boxes": long})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


class Endless(Mapping[str, int]):
    """A mapping that says it has a billion fields, and would give them."""

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[str]:
        return map(str, range(10**9))

    def __getitem__(self, key: str) -> int:
        return 0


def test_a_mapping_with_too_many_fields_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="at most"):
        Fields.of(Endless(), "it")
    with pytest.raises(MessageError, match="at most"):
        Fields.of({str(i): i for i in range(MAX_FIELDS + 1)}, "it")


def test_errors_repeat_nothing_of_what_was_sent() -> None:
    secret = b"top secret bytes".ljust(32)
    plain = MESSAGES["Advertisement"].to_dict()
    for change in ({"mask_key": secret + b"x"}, {"node": secret}, {"top secret name": 1}):
        with pytest.raises(MessageError) as caught:
            messages.Advertisement.from_dict({**plain, **change})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "x" * 9, "a\nb", "\ud800", "\x00", b"text", 3, None])
def test_text_is_short_and_printable(text: object) -> None:
    with pytest.raises(MessageError):
        Fields.of({"name": text}, "it").text("name", 8)


def test_what_is_read_is_what_was_sent() -> None:
    source = Fields.of({"a": MAX_INTEGER - 1, "b": "name", "c": b"12", "d": [0, 4]}, "it")
    assert source.integer("a") == 2**63 - 1
    assert source.text("b", 4) == "name"
    with pytest.raises(MessageError, match="unknown"):
        source.end()
    assert source.rows("c", 1) == (b"1", b"2")
    assert source.nodes("d") == (0, 4)
    source.end()


def test_words_are_little_endian_on_every_machine() -> None:
    source = Fields.of({"words": b"\x01\x00\x00\x00\x00\x00\x00\x80"}, "it")
    assert source.words("words").tolist() == [1, 2**31]
