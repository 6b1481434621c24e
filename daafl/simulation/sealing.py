"""Messages as they are when they are sent, and which of them run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from daafl.flower import rebuild
from daafl.messages import ARRAYS

Record = ArrayRecord | ConfigRecord | MetricRecord

MAX_TOGETHER: Final = 128
"""Messages of one job at most. Larger computations are hardly faster, and several share cores."""


def batches(
    messages: Sequence[Message], is_together: Callable[[Message], bool]
) -> Iterator[Sequence[Message]]:
    """Yield messages in batches, in their order.

    A batch goes to different nodes and carries one and the same record of arrays. How messages
    are divided depends on them alone.

    Parameters
    ----------
    messages
        What is sent at once.
    is_together
        Whether messages of a kind run together at all.
    """
    batch: list[Message] = []
    nodes: set[int] = set()
    arrays: object = None
    for message in messages:
        own = message.content.get(ARRAYS)
        node = message.metadata.dst_node_id
        fits = arrays is own and node not in nodes and len(batch) < MAX_TOGETHER
        if batch and not (fits and isinstance(own, ArrayRecord) and is_together(message)):
            yield batch
            batch, nodes = [], set()
        batch.append(message)
        nodes.add(node)
        arrays = own
    if batch:
        yield batch


def sealed(messages: Sequence[Message]) -> list[Message]:
    """Return copies that later changes do not reach; records that are shared stay shared."""
    copies: dict[int, Record] = {}

    def copied(record: Record) -> Record:
        if id(record) not in copies:
            copies[id(record)] = record.copy()
        return copies[id(record)]

    result = []
    for message in messages:
        content = message.content.copy()
        for name, record in message.content.items():
            content[name] = copied(record)
        result.append(rebuild(message.metadata, content))
    return result
