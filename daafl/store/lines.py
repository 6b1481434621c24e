"""Files of lines that grow at their end, and go back to where they were."""

from __future__ import annotations

import os
from pathlib import Path

from daafl.errors import StoreError
from daafl.store.atomic import sync_folder


def append_line(path: Path, line: str) -> None:
    """Write a line at the end of a file and hand it to the operating system.

    Raises
    ------
    StoreError
        If it cannot be written; a part of it may have been.
    """
    try:
        # Without a buffer: one that the disk refuses would be written again on closing.
        with path.open("ab", buffering=0) as file:
            rest = memoryview(f"{line}\n".encode())
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        raise StoreError(
            f"{path} cannot take another line ({error.strerror or error}); "
            "check the folder's permissions and the space on its disk"
        ) from error


def synced_size(path: Path) -> int:
    """Return the size of a file in bytes, once all of it is on the disk.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def truncate_lines(path: Path, size: int) -> None:
    """Cut a file of lines back to its first ``size`` bytes, which end with a line.

    A line that a killed process has left unfinished is cut off with the rest.

    Raises
    ------
    StoreError
        If the file is shorter, no line ends there, or it cannot be written; it is unchanged then.
    """
    try:
        with path.open("r+b") as file:
            actual = os.fstat(file.fileno()).st_size
            if not 0 <= size <= actual:
                raise StoreError(
                    f"{path} has {actual} bytes, and the run is to go on after byte {size}: "
                    "lines are missing; restore the file from a backup"
                )
            file.seek(max(size - 1, 0))
            if size > 0 and file.read(1) != b"\n":
                raise StoreError(
                    f"{path} has no line that ends at byte {size}, where the run is to go on; "
                    "restore the file from a backup"
                )
            file.truncate(size)
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"{path} cannot be cut back to {size} bytes ({error.strerror or error}); "
            "check the folder's permissions"
        ) from error


def remove(path: Path) -> None:
    """Remove a file for good, if it is there.

    Raises
    ------
    StoreError
        If it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be removed ({error.strerror or error}); check the folder's permissions"
        ) from error
