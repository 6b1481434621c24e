"""A folder that one process writes to at a time, however that process ends.

The system takes the lock back when the process ends, also when it is killed, and processes forked
from it do not have it. Where the system or the disk knows no such locks, nothing is locked.
"""

from __future__ import annotations

import errno
import os
import weakref
from pathlib import Path
from typing import Final

from daafl.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module or nothing

LOCK: Final = ".lock"

_TAKEN: Final = (errno.EACCES, errno.EAGAIN)


class FolderLock:
    """Keeps other processes from taking the same lock, for as long as this object lives.

    Parameters
    ----------
    folder
        A folder that is there.

    Raises
    ------
    ConfigError
        If another process has it.
    """

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self._closed = weakref.finalize(self, os.close, descriptor)
        _take(descriptor, folder)


def check_free(folder: Path) -> None:
    """Refuse a folder that another process writes to.

    Raises
    ------
    ConfigError
        If one does.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return  # never locked, or not ours to write to: that shows when it is written to
    try:
        _take(descriptor, folder)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise ConfigError(
                f"another process still writes to {folder}; wait until it ends, or stop it"
            ) from error
