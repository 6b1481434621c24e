"""A log to which lines are only ever added, and that shows it if one was changed.

Each line is a JSON object that holds the SHA-256 of the line before it and its own; a change,
removal, insertion or swap of lines breaks the chain at the first line it touches. Lines missing at
the end leave a chain that is whole: whoever wants to notice keeps the last `Head` somewhere else.
`daafl.secure.trail` writes such a log.

Source: Schneier and Kelsey (1999), "Secure audit logs to support computer forensics", without its
encryption.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias

from daafl.errors import StoreError

Fact: TypeAlias = str | int | bool | None

START: Final = "0" * 64
MAX_LINE: Final = 1 << 16
FIELDS: Final = {"number", "previous", "event", "facts", "hash"}


class AuditError(StoreError):
    """An audit log is not as it was written.

    Parameters
    ----------
    line
        First line, from 1, that does not follow from the ones before it.
    problem
        What is wrong there.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"audit line {line} {problem}")
        self.line = line
        self.problem = problem


@dataclass(frozen=True)
class Head:
    """Where a log ends.

    Parameters
    ----------
    count
        Number of lines.
    hash
        SHA-256 of the last one, hexadecimal; zeros for an empty log.
    """

    count: int = 0
    hash: str = START


def line_of(head: Head, event: str, facts: Mapping[str, Fact]) -> tuple[str, Head]:
    """Return the line that follows ``head``, without its newline, and the new head.

    Parameters
    ----------
    event
        What happened, in snake_case.
    facts
        Plain values that say more; never a secret.

    Raises
    ------
    StoreError
        If the line is longer than 64 KiB or holds something else than plain values.
    """
    if not all(_is_fact(fact) for fact in facts.values()):
        raise StoreError(
            "an audit line holds strings, integers below 2**63, booleans and nulls only"
        )
    body = {"number": head.count + 1, "previous": head.hash, "event": event, "facts": dict(facts)}
    own = _hash(body)
    line = _text({**body, "hash": own})
    if len(line.encode()) > MAX_LINE:
        raise StoreError(f"an audit line has more than {MAX_LINE} bytes; put less into it")
    return line, Head(head.count + 1, own)


def verified(lines: Iterable[str], expected: Head | None = None) -> Head:
    """Return where a log ends if nothing in it was changed.

    Parameters
    ----------
    lines
        Without newlines.
    expected
        A head that was noted earlier; the log must still contain it.

    Raises
    ------
    AuditError
        Naming the first line that does not follow from the ones before it.
    """
    head = Head()
    is_found = expected is None or expected == head
    for line in lines:
        problem, head = _next(head, line)
        if problem:
            raise AuditError(head.count, f"{problem}: the log was changed or damaged there")
        is_found = is_found or head == expected
    if not is_found and expected is not None:
        if head.count < expected.count:
            raise AuditError(
                head.count + 1, f"is missing: the log was cut, it had {expected.count} lines"
            )
        raise AuditError(expected.count, "is not the one that was noted: the log was rewritten")
    return head


def verify(path: Path, expected: Head | None = None) -> Head:
    """Return where the log at ``path`` ends if nothing in it was changed.

    Raises
    ------
    AuditError
        Naming the first bad line.
    StoreError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return verified(_lines(file), expected)
    except OSError as error:
        raise StoreError(f"cannot read the audit log {path.name}: {error.strerror}") from error


def _lines(file: IO[bytes]) -> Iterable[str]:
    """Yield lines without newlines; what ends without one is marked by it, as `_next` expects."""
    while raw := file.readline(MAX_LINE + 2):
        text = raw.decode(errors="replace")
        yield text[:-1] if raw.endswith(b"\n") else f"{text}\n"


def _next(head: Head, line: str) -> tuple[str, Head]:
    """Return what is wrong with a line, or nothing, and the head after it."""
    after = Head(head.count + 1, head.hash)
    if len(line) > MAX_LINE:
        return "is too long", after
    if line.endswith("\n"):
        return "is not complete, as if its writer had been stopped", after
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return "is no JSON", after
    if not isinstance(values, dict) or set(values) != FIELDS:
        return "has other fields", after
    own, facts = values.pop("hash"), values["facts"]
    if type(values["event"]) is not str or not isinstance(facts, dict):
        return "has fields of other types", after
    if not all(_is_fact(fact) for fact in facts.values()):
        return "holds facts that are not plain", after
    if type(values["number"]) is not int or values["number"] != after.count:
        return "has another number", after
    if values["previous"] != head.hash:
        return "does not follow the line before it", after
    if own != _hash(values):
        return "does not match its own hash", after
    if _text({**values, "hash": own}) != line:
        return "is written in another way", after
    return "", Head(after.count, own)


def _is_fact(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return value is None or isinstance(value, str)


def _text(values: Mapping[str, object]) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True, ensure_ascii=True)


def _hash(body: Mapping[str, object]) -> str:
    return hashlib.sha256(_text(body).encode()).hexdigest()
