"""Updates that wait for a verdict, beyond what memory should hold: in a file without a name.

The file is written through the kernel's page cache and mapped for reading, so its pages are memory
that the kernel can take back at any time. A place in the file is used again as soon as nobody holds
the array that was there.
"""

from __future__ import annotations

import io
import mmap
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from daafl.errors import StoreError
from daafl.learning.layout import Vector
from daafl.learning.update import Update
from daafl.strategies.aggregation import MAX_HELD_BYTES

LIMIT_BYTES: Final = 64 * 2**20

_FORGET: Final[int | None] = getattr(mmap, "MADV_DONTNEED", None)  # not on every system


class Spool:
    """Keeps the first vectors in memory and the others in a file.

    Parameters
    ----------
    folder
        Where the file is made; ``None`` for the system's folder of temporary files.
    limit_bytes
        Vectors of so many bytes together stay in memory.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._bytes_in_memory = 0
        self._file: io.FileIO | None = None
        self._file_bytes = 0
        self._free: dict[int, list[int]] = {}

    @property
    def file_bytes(self) -> int:
        """Length of the file; 0 as long as there is none."""
        return self._file_bytes

    def held(self, vector: Vector) -> Vector:
        """Return the vector itself if there is room for it in memory, else a read-only copy.

        The copy is a view of the file and stays valid as long as somebody holds it.

        Raises
        ------
        StoreError
            If the file cannot be written, for example because the disk is full.
        """
        if self._bytes_in_memory + vector.nbytes <= self._limit_bytes:
            self._bytes_in_memory += vector.nbytes
            weakref.finalize(vector, self._release_memory, vector.nbytes)
            return vector
        try:
            return self._written(np.ascontiguousarray(vector))
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise StoreError(
                f"updates that wait for their step cannot be written to {where}: {error}; free "
                "space there, or set TMPDIR to a folder that has some"
            ) from error

    def passing(self, updates: Iterable[Update]) -> Iterator[Update]:
        """Yield the updates, and let go of the file's pages behind those that have passed.

        The latest stay mapped: `weighted_mean` holds so many before it reads them.
        """
        recent: deque[Update] = deque()
        num_bytes = 0
        for update in updates:
            yield update
            recent.append(update)
            num_bytes += update.delta.nbytes
            while num_bytes - recent[0].delta.nbytes > MAX_HELD_BYTES:
                oldest = recent.popleft()
                num_bytes -= oldest.delta.nbytes
                _forget_pages(oldest.delta)
        for update in recent:
            _forget_pages(update.delta)

    def _written(self, vector: Vector) -> Vector:
        file = self._opened()
        room = -(-vector.nbytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        places = self._free.setdefault(room, [])
        if places:
            start = places.pop()
        else:
            start = self._file_bytes
            file.truncate(start + room)
            self._file_bytes += room
        try:
            file.seek(start)
            rest = vector.view(np.uint8).data
            while rest:  # the system may take less than all of it at a time
                rest = rest[file.write(rest) :]
            mapped = mmap.mmap(file.fileno(), room, access=mmap.ACCESS_READ, offset=start)
        except OSError:
            places.append(start)
            raise
        weakref.finalize(mapped, places.append, start)
        return np.frombuffer(mapped, vector.dtype, vector.size)

    def _opened(self) -> io.FileIO:
        if self._file is None:
            # Open for as long as the spool lives: it has no name to open it by again.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115
                buffering=0, prefix="daafl-", dir=self._folder
            )
            weakref.finalize(self, self._file.close)
        return self._file

    def _release_memory(self, num_bytes: int) -> None:
        self._bytes_in_memory -= num_bytes


def is_in_file(vector: Vector) -> bool:
    """Return whether a vector that a spool holds lies in its file."""
    return _map_of(vector) is not None


def _map_of(vector: Vector) -> mmap.mmap | None:
    base: Any = vector.base
    owner = base.obj if isinstance(base, memoryview) else base
    return owner if isinstance(owner, mmap.mmap) else None


def _forget_pages(vector: Vector) -> None:
    mapped = _map_of(vector)
    if mapped is not None and _FORGET is not None:
        mapped.madvise(_FORGET)
