"""What a node remembers between messages, restarts and crashes.

Flower keeps a node's `Context.state` in memory and gives each run a new one; a node that outlives
runs and power cuts keeps its truth here. One folder per federation and logical node::

    <directory>/<federation>-<hash>/node-<number>/record.0.json   the record, written in turns
                                                  record.1.json
                                                  update.bin      an update nobody acknowledged

A record is written to the older of its two files, each with a checksum, so that a damaged file
costs one write at most.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from daafl.autonomy.codec import JSON
from daafl.errors import StoreError
from daafl.store.atomic import write_bytes

MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
MAX_UPDATE_BYTES: Final = 1024 * 1024 * 1024

_SLOTS: Final = ("record.0.json", "record.1.json")
_UPDATE: Final = "update.bin"
_MAGIC: Final = b"daafl update 1\n"
_DIGEST_BYTES: Final = 32
_SEQUENCE_BYTES: Final = 8


@dataclass(frozen=True)
class StoredUpdate:
    """An update that was made and perhaps sent, but not acknowledged.

    Parameters
    ----------
    sequence
        The node's number of the update.
    content
        The update, encoded by whoever made it.
    """

    sequence: int
    content: bytes


@dataclass(frozen=True)
class _Record:
    generation: int = 0
    sequence: int = 0
    loop_state: JSON = None


class NodeStore:
    """Durable memory of the nodes on this machine, one record per federation and logical node.

    A node has one process that writes its record; processes of other nodes may share the
    directory.

    Parameters
    ----------
    directory
        Where to keep it; made when first written to.

    Examples
    --------
    >>> import tempfile
    >>> store = NodeStore(Path(tempfile.mkdtemp()))
    >>> store.next_sequence("hospitals", 3), store.next_sequence("hospitals", 3)
    (1, 2)
    >>> NodeStore(store.directory).next_sequence("hospitals", 3)
    3
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def next_sequence(self, federation: str, node: int) -> int:
        """Return a number for the node's next update: more than any before, from 1.

        It is on the disk when this returns, so that no crash makes the node use it again.

        Raises
        ------
        StoreError
            If both copies of the record are damaged, or it cannot be written.
        """
        record = self._read(federation, node)
        record = replace(record, sequence=record.sequence + 1)
        self._write(federation, node, record)
        return record.sequence

    def loop_state(self, federation: str, node: int) -> JSON:
        """Return what `save_loop_state` saved last; ``None`` if nothing was.

        Raises
        ------
        StoreError
            If both copies of the record are damaged.
        """
        return self._read(federation, node).loop_state

    def save_loop_state(self, federation: str, node: int, state: JSON) -> None:
        """Keep the state of the node's own loops.

        Raises
        ------
        StoreError
            If `state` is not JSON or larger than 4 MiB, or the record cannot be written.
        """
        self._write(federation, node, replace(self._read(federation, node), loop_state=state))

    def keep_update(self, federation: str, node: int, update: StoredUpdate) -> None:
        """Keep an update until it is acknowledged; it takes the place of an earlier one.

        Raises
        ------
        StoreError
            If the update is larger than 1 GiB, or cannot be written.
        """
        path = self._folder(federation, node) / _UPDATE
        if len(update.content) > MAX_UPDATE_BYTES:
            raise StoreError(
                f"an update of {len(update.content)} bytes is not kept in {path}; "
                f"at most {MAX_UPDATE_BYTES} are"
            )
        body = update.sequence.to_bytes(_SEQUENCE_BYTES, "big") + update.content
        write_bytes(path, _MAGIC + hashlib.sha256(body).digest() + body)

    def unacknowledged(self, federation: str, node: int) -> StoredUpdate | None:
        """Return the update that waits to be acknowledged; ``None`` if there is none.

        Raises
        ------
        StoreError
            If the file is damaged; it names the file to delete.
        """
        path = self._folder(federation, node) / _UPDATE
        data = _contents(path, len(_MAGIC) + _DIGEST_BYTES + _SEQUENCE_BYTES + MAX_UPDATE_BYTES)
        if data is None:
            return None
        head, body = data[: len(_MAGIC) + _DIGEST_BYTES], data[len(_MAGIC) + _DIGEST_BYTES :]
        if len(body) < _SEQUENCE_BYTES or head != _MAGIC + hashlib.sha256(body).digest():
            raise StoreError(
                f"{path} is damaged; delete it: the update in it is lost, everything else is not"
            )
        sequence = int.from_bytes(body[:_SEQUENCE_BYTES], "big")
        return StoredUpdate(sequence, body[_SEQUENCE_BYTES:])

    def acknowledge(self, federation: str, node: int, sequence: int) -> None:
        """Forget the kept update if it has this sequence number or an earlier one.

        Raises
        ------
        StoreError
            If the file is damaged or cannot be deleted.
        """
        update = self.unacknowledged(federation, node)
        if update is None or update.sequence > sequence:
            return
        path = self._folder(federation, node) / _UPDATE
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be deleted ({error.strerror}); check the folder's permissions"
            ) from error

    def _folder(self, federation: str, node: int) -> Path:
        """Return the node's folder; whatever the federation is called, it lies in `directory`."""
        if node < 0:
            raise StoreError(f"node {node} has no record; logical ids of nodes are 0 or more")
        slug = re.sub(r"[^a-z0-9]+", "-", federation.lower()).strip("-")[:40] or "federation"
        digest = hashlib.sha256(federation.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return self.directory / f"{slug}-{digest}" / f"node-{node}"

    def _read(self, federation: str, node: int) -> _Record:
        folder = self._folder(federation, node)
        contents = [_contents(folder / slot, MAX_RECORD_BYTES) for slot in _SLOTS]
        written = [data for data in contents if data is not None]
        records = [record for data in written if (record := _parsed(data)) is not None]
        if not written:
            return _Record()
        if not records:
            raise StoreError(
                f"the record of node {node} in {folder} is damaged, and so is its copy; restore "
                "the folder from a backup, or delete it and give the node a new logical id"
            )
        newest = max(records, key=lambda record: record.generation)
        if len(records) < len(written):
            # The damaged file may have been the newer one. It was one write ahead at most, and
            # a write uses one sequence number at most.
            return replace(newest, sequence=newest.sequence + 1)
        return newest

    def _write(self, federation: str, node: int, record: _Record) -> None:
        folder = self._folder(federation, node)
        generation = record.generation + 1
        body = {
            "generation": generation,
            "sequence": record.sequence,
            "loop_state": record.loop_state,
        }
        try:
            text = json.dumps(body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"the loop state of node {node} is not JSON ({error})") from error
        data = json.dumps({"sha256": _digest(text), "body": text}).encode()
        if len(data) > MAX_RECORD_BYTES:
            raise StoreError(
                f"the record of node {node} has {len(data)} bytes; at most {MAX_RECORD_BYTES} "
                f"are kept in {folder}"
            )
        write_bytes(folder / _SLOTS[generation % 2], data)


def _contents(path: Path, limit: int) -> bytes | None:
    """Return what is in a file, cut one byte beyond `limit`; ``None`` if there is no file."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}); check the folder's permissions"
        ) from error


def _parsed(data: bytes) -> _Record | None:
    """Return the record in a file; ``None`` if it is damaged."""
    try:
        outer = json.loads(data)
        if outer["sha256"] != _digest(outer["body"]):
            return None
        body = json.loads(outer["body"])
        record = _Record(body["generation"], body["sequence"], body["loop_state"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_sound = type(record.generation) is int and type(record.sequence) is int
    return record if is_sound and record.sequence >= 0 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
