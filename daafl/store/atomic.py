"""Files that are there whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from daafl.errors import StoreError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by one that holds ``data``.

    A reader, and a machine that loses power, sees the old file or the new one. When the function
    returns, the new one is on the disk. Missing folders are made.

    Raises
    ------
    StoreError
        If the file cannot be written; the old one is as it was then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place_file(path, data)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}); "
            "check the folder's permissions and the space on its disk"
        ) from error


def write_json(path: Path, value: object) -> None:
    """Replace the file at ``path`` by the JSON of ``value``, readable and with a final newline.

    Raises
    ------
    StoreError
        If the file cannot be written, or ``value`` is not JSON (NaN and infinity are not).
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path} cannot be written: its content is not JSON ({error})") from error
    write_bytes(path, text.encode() + b"\n")


def place_file(path: Path, data: bytes | memoryview) -> None:
    """Replace the file at ``path`` as `write_bytes` does, in a folder that is there.

    Its bytes are on the disk when this returns; its name is only after `sync_folder`, so that
    several files can share one.

    Raises
    ------
    OSError
        If the file cannot be written; the old one is as it was then.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.chmod(name, _mode_of(path))
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, without which a new file may be lost."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, nor need it be
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode_of(path: Path) -> int:
    """Return the permissions the new file gets: the old file's, or what ``open`` would give."""
    with suppress(FileNotFoundError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
