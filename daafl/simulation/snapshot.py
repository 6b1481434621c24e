"""A grid's state as plain data: everything that decides what it will do next.

Messages travel as pickles between the processes of one run, but they are not stored as such:
loading a pickle runs whatever its author wanted, and a checkpoint is a file that can be passed on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from flwr.app import Message

from daafl.errors import FederationError, StoreError, WorkerError
from daafl.simulation.flight import CohortCall, Flight, Gathering, Group, Instruction
from daafl.simulation.history import Past
from daafl.simulation.memory import kept, lasting, recalled
from daafl.simulation.node import FIRST_NODE_ID, Answer, Failure, Outcome
from daafl.simulation.node_table import NodeRows
from daafl.simulation.plain_messages import MessageReader, MessageWriter
from daafl.simulation.timeline import Point
from daafl.simulation.traffic import Traffic
from daafl.simulation.wire import packed, unpacked
from daafl.simulation.world import World
from daafl.store.tree import Tree

_COHORT = -1  # stands for the node of a message that goes to a whole cohort


@dataclass(frozen=True)
class Held:
    """A reply that has arrived and that nobody has taken yet; ``asked`` has no content."""

    asked: Message
    number: int
    arrives_at_s: float
    outcome: Outcome | None


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
    trainer
        How cohorts are trained; ``None`` if that has not been decided.
    """

    point: Point
    awaited: frozenset[int]
    held: tuple[Held, ...]
    trainer: Tree = None


def state_tree(state: GridState, world: World) -> dict[str, Tree]:
    """Return a grid's state as plain data; equal arrays in it are one object."""
    writer, point = MessageWriter(), state.point
    past, nodes = point.past, point.past.nodes
    return {
        "world": world.digest,
        "num_nodes": world.num_nodes,
        "now_s": point.now_s,
        "num_sent": point.num_sent,
        "traffic": asdict(past.traffic),
        "trainer": state.trainer,
        "nodes": {
            "partitions": nodes.partitions,
            "free_at_s": nodes.free_at_s,
            "bodies": nodes.bodies,
            "states": [
                [partition, writer.records(lasting(recalled(memory)))]
                for partition, memory in sorted(nodes.states.items())
            ],
        },
        "out": [_group_tree(writer, group, state.awaited) for group in past.out],
        "held": [
            {
                "number": held.number,
                "partition": _partition_of(held.asked),
                "arrives_at_s": held.arrives_at_s,
                "message": writer.message(held.asked),
                "reply": _reply_tree(writer, held.outcome),
            }
            for held in state.held
        ],
    }


def state_of(tree: Tree, world: World) -> GridState:
    """Return the state that `state_tree` made plain data of.

    Raises
    ------
    StoreError
        If it is not the state of a grid.
    FederationError
        If it is that of a grid with other nodes or another world.
    """
    try:
        return _state(tree, world)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StoreError(
            f"what is to be restored is not the state of a grid ({type(error).__name__}: {error}); "
            "it needs the checkpoint of a simulation"
        ) from error


def _group_tree(writer: MessageWriter, group: Group, awaited: frozenset[int]) -> Tree:
    gathering = group.gathering
    if gathering is None:
        return {
            "is_batch": group.is_batch,
            "flights": [
                {
                    "number": flight.number,
                    "partition": flight.partition,
                    "sent_at_s": flight.sent_at_s,
                    "num_bytes": flight.num_bytes,
                    "is_over": flight.is_over,
                    "is_awaited": flight.number in awaited,
                    "message": writer.message(_message(flight.instruction)),
                }
                for flight in group.flights
            ],
        }
    call = gathering.call
    return {
        "number": call.number,
        "partitions": call.partitions,
        "sent_at_s": call.sent_at_s,
        "num_bytes": call.num_bytes,
        "steps": call.steps,
        "most_together": call.most_together,
        "is_over": gathering.is_over,
        "is_awaited": call.number in awaited,
        "message": writer.message(call.message),
    }


def _reply_tree(writer: MessageWriter, outcome: Outcome | None) -> Tree:
    """Return a reply's records, or code and reason of an error."""
    if isinstance(outcome, Failure):
        return [outcome.code, outcome.reason]
    if outcome is None:
        raise WorkerError("a reply that has arrived is not there")
    reply = _message(outcome.reply)
    if reply.has_error():
        return [reply.error.code, reply.error.reason]
    return writer.records(reply.content)


def _message(instruction: Instruction) -> Message:
    message = instruction if isinstance(instruction, Message) else unpacked(instruction)
    if not isinstance(message, Message):
        raise WorkerError(f"a {type(message).__name__} is out, not a Message")
    return message


def _partition_of(asked: Message) -> int:
    return max(asked.metadata.dst_node_id - FIRST_NODE_ID, _COHORT)


def _state(tree: Any, world: World) -> GridState:
    _check_same(tree, world)
    reader = MessageReader()
    now_s, num_sent = _seconds(tree["now_s"]), _count(tree["num_sent"])
    nodes = _nodes(reader, tree["nodes"], world)
    out = tuple(_group(reader, item, world, now_s) for item in tree["out"])
    held = tuple(_held(reader, item, world, now_s) for item in tree["held"])
    events = [event for item in tree["out"] for event in item.get("flights", [item])]
    awaited = [item["number"] for item in events if _flag(item["is_awaited"])]
    numbers = [_count(item["number"]) for item in events]
    taken = {*numbers, *(item.number for item in held)}
    if numbers != sorted(set(numbers)) or not set(awaited).isdisjoint(h.number for h in held):
        raise ValueError("its messages are not in order, or one is there twice")
    if not all(1 <= number <= num_sent for number in taken):
        raise ValueError("it has messages that were never sent")
    point = Point(now_s, num_sent, Past(nodes, out, _traffic(tree["traffic"])))
    return GridState(point, frozenset(awaited), held, tree["trainer"])


def _check_same(tree: Any, world: World) -> None:
    num_nodes = _count(tree["num_nodes"])
    if num_nodes != world.num_nodes:
        raise FederationError(
            f"the checkpoint is of {num_nodes} nodes, and this federation has {world.num_nodes}; "
            "resume it with the settings it was started with"
        )
    if tree["world"] != world.digest:
        raise FederationError(
            "the checkpoint is of a fleet with other devices or faults than this federation's; "
            "resume it with the settings it was started with"
        )


def _nodes(reader: MessageReader, tree: Any, world: World) -> NodeRows:
    partitions = _array(tree["partitions"], np.int64, 1)
    free_at_s, bodies = _array(tree["free_at_s"], float, 1), _array(tree["bodies"], float, 2)
    width = world.bodies(np.zeros(1, np.int64)).shape[1]
    if free_at_s.shape != partitions.shape or bodies.shape != (len(partitions), width):
        raise ValueError("the columns of its nodes do not fit together")
    if len(partitions) and (partitions[0] < 0 or partitions[-1] >= world.num_nodes):
        raise ValueError("it has a node that does not exist")
    if np.any(np.diff(partitions) <= 0):
        raise ValueError("it has a node twice")
    if not np.all((free_at_s >= 0) & np.isfinite(free_at_s)):
        raise ValueError("a node is never free")
    states = {
        _partition(partition, world): kept(reader.records(memory))
        for partition, memory in tree["states"]
    }
    return NodeRows(partitions, free_at_s, bodies, states)


def _group(reader: MessageReader, item: Any, world: World, now_s: float) -> Group:
    if "flights" in item:
        is_batch = _flag(item["is_batch"])
        flights = [
            _flight(reader, each, world, now_s, is_batch=is_batch) for each in item["flights"]
        ]
        if not flights or (len(flights) > 1 and not is_batch):
            raise ValueError("it has messages that were not sent together")
        return Group(flights, is_batch=is_batch)
    number, partitions = _count(item["number"]), _array(item["partitions"], np.int64, 1)
    if not len(partitions) or partitions.min() < 0 or partitions.max() >= world.num_nodes:
        raise ValueError("it has a cohort with a node that does not exist")
    call = CohortCall(
        number,
        partitions,
        _seconds(item["sent_at_s"], latest_s=now_s),
        reader.message(item["message"], number=number, partition=_COHORT),
        _count(item["num_bytes"]),
        _seconds(item["steps"]),
        max(_count(item["most_together"]), 1),
    )
    nothing = np.empty(0)
    gathering = Gathering(call, math.inf, np.empty(0, np.int64), nothing, nothing, Traffic())
    gathering.is_over = _flag(item["is_over"])
    return Group(gathering=gathering)


def _flight(
    reader: MessageReader, item: Any, world: World, now_s: float, *, is_batch: bool
) -> Flight:
    number, partition = _count(item["number"]), _partition(item["partition"], world)
    message = reader.message(item["message"], number=number, partition=partition)
    return Flight(
        number,
        partition,
        _seconds(item["sent_at_s"], latest_s=now_s),
        _count(item["num_bytes"]),
        message if is_batch else packed(message),
        is_settled_before=_flag(item["is_over"]),
    )


def _held(reader: MessageReader, item: Any, world: World, now_s: float) -> Held:
    number = _count(item["number"])
    partition = _COHORT if item["partition"] == _COHORT else _partition(item["partition"], world)
    asked = reader.message(item["message"], number=number, partition=partition)
    arrives_at_s = _seconds(item["arrives_at_s"], latest_s=now_s)
    outcome: Outcome
    match item["reply"]:
        case [int(code), str() | None as reason]:
            outcome = Failure(code, reason or "")
        case reply:
            # What it took, and what the node remembers, matters no more.
            outcome = Answer(Message(reader.records(reply), reply_to=asked), None, 0.0, 0)
    return Held(asked, number, arrives_at_s, outcome)


def _traffic(tree: Any) -> Traffic:
    names = [field.name for field in fields(Traffic) if field.name != "cost"]
    counts = {name: _count(tree[name]) for name in names}
    return Traffic(**counts, cost=_seconds(tree["cost"]))


def _array(value: Any, dtype: Any, dimensions: int) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != dimensions:
        raise ValueError(f"{str(value)[:80]!r} is not an array of {np.dtype(dtype).name}")
    return value


def _partition(value: Any, world: World) -> int:
    partition = _count(value)
    if partition >= world.num_nodes:
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
