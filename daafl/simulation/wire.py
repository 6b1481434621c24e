"""How objects travel between the grid's process and its workers.

An object is pickled, but large byte strings in it, which is where models lie, stay outside the
pickle: they are neither copied into it nor out of it, and one that a worker already holds is not
sent again. Both ends are forks of one program, so pickles are trusted here and nowhere else.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

INLINE_BYTES: Final = 32 * 1024
"""Byte strings below this size stay in the pickle: a copy is cheaper than a write of its own."""

SHELF_BYTES: Final = 64 * 1024 * 1024
"""Bytes a worker keeps of earlier messages, in case the next one carries them again."""


@dataclass(frozen=True)
class Parcel:
    """A pickled object whose large byte strings lie beside the pickle, in order."""

    frame: bytes
    blobs: tuple[bytes, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of everything in the parcel."""
        return len(self.frame) + sum(map(len, self.blobs))


class _Packer(pickle.Pickler):
    """Leaves large byte strings out of the pickle; the same object is left out once."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.blobs: list[bytes] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, value: object) -> int | None:
        if type(value) is not bytes or len(value) < INLINE_BYTES:
            return None
        if id(value) not in self._places:
            self._places[id(value)] = len(self.blobs)
            self.blobs.append(value)
        return self._places[id(value)]


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, blobs: Sequence[bytes]) -> None:
        super().__init__(file)
        self._blobs = blobs

    def persistent_load(self, place: int) -> bytes:
        return self._blobs[place]


def packed(value: object) -> Parcel:
    """Return `value` as a parcel.

    Raises
    ------
    Exception
        Whatever pickling a foreign object raises.
    """
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(value)
    return Parcel(file.getvalue(), tuple(packer.blobs))


def unpacked(parcel: Parcel) -> object:
    """Return a new object equal to the one packed; only its large byte strings are shared."""
    return _Unpacker(io.BytesIO(parcel.frame), parcel.blobs).load()


def send(connection: Connection, value: object) -> None:
    """Write `value` to the process at the other end, which must be reading."""
    parcel = packed(value)
    connection.send_bytes(len(parcel.blobs).to_bytes(4, "little") + parcel.frame)
    for blob in parcel.blobs:
        connection.send_bytes(blob)


def receive(connection: Connection) -> object:
    """Read what the process at the other end sent.

    Raises
    ------
    EOFError, OSError
        If the other end is gone.
    """
    head = connection.recv_bytes()
    blobs = [connection.recv_bytes() for _ in range(int.from_bytes(head[:4], "little"))]
    return unpacked(Parcel(head[4:], tuple(blobs)))


class Shelf:
    """The grid's record of the byte strings that one worker holds.

    Byte strings are told apart by identity, which costs nothing. A reference is kept to each, so
    that no identity is used twice while it stands for something.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._num_bytes = 0

    def admit(self, blobs: Sequence[bytes]) -> tuple[dict[int, bytes], tuple[int, ...]]:
        """Take note that a worker gets `blobs`; return what it lacks and what it may drop.

        Returns
        -------
        added
            Byte strings to send, by their key on the shelf: the identity.
        dropped
            Keys of the longest unused byte strings beyond `SHELF_BYTES`; never one of `blobs`.
        """
        added: dict[int, bytes] = {}
        for blob in blobs:
            if id(blob) not in self._held:
                added[id(blob)] = blob
                self._num_bytes += len(blob)
            self._held[id(blob)] = blob
            self._held.move_to_end(id(blob))
        in_use = {id(blob) for blob in blobs}
        dropped: list[int] = []
        while self._num_bytes > SHELF_BYTES and (oldest := next(iter(self._held))) not in in_use:
            self._num_bytes -= len(self._held.pop(oldest))
            dropped.append(oldest)
        return added, tuple(dropped)
