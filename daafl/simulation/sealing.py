"""Messages as they are when they are sent, and which of them run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from daafl.flower import record_dict, with_message_id
from daafl.messages import ARRAYS

Record = ArrayRecord | ConfigRecord | MetricRecord

T = TypeVar("T")


def batches(
    messages: Sequence[Message],
    is_together: Callable[[Message], bool],
    most_together: Callable[[Message], int],
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
    most_together
        How many of a kind do so at most.
    """
    run: list[Message] = []
    nodes: set[int] = set()
    for message in messages:
        own, node = message.content.get(ARRAYS), message.metadata.dst_node_id
        fits = bool(run) and run[-1].content.get(ARRAYS) is own and node not in nodes
        if run and not (fits and isinstance(own, ArrayRecord) and is_together(message)):
            yield from _divided(run, most_together)
            run, nodes = [], set()
        run.append(message)
        nodes.add(node)
    if run:
        yield from _divided(run, most_together)


def _divided(
    run: Sequence[Message], most_together: Callable[[Message], int]
) -> Iterator[Sequence[Message]]:
    if len(run) == 1:
        yield run
        return
    yield from divided(run, most_together(run[0]))


def divided(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Yield parts of at most ``most`` items, all of about the same size.

    Examples
    --------
    >>> [list(part) for part in divided(range(7), 3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    num_parts = -(-len(items) // most)
    size, num_larger = divmod(len(items), num_parts)
    start = 0
    for part in range(num_parts):
        end = start + size + (part < num_larger)
        yield items[start:end]
        start = end


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
