"""A Flower Grid whose nodes live on this machine and whose time is an event clock."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from daafl.errors import FederationError, WorkerError
from daafl.flower import (
    Run,
    adopt_task_identity,
    empty_run,
    error_reply,
    rebuild,
    with_message_id,
)
from daafl.simulation.devices import Devices
from daafl.simulation.node import FIRST_NODE_ID, Answer, Nodes
from daafl.simulation.snapshot import GridState, Held, state_of, state_tree
from daafl.simulation.timeline import Flight, Timeline
from daafl.simulation.wire import packed, unpacked
from daafl.simulation.workers import Crew, InlineCrew, WorkerCrew, usable_cores
from daafl.store.tree import Tree

_RUN_ID: Final = 1


@dataclass(eq=False)
class _Pushed:
    """A message on its way, without its content: what an answer to it needs."""

    asked: Message
    flight: Flight

    @property
    def message_id(self) -> str:
        """Id of the message, the same in every run."""
        return self.asked.metadata.message_id


class InProcessGrid(Grid):
    """Runs any ClientApp on one machine, in virtual time.

    A message reaches its node after the device's latency, waits until the node is free, occupies
    it for the reported local steps (``steps`` in the ``telemetry`` record; none if absent) times
    the device's seconds per step, and its reply travels for the latency again. A failure costs
    no work. Time moves only in `wait` and `send_and_receive`; replies are handed out once it has
    reached them, equal times in the order of pushing. Replies, their order and their times do
    not depend on the number of workers, as long as the ClientApp draws no global random numbers.

    A ClientApp that raises, answers rubbish, hangs or ends its process costs its reply: an error
    with a reason takes its place. Not safe for use by several threads.

    Parameters
    ----------
    client_app
        The app all nodes run. `Context.node_config` holds ``partition-id`` and
        ``num-partitions``.
    num_nodes
        Number of nodes.
    devices
        Speed and latency per node; ``None`` makes all nodes equal.
    workers
        Processes to run nodes in; ``None`` is one per core, 0 is this process, where nothing
        protects from a ClientApp that hangs or ends its process (and the only choice on Windows).
    message_timeout_s
        Wall-clock seconds that a node may work on one message.
    run_config
        `Context.run_config` of every node.

    Raises
    ------
    ValueError
        If a number is out of range, or `devices` is not for `num_nodes`.

    Examples
    --------
    >>> from flwr.app import ConfigRecord
    >>> app = ClientApp()
    >>> @app.query("name")
    ... def name(message, context):
    ...     answer = ConfigRecord({"partition": context.node_config["partition-id"]})
    ...     return Message(RecordDict({"answer": answer}), reply_to=message)
    >>> with InProcessGrid(app, 2, workers=0) as grid:
    ...     ask = [Message(RecordDict(), node, "query.name") for node in grid.get_node_ids()]
    ...     [reply.content["answer"]["partition"] for reply in grid.send_and_receive(ask)]
    [0, 1]
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_nodes: int,
        *,
        devices: Devices | None = None,
        workers: int | None = None,
        message_timeout_s: float = 120.0,
        run_config: Mapping[str, bool | float | int | str] | None = None,
    ) -> None:
        if num_nodes < 1:
            raise ValueError(f"num_nodes must be at least 1, not {num_nodes}")
        if workers is not None and workers < 0:
            raise ValueError(f"workers must be None or at least 0, not {workers}")
        if not message_timeout_s > 0:
            raise ValueError(f"message_timeout_s must be more than 0, not {message_timeout_s}")
        devices = Devices.uniform(num_nodes) if devices is None else devices
        if len(devices) != num_nodes:
            raise ValueError(f"devices are for {len(devices)} nodes, not for {num_nodes}")
        adopt_task_identity(run_id=_RUN_ID)
        self._run = empty_run(_RUN_ID)
        self._num_nodes = num_nodes
        self._devices = devices
        nodes = Nodes(client_app, num_nodes, _RUN_ID, dict(run_config or {}))
        crew = _crew(nodes, workers=workers, timeout_s=message_timeout_s)
        self._closed = weakref.finalize(self, crew.close)
        self._timeline = Timeline(devices, crew)
        self._out: dict[int, _Pushed] = {}
        self._delivered: dict[str, _Pushed] = {}

    def set_run(self, run: Run) -> None:
        """Set what `run` returns; nodes do not see it."""
        self._run = run

    @property
    def run(self) -> Run:
        """Description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message for a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return Flower's ids of all nodes, in the order of their partitions."""
        return list(range(FIRST_NODE_ID, FIRST_NODE_ID + self._num_nodes))

    def now_s(self) -> float:
        """Return the virtual time: seconds since the grid was made."""
        return self._timeline.now_s

    def node_state(self, node_id: int) -> RecordDict:
        """Return a copy of a node's `Context.state` after its last reply that has arrived."""
        parcel = self._timeline.state(self._partition(node_id))
        state = RecordDict() if parcel is None else unpacked(parcel)
        if not isinstance(state, RecordDict):
            raise WorkerError(f"the state of node {node_id} is a {type(state).__name__}")
        return state

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages to their nodes, where they queue; return their ids.

        What is sent is the content as it is now: later changes to it reach no node.

        Raises
        ------
        ValueError
            If a message has no content or is for a node that does not exist.
        FederationError
            If the grid is closed.
        """
        return [self._push(message).message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that have arrived by now, in order of arrival, each once."""
        self._run_until(self.now_s())
        ids = dict.fromkeys(message_ids)
        found = [self._delivered.pop(name) for name in ids if name in self._delivered]
        found.sort(key=lambda pushed: (pushed.flight.arrives_at_s, pushed.flight.number))
        return [_reply(pushed) for pushed in found]

    def wait(self, timeout_s: float) -> None:
        """Let time pass until further replies arrive, at most `timeout_s`.

        Returns at once if `timeout_s` is infinite and no message is out.

        Raises
        ------
        ValueError
            If `timeout_s` is negative or not a number.
        """
        if not timeout_s >= 0:
            raise ValueError(f"timeout_s must be at least 0, not {timeout_s}")
        self._run_until(self.now_s() + timeout_s)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return their replies, in the order of the messages.

        Parameters
        ----------
        messages
            What to send.
        timeout
            Virtual seconds to wait; replies that come later are dropped. ``None`` waits for all.
        """
        deadline_s = math.inf if timeout is None else self.now_s() + timeout
        asked = [self._push(message) for message in messages]
        missing = {pushed.flight.number for pushed in asked}
        while missing:
            missing.difference_update(self._run_until(deadline_s))
            if self.now_s() >= deadline_s:
                break
        for number in missing:
            del self._out[number]
        arrived = [pushed for pushed in asked if pushed.flight.number not in missing]
        for pushed in arrived:
            del self._delivered[pushed.message_id]
        return [_reply(pushed) for pushed in arrived]

    def snapshot(self) -> dict[str, Tree]:
        """Return where the grid stands, as plain data.

        That is the virtual time, the number of messages, what nodes keep in `Context.state`, the
        messages whose replies have not arrived, also those nobody waits for any more, and the
        replies that nobody has taken. What nodes have worked on is not in it: it is done again.
        """
        awaited = frozenset(self._out)
        held = tuple(Held(pushed.asked, pushed.flight) for pushed in self._delivered.values())
        return state_tree(GridState(self._timeline.point(), awaited, held), self._devices)

    def restore(self, state: Tree) -> None:
        """Go on, in a grid that is new, where another one stood at its `snapshot`.

        With the same ClientApp, nodes and devices, everything that follows is the same: replies,
        their order, their times and their ids, whatever the number of workers.

        Raises
        ------
        StoreError
            If it is no state of a grid.
        FederationError
            If it is one of other nodes or devices, or this grid is closed or was used before.
        """
        if not self._closed.alive or self._timeline.next_number() > 1 or self.now_s() > 0:
            raise FederationError("a grid that was used or closed cannot be restored; make one")
        stood = state_of(state, self._devices)
        self._timeline.go_to(stood.point)
        for flight in stood.point.out:
            if flight.number in stood.awaited:
                self._out[flight.number] = _pushed(flight)
        for held in stood.held:
            pushed = _Pushed(held.asked, held.flight)
            self._delivered[pushed.message_id] = pushed

    def close(self) -> None:
        """End all worker processes; harmless when repeated."""
        self._closed()

    def __enter__(self) -> Self:
        """Return the grid; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the grid."""
        self.close()

    def _partition(self, node_id: int) -> int:
        partition = node_id - FIRST_NODE_ID
        if not 0 <= partition < self._num_nodes:
            last = FIRST_NODE_ID + self._num_nodes - 1
            raise ValueError(f"there is no node {node_id}; nodes are {FIRST_NODE_ID} to {last}")
        return partition

    def _push(self, message: Message) -> _Pushed:
        if not self._closed.alive:
            raise FederationError("the grid is closed and takes no messages")
        if not message.has_content():
            raise ValueError("a message without content cannot be sent to a node")
        partition = self._partition(message.metadata.dst_node_id)
        named = with_message_id(message, f"message-{self._timeline.next_number()}")
        flight = self._timeline.send(partition, packed(named))
        pushed = _Pushed(rebuild(named.metadata, RecordDict()), flight)
        self._out[flight.number] = pushed
        return pushed

    def _run_until(self, horizon_s: float) -> list[int]:
        """Let time pass as `Timeline.run_until` does; return the numbers that arrived."""
        arrived = [flight.number for flight in self._timeline.run_until(horizon_s)]
        for number in arrived:
            if number in self._out:  # else nobody waits for it any more
                pushed = self._out.pop(number)
                self._delivered[pushed.message_id] = pushed
        return arrived


def _pushed(flight: Flight) -> _Pushed:
    message = None if flight.instruction is None else unpacked(flight.instruction)
    if not isinstance(message, Message):
        raise WorkerError(f"message {flight.number} is out as a {type(message).__name__}")
    return _Pushed(rebuild(message.metadata, RecordDict()), flight)


def _crew(nodes: Nodes, *, workers: int | None, timeout_s: float) -> Crew:
    can_fork = hasattr(os, "fork")
    if workers == 0 or (workers is None and not can_fork):
        return InlineCrew(nodes)
    if not can_fork:
        raise ValueError(f"workers must be 0, not {workers}: this system has no fork")
    wanted = usable_cores() if workers is None else workers
    return WorkerCrew(nodes, num_workers=min(wanted, nodes.num_nodes), task_timeout_s=timeout_s)


def _reply(pushed: _Pushed) -> Message:
    """Return the reply that has arrived, under an id that any run gives it."""
    outcome = pushed.flight.outcome
    if outcome is None:
        raise WorkerError(f"{pushed.message_id} was delivered without a reply")
    if isinstance(outcome, Answer):
        reply = unpacked(outcome.reply)
    else:
        reply = error_reply(pushed.asked, code=outcome.code, reason=outcome.reason)
    if not isinstance(reply, Message):
        raise WorkerError(f"the reply to {pushed.message_id} is a {type(reply).__name__}")
    return with_message_id(reply, f"reply-{pushed.flight.number}")
