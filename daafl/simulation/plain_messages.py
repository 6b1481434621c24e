"""Flower's messages as plain data, and back.

A message is its type, its group and its records: names, numbers, and arrays as bytes. The values
in an array's ``.npy`` file are kept apart from its header, so that a checkpoint holds a model once
whether it is out in messages or held by the coordinator.
"""

from __future__ import annotations

from typing import Any, Final

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from daafl.flower import with_message_id
from daafl.simulation.node import FIRST_NODE_ID
from daafl.store.tree import Tree

_NPY_MAGIC: Final = b"\x93NUMPY\x01\x00"
_NPY_START: Final = len(_NPY_MAGIC) + 2  # after the two bytes that hold the header's length
_ARRAYS: Final = "arrays"
_KINDS: Final[dict[str, type[ConfigRecord] | type[MetricRecord]]] = {
    "config": ConfigRecord,
    "metrics": MetricRecord,
}


class MessageWriter:
    """Makes plain data of messages; an array that several of them carry becomes one object."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[bytes, bytes, bytes]] = {}

    def message(self, message: Message) -> dict[str, Tree]:
        """Return a message as plain data: all but what the grid gave it."""
        metadata = message.metadata
        return {
            "type": metadata.message_type,
            "group": metadata.group_id,
            "ttl_s": metadata.ttl,
            "task": metadata.dst_task_id,
            "content": self.records(message.content),
        }

    def records(self, content: RecordDict) -> dict[str, Tree]:
        """Return named records as plain data."""
        return {name: self._record(record) for name, record in content.items()}

    def _record(self, record: ArrayRecord | ConfigRecord | MetricRecord) -> Tree:
        if isinstance(record, ArrayRecord):
            return [_ARRAYS, {name: self._array(array) for name, array in record.items()}]
        kind = next(name for name, kind in _KINDS.items() if isinstance(record, kind))
        values: dict[str, Any] = dict(record)
        return [kind, values]

    def _array(self, array: Array) -> Tree:
        data = array.data
        if id(data) not in self._parts:
            start = _values_start(data)
            # The bytes are kept too, so that their identity stands for nothing else meanwhile.
            self._parts[id(data)] = (data, data[:start], data[start:])
        _, head, values = self._parts[id(data)]
        return [array.dtype, list(array.shape), array.stype, head, values]


class MessageReader:
    """Makes messages of plain data; arrays that are one object become one object again.

    What is no message raises `KeyError`, `TypeError`, `ValueError` or `AttributeError`.
    """

    def __init__(self) -> None:
        self._joined: dict[tuple[bytes, int], tuple[bytes, bytes]] = {}

    def message(self, tree: Any, *, number: int, partition: int) -> Message:
        """Return the message as if sent now: how long a run stood still is nobody's business."""
        message = Message(
            self.records(tree["content"]),
            FIRST_NODE_ID + partition,
            tree["type"],
            ttl=tree["ttl_s"],
            group_id=tree["group"],
            dst_task_id=tree["task"],
        )
        return with_message_id(message, f"message-{number}")

    def records(self, tree: Any) -> RecordDict:
        """Return named records."""
        return RecordDict({name: self._record(item) for name, item in tree.items()})

    def _record(self, tree: Any) -> ArrayRecord | ConfigRecord | MetricRecord:
        kind, values = tree
        if kind == _ARRAYS:
            return ArrayRecord({name: self._array(item) for name, item in values.items()})
        return _KINDS[kind](values)

    def _array(self, tree: Any) -> Array:
        dtype, shape, stype, head, values = tree
        key = (head, id(values))
        if key not in self._joined:
            self._joined[key] = (values, head + values)
        return Array(dtype, tuple(shape), stype, self._joined[key][1])


def _values_start(data: bytes) -> int:
    """Return where the values of an ``.npy`` file start; 0 for anything else."""
    if not data.startswith(_NPY_MAGIC):
        return 0
    return _NPY_START + int.from_bytes(data[len(_NPY_MAGIC) : _NPY_START], "little")
