"""The journal on disk: what was decided, written and synced before it takes effect.

After a kill at any instant the file tells everything that was done. What its lines hold is in
``lines.py``; ``replay`` checks that the hubs decide the same again.
"""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn

from daafl.autonomy.codec import encode
from daafl.autonomy.lines import HEADER, KINDS, Line
from daafl.autonomy.replay import Divergence, replay
from daafl.errors import CodecError, JournalError

__all__ = ["Content", "Divergence", "Journal", "read", "read_header", "replay"]

LOG: Final = logging.getLogger(__name__)


class Journal:
    """Appends lines to a journal file and syncs each before returning.

    Opening drops a torn last line, which a kill during a write leaves; a new line would otherwise
    continue it.

    Parameters
    ----------
    path
        An existing journal; `create` begins a new one.
    keep_bytes
        Length to cut the file back to, for a run that resumes at an earlier state; an offset that
        `append` returned.

    Raises
    ------
    JournalError
        When the file cannot be opened, or is shorter than `keep_bytes`.
    """

    def __init__(self, path: Path, *, keep_bytes: int | None = None) -> None:
        self.path = Path(path)
        try:
            # Without a buffer: one that the disk refuses would be written again on closing.
            self._file = self.path.open("r+b", buffering=0)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from error
        whole = _whole_lines(self.path.read_bytes())
        end = len(whole) if keep_bytes is None else keep_bytes
        if end > len(whole):
            self._file.close()
            raise JournalError(f"{path} holds {len(whole)} bytes of lines, not {end}")
        self._file.truncate(end)
        self._file.seek(end)

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> "Journal":
        """Begin a journal with its header line and return it, open.

        Raises
        ------
        JournalError
            When the file exists or cannot be written.
        """
        try:
            Path(path).open("xb").close()
        except OSError as error:
            raise JournalError(f"{path} cannot be created: {error.strerror}") from error
        journal = cls(path)
        try:
            journal.append({"kind": HEADER, **header})
            _sync_folder(journal.path.parent)
        except BaseException:
            journal.close()
            raise
        return journal

    def append(self, *records: Line, is_awaited: bool = True) -> int:
        """Write `records`, one line each, and return the file's length.

        Parameters
        ----------
        records
            What to write.
        is_awaited
            Whether they must be on the disk when this returns; else `sync`, or a later record that
            is awaited, puts them there.

        Raises
        ------
        JournalError
            When a record is not JSON, or the disk refuses it.
        """
        try:
            text = "".join(f"{json.dumps(encode(record), allow_nan=False)}\n" for record in records)
            rest = memoryview(text.encode())
            while rest:
                rest = rest[self._file.write(rest) :]
            if is_awaited:
                os.fsync(self._file.fileno())
            return self._file.tell()
        except (OSError, CodecError) as error:
            raise JournalError(f"{self.path} cannot take another line: {error}") from error

    def sync(self) -> None:
        """Wait until all lines are on the disk.

        Raises
        ------
        JournalError
            When the disk refuses them.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file, all lines on the disk."""
        try:
            if not self._file.closed:
                with suppress(OSError):  # whoever waited for a line has been told
                    os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Content(NamedTuple):
    """What a journal holds: its header, and the lines after it."""

    header: dict[str, Any]
    records: tuple[dict[str, Any], ...]


def read(path: Path) -> Content:
    """Return the header and the records of a journal; a torn last line is dropped and logged.

    Raises
    ------
    JournalError
        When the file cannot be read or another line is damaged; names the line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    whole = _whole_lines(data)
    if len(whole) < len(data):
        LOG.warning("%s: its last line was cut off after %d bytes and is left out", path,
                    len(data) - len(whole))  # fmt: skip
    records = [
        _parsed(line, f"{path}, line {number}")
        for number, line in enumerate(whole.splitlines(), start=1)
    ]
    if not records or records[0]["kind"] != HEADER:
        raise JournalError(f"{path} is no journal: its first line must be a header")
    return Content(records[0], tuple(records[1:]))


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a journal, whatever follows it.

    Raises
    ------
    JournalError
        When the file cannot be read or its first line is no header.
    """
    try:
        with Path(path).open("rb") as file:
            line = file.readline()
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    header = _parsed(line, f"{path}, line 1")
    if header["kind"] != HEADER:
        raise JournalError(f"{path} is no journal: its first line must be a header")
    return header


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    try:
        record = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{where} is damaged: {error}") from error
    if not isinstance(record, dict) or record.get("kind") not in KINDS:
        raise JournalError(f"{where} is damaged: its kind must be one of {', '.join(KINDS)}")
    return record


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
