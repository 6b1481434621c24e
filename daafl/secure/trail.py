"""A run's audit log while it is being written: see `daafl.secure.audit` for its form."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daafl.errors import StoreError
from daafl.secure.audit import MAX_LINE, Fact, Head, line_of, verify

AUDIT: Final = "audit.jsonl"  # name of the file in a run's folder


class Trail:
    """Adds lines to an audit log; one that exists is verified and gone on with.

    Whole lines are never taken back, also not by a run that resumes from an earlier step. A line
    that was cut short when a process was killed is completed by a new one.

    Parameters
    ----------
    path
        The file.
    expected
        Where it ended when that was noted last; it must still contain that.

    Raises
    ------
    StoreError
        If the file was changed since it was written, or cannot be read or written.
    """

    def __init__(self, path: Path, expected: Head | None = None) -> None:
        self._path = path
        try:
            path.touch(0o600)
            was_torn = _without_torn_line(path)
            self.head = verify(path, expected)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
        except OSError as error:
            raise self._failed(error) from error
        if was_torn:
            self.note("line_lost")

    def note(self, event: str, **facts: Fact) -> None:
        """Add a line; it is on the disk after the next `sync`.

        Parameters
        ----------
        event
            What happened, in snake_case.
        facts
            Plain values; never a secret.
        """
        line, head = line_of(self.head, event, facts)
        try:
            rest = memoryview(f"{line}\n".encode())
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._failed(error) from error
        self.head = head

    def sync(self) -> None:
        """Return when all lines are on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Put the last lines on the disk and let go of the file."""
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"cannot write the audit log {self._path.name}: {error.strerror}")


def _without_torn_line(path: Path) -> bool:
    """Cut off what follows the last newline of a file; return whether there was anything."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - MAX_LINE - 1)
        file.seek(start)
        tail = file.read()
        end = start + tail.rfind(b"\n") + 1
        # Something longer than any line is no torn one: the check of the chain is to find it.
        if end == size or (end == start and start > 0):
            return False
        file.truncate(end)
    return True
