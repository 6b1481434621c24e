"""The audit log shows every change, and where."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import StoreError
from daafl.secure.audit import MAX_LINE, START, AuditError, Head, line_of, verified, verify
from daafl.secure.trail import Trail

FACTS = st.dictionaries(
    st.text(max_size=5),
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.text(max_size=8)),
    max_size=3,
)


def lines_of(number: int) -> list[str]:
    head, lines = Head(), []
    for index in range(number):
        line, head = line_of(head, "event", {"index": index})
        lines.append(line)
    return lines


def test_a_line_by_hand() -> None:
    """The hash is that of the same line without it, keys sorted and no blanks."""
    import hashlib

    line, head = line_of(Head(), "began", {"round": 1, "who": None})
    body = f'{{"event":"began","facts":{{"round":1,"who":null}},"number":1,"previous":"{START}"}}'
    assert head == Head(1, hashlib.sha256(body.encode()).hexdigest())
    assert json.loads(line) == {**json.loads(body), "hash": head.hash}


@given(st.lists(st.tuples(st.text(max_size=10), FACTS), max_size=8))
def test_what_is_written_verifies(events: list[tuple[str, dict[str, str | int | None]]]) -> None:
    head, lines, heads = Head(), [], [Head()]
    for event, facts in events:
        line, head = line_of(head, event, facts)
        assert "\n" not in line
        lines.append(line)
        heads.append(head)
    assert verified(lines) == head
    for earlier in heads:
        assert verified(lines, earlier) == head


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda x: [*x[:2], x[2].replace('"index":2', '"index":9'), *x[3:]], 3),
        (lambda x: x[1:], 1),
        (lambda x: [*x[:2], *x[3:]], 3),
        (lambda x: [x[0], x[2], x[1], *x[3:]], 2),
        (lambda x: [*x[:3], x[2], *x[3:]], 4),
        (lambda x: [*x[:1], "", *x[1:]], 2),
        (lambda x: [*x[:4], x[4] + " "], 5),
        (lambda x: [*x[:4], x[4].replace('"number":5', '"number":5.0')], 5),
        (lambda x: [*x, line_of(Head(), "again", {})[0]], 6),
        (lambda x: [*x, line_of(Head(5, "0" * 64), "forged", {})[0]], 6),
    ],
    ids=range(10),
)
def test_the_first_line_that_is_not_as_written_is_named(
    change: Callable[[list[str]], list[str]], line: int
) -> None:
    with pytest.raises(AuditError) as caught:
        verified(change(lines_of(5)))
    assert caught.value.line == line
    assert f"audit line {line} " in str(caught.value)


@given(st.integers(0, 4), st.data())
def test_no_byte_can_be_changed(which: int, data: st.DataObject) -> None:
    lines = lines_of(5)
    raw = bytearray(lines[which].encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 127))
    lines[which] = raw.decode()
    with pytest.raises(AuditError) as caught:
        verified(lines)
    assert caught.value.line == which + 1


def test_a_cut_or_rewritten_log_shows_against_a_head() -> None:
    lines = lines_of(5)
    noted = verified(lines)
    with pytest.raises(AuditError, match="line 4 is missing: the log was cut, it had 5 lines"):
        verified(lines[:3], noted)
    head, other = Head(), []
    for _ in range(6):
        line, head = line_of(head, "another story", {})
        other.append(line)
    assert verified(other) == head
    with pytest.raises(AuditError, match="line 5 is not the one that was noted"):
        verified(other, noted)


@pytest.mark.parametrize("fact", [1.5, float("nan"), b"key", [1], {"a": 1}, 2**63])
def test_facts_are_plain(fact: object) -> None:
    with pytest.raises(StoreError, match="strings, integers"):
        line_of(Head(), "event", {"fact": fact})  # type: ignore[dict-item]


def test_a_line_has_a_bound() -> None:
    with pytest.raises(StoreError, match="more than"):
        line_of(Head(), "event", {"text": "x" * MAX_LINE})


def test_a_file_grows_by_appending_and_belongs_to_its_owner(tmp_path: Path) -> None:
    path, sizes = tmp_path / "audit.jsonl", []
    for index in range(3):
        with Trail(path) as trail:
            trail.note("event", index=index)
        sizes.append(path.read_bytes())
    assert sizes[2].startswith(sizes[1]) and sizes[1].startswith(sizes[0])
    assert verify(path) == trail.head
    assert trail.head.count == 3
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read the audit log none"):
        verify(tmp_path / "none")


def test_an_endless_line_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 32)  # sparse: takes no room
    with pytest.raises(AuditError, match="line 1 is too long"):
        verify(path)


@pytest.mark.parametrize(
    "line",
    ["null", "[]", "{}", "NaN", "[" * 50_000, '{"number":' + "9" * 5000 + "}", "\ud800", "x\n"],
    ids=range(8),
)
def test_lines_that_are_none_are_refused(line: str) -> None:
    with pytest.raises(AuditError) as caught:
        verified([line])
    assert caught.value.line == 1
