"""A grid's state as plain data: everything that decides what it will do next.

Messages travel as pickles between the processes of one run, but they are not stored as such:
loading a pickle runs whatever its author wanted, and a checkpoint is a file that can be passed on.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict

from daafl.errors import FederationError, StoreError, WorkerError
from daafl.simulation.devices import Devices
from daafl.simulation.node import Answer, Failure, Outcome
from daafl.simulation.plain_messages import MessageReader, MessageWriter
from daafl.simulation.timeline import Flight, NodePoint, Point
from daafl.simulation.wire import Parcel, packed, unpacked
from daafl.store.tree import Tree


@dataclass(frozen=True)
class Held:
    """A reply that has arrived and that nobody has taken yet; ``asked`` has no content."""

    asked: Message
    flight: Flight


@dataclass(frozen=True)
class GridState:
    """Where a grid stands.

    Parameters
    ----------
    point
        The event clock and what is out.
    awaited
        Numbers of the messages out whose replies somebody may take.
    held
        Replies that have arrived.
    """

    point: Point
    awaited: frozenset[int]
    held: tuple[Held, ...]


def state_tree(state: GridState, devices: Devices) -> dict[str, Tree]:
    """Return a grid's state as plain data; equal arrays in it are one object."""
    writer = MessageWriter()
    return {
        "devices": _digest(devices),
        "num_nodes": len(devices),
        "now_s": state.point.now_s,
        "num_sent": state.point.num_sent,
        "nodes": [
            [node.partition, node.free_at_s, _memory_tree(writer, node.state)]
            for node in state.point.nodes
        ],
        "out": [
            {
                "number": flight.number,
                "partition": flight.partition,
                "sent_at_s": flight.sent_at_s,
                "is_awaited": flight.number in state.awaited,
                "message": writer.message(_message(flight.instruction)),
            }
            for flight in state.point.out
        ],
        "held": [
            {
                "number": held.flight.number,
                "partition": held.flight.partition,
                "arrives_at_s": held.flight.arrives_at_s,
                "message": writer.message(held.asked),
                "reply": _reply_tree(writer, held.flight.outcome),
            }
            for held in state.held
        ],
    }


def state_of(tree: Tree, devices: Devices) -> GridState:
    """Return the state that `state_tree` made plain data of.

    Raises
    ------
    StoreError
        If it is not the state of a grid.
    FederationError
        If it is that of a grid with other nodes or devices.
    """
    try:
        return _state(tree, devices)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"what is to be restored is not the state of a grid ({type(error).__name__}: {error}); "
            "it needs the checkpoint of a simulation"
        ) from error


def _memory_tree(writer: MessageWriter, state: Parcel | None) -> Tree:
    if state is None:
        return None
    content = unpacked(state)
    if not isinstance(content, RecordDict):
        raise WorkerError(f"the state of a node is a {type(content).__name__}")
    return writer.records(content)


def _reply_tree(writer: MessageWriter, outcome: Outcome | None) -> Tree:
    """Return a reply's records, or code and reason of an error."""
    if isinstance(outcome, Failure):
        return [outcome.code, outcome.reason]
    reply = _message(None if outcome is None else outcome.reply)
    if reply.has_error():
        return [reply.error.code, reply.error.reason]
    return writer.records(reply.content)


def _message(parcel: Parcel | None) -> Message:
    message = None if parcel is None else unpacked(parcel)
    if not isinstance(message, Message):
        raise WorkerError(f"a {type(message).__name__} is out, not a Message")
    return message


def _state(tree: Any, devices: Devices) -> GridState:
    _check_same(tree, devices)
    reader = MessageReader()
    now_s, num_sent = _seconds(tree["now_s"]), _count(tree["num_sent"])
    nodes = tuple(_node(reader, item, devices) for item in tree["nodes"])
    out = tuple(_flight(reader, item, devices, now_s) for item in tree["out"])
    held = tuple(_held(reader, item, devices, now_s) for item in tree["held"])
    awaited = [item["number"] for item in tree["out"] if _flag(item["is_awaited"])]
    numbers = [flight.number for flight in out]
    taken = {*numbers, *(item.flight.number for item in held)}
    if numbers != sorted(numbers) or len(taken) != len(out) + len(held):
        raise ValueError("its messages are not in order, or one is there twice")
    if not all(1 <= number <= num_sent for number in taken):
        raise ValueError("it has messages that were never sent")
    if len({node.partition for node in nodes}) != len(nodes):
        raise ValueError("it has a node twice")
    return GridState(Point(now_s, num_sent, nodes, out), frozenset(awaited), held)


def _check_same(tree: Any, devices: Devices) -> None:
    num_nodes = _count(tree["num_nodes"])
    if num_nodes != len(devices):
        raise FederationError(
            f"the checkpoint is of {num_nodes} nodes, and this federation has {len(devices)}; "
            "resume it with the settings it was started with"
        )
    if tree["devices"] != _digest(devices):
        raise FederationError(
            "the checkpoint is of devices with other speeds or latencies than this federation's; "
            "resume it with the settings it was started with"
        )


def _digest(devices: Devices) -> str:
    data = devices.seconds_per_step.tobytes() + devices.latency_s.tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _node(reader: MessageReader, item: Any, devices: Devices) -> NodePoint:
    partition, free_at_s, memory = item
    state = None if memory is None else packed(reader.records(memory))
    return NodePoint(_partition(partition, devices), _seconds(free_at_s), state)


def _flight(reader: MessageReader, item: Any, devices: Devices, now_s: float) -> Flight:
    number, partition = _count(item["number"]), _partition(item["partition"], devices)
    message = reader.message(item["message"], number=number, partition=partition)
    sent_at_s = _seconds(item["sent_at_s"], latest_s=now_s)
    return Flight(number, partition, sent_at_s, packed(message))


def _held(reader: MessageReader, item: Any, devices: Devices, now_s: float) -> Held:
    number, partition = _count(item["number"]), _partition(item["partition"], devices)
    asked = reader.message(item["message"], number=number, partition=partition)
    arrives_at_s = _seconds(item["arrives_at_s"], latest_s=now_s)
    outcome: Outcome
    match item["reply"]:
        case [int(code), str() | None as reason]:
            outcome = Failure(code, reason or "")
        case reply:
            answer = Message(reader.records(reply), reply_to=asked)
            outcome = Answer(packed(answer), None, 0.0)
    # When it was sent, and what the node remembers, matters no more.
    return Held(asked, Flight(number, partition, 0.0, None, arrives_at_s, outcome))


def _partition(value: Any, devices: Devices) -> int:
    partition = _count(value)
    if partition >= len(devices):
        raise ValueError(f"it has a node {partition}")
    return partition


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:80]!r} is not a whole number from 0")
    return value


def _seconds(value: Any, *, latest_s: float = math.inf) -> float:
    if type(value) is not float or not 0.0 <= value <= latest_s or math.isinf(value):
        raise ValueError(f"{str(value)[:80]!r} is not a time from 0 to {latest_s:g} s")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{str(value)[:80]!r} is neither true nor false")
    return value
