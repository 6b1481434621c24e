"""Byte strings in files named by their SHA-256: stored once, verified whenever read.

A small one is packed if that makes it smaller, so a file is either as long as its byte string and
the same, or shorter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from daafl.errors import StoreError
from daafl.store.atomic import place_file, sync_folder
from daafl.store.manifest import Buffer, digest_of
from daafl.store.packing import SMALL_BYTES, in_planes, out_of_planes, packed, unpacked

_OWN: Final = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\..*")  # blobs, and what a kill left of one


class Blobs:
    """A folder of byte strings.

    Parameters
    ----------
    folder
        Where they are; made, in a folder that is there, when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # On the disk with certainty and right when last looked at; with the size of the file.
        self._sound: dict[str, int] = {}

    def add(self, blobs: Mapping[str, Buffer]) -> None:
        """Store byte strings, by their SHA-256; they are on the disk when this returns.

        Those that are there are not written again. Whatever a process before this one wrote is
        read once before it is relied on.

        Raises
        ------
        OSError
            If one cannot be written. Those before it are stored then.
        """
        unsure = {name: blob for name, blob in blobs.items() if not self._is_sound(name)}
        if not unsure:
            return
        self.folder.mkdir(exist_ok=True)
        for name, blob in unsure.items():
            if not self._is_stored(name, len(blob)):
                place_file(self.folder / name, _content(blob))
        sync_folder(self.folder)
        self._sound.update({name: self._size(name) for name in unsure})

    def read(self, name: str, size: int) -> bytes:
        """Return the byte string of a SHA-256.

        Raises
        ------
        StoreError
            If it is missing, cannot be read or has changed; the sentence says which.
        """
        try:
            with (self.folder / name).open("rb") as file:
                data = file.read(size + 1)
        except OSError as error:
            raise StoreError(f"{name[:12]} of its arrays: {error.strerror or error}") from error
        try:
            is_packed = len(data) < size <= SMALL_BYTES
            plain = out_of_planes(unpacked(data, size)) if is_packed else data
        except StoreError as error:
            raise StoreError(f"{name[:12]} of its arrays: {error}") from error
        if len(plain) != size or digest_of(plain) != name:
            raise StoreError(f"{name[:12]} of its arrays does not have the checksum in its name")
        return plain

    def num_bytes(self, names: Collection[str]) -> int:
        """Return how much room byte strings take, as far as they are known to be there."""
        return sum(self._sound.get(name, 0) for name in names)

    def remove_all_but(self, names: Collection[str]) -> None:
        """Remove every other byte string, and what killed writes have left.

        What cannot be removed stays until the next time: it is in nobody's way.
        """
        with suppress(FileNotFoundError):
            for file in os.listdir(self.folder):
                if file not in names and _OWN.fullmatch(file):
                    self._sound.pop(file, None)
                    with suppress(OSError):
                        os.unlink(self.folder / file)

    def _is_sound(self, name: str) -> bool:
        """Return whether a byte string that was seen to be right is still there in its size."""
        try:
            return name in self._sound and self._size(name) == self._sound[name]
        except OSError:
            return False

    def _size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def _is_stored(self, name: str, size: int) -> bool:
        try:
            self.read(name, size)
        except StoreError:
            return False
        return True


def _content(blob: Buffer) -> Buffer:
    """Return what a file holds for a byte string."""
    if len(blob) > SMALL_BYTES:
        return blob
    small = packed(in_planes(bytes(blob)))
    return small if len(small) < len(blob) else blob
