"""Where a node's update counter lives: in its store, or for the time of a run."""

from __future__ import annotations

from typing import Final

from flwr.app import ConfigRecord, Context

from daafl.flower import config_record
from daafl.store.node_store import NodeStore

_RECORD: Final = "daafl.node"
_SEQUENCE: Final = "sequence"


def has_sent(context: Context) -> bool:
    """Return whether a node without a store has sent an update in this run."""
    return _RECORD in context.state


def next_sequence(context: Context, store: NodeStore | None, federation: str, node: int) -> int:
    """Return a number for the node's next update, more than any before.

    With a store the number outlives the run. `Context.state` ends with the run, which is enough
    where updates do too.

    Raises
    ------
    StoreError
        If the store is damaged or cannot be written.
    """
    if store is not None:
        return store.next_sequence(federation, node)
    record = context.state.get(_RECORD)
    last = record.get(_SEQUENCE) if isinstance(record, ConfigRecord) else None
    sequence = last + 1 if isinstance(last, int) else 1
    context.state[_RECORD] = config_record({_SEQUENCE: sequence})
    return sequence
