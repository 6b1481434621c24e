"""What a simulated node keeps in `Context.state` from one message to the next."""

from __future__ import annotations

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from daafl.errors import WorkerError
from daafl.flower import record_dict
from daafl.messages import VOLATILE
from daafl.simulation.wire import Parcel, packed, unpacked

Memory = Parcel | RecordDict
"""A node's state that nobody writes to: packed, or as it is if it holds nothing but numbers and
texts, which most nodes' does. Copying those takes a fraction of the time that packing does."""


def kept(state: RecordDict) -> Memory:
    """Return a state as it is now; later changes to it do not matter.

    Raises
    ------
    Exception
        Whatever pickling a foreign object raises.
    """
    return _copied(state) if _is_simple(state) else packed(state)


def recalled(memory: Memory | None) -> RecordDict:
    """Return what a node kept, new and its own to write to; empty if it kept nothing."""
    if memory is None:
        return RecordDict()
    if isinstance(memory, RecordDict):
        return _copied(memory)
    state = unpacked(memory)
    if not isinstance(state, RecordDict):
        raise WorkerError(f"the state of a node is a {type(state).__name__}, not a RecordDict")
    return state


def lasting(state: RecordDict) -> RecordDict:
    """Return what of a state may be written to a disk."""
    names = [name for name in state if not name.startswith(VOLATILE)]
    return record_dict({name: state[name] for name in names}) if len(names) < len(state) else state


def _is_simple(state: RecordDict) -> bool:
    return all(
        type(record) in (ConfigRecord, MetricRecord)
        and not any(isinstance(value, list) for value in record.values())
        for record in state.values()
    )


def _copied(state: RecordDict) -> RecordDict:
    return record_dict({name: record.copy() for name, record in state.items()})
