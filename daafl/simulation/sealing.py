"""Messages as they are when they are sent, and which of them run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from daafl.flower import record_dict, with_message_id
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


def sealed(messages: Sequence[Message], message_ids: Sequence[str]) -> list[Message]:
    """Return copies under ids that later changes do not reach; shared records stay shared."""
    copies: dict[int, Record] = {}

    def copied(record: Record) -> Record:
        if id(record) not in copies:
            copies[id(record)] = record.copy()
        return copies[id(record)]

    result = []
    for message, message_id in zip(messages, message_ids, strict=True):
        content = record_dict({name: copied(own) for name, own in message.content.items()})
        result.append(with_message_id(message, message_id, content=content))
    return result
