"""A Flower Grid whose nodes live on this machine and whose time is an event clock."""

from __future__ import annotations

import heapq
import math
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from daafl.simulation.node import FIRST_NODE_ID, Answer, Nodes, Outcome
from daafl.simulation.wire import Parcel, packed, unpacked
from daafl.simulation.workers import Crew, InlineCrew, Task, WorkerCrew, usable_cores

_RUN_ID: Final = 1


@dataclass(eq=False)
class _Flight:
    """A message from the moment it is pushed until its reply is pulled."""

    number: int
    asked: Message  # without its content
    partition: int
    sent_at_s: float
    instruction: Parcel | None
    reply: Parcel | Message | None = None
    state: Parcel | None = None  # of the node after this message
    arrives_at_s: float | None = None  # unknown until the node has worked
    is_forgotten: bool = False


@dataclass(eq=False)
class _Node:
    """What the grid knows of one node; messages wait in `queue`, the first of them runs."""

    queue: deque[_Flight] = field(default_factory=deque)
    free_at_s: float = 0.0
    state: Parcel | None = None  # after its last message that has run
    delivered_state: Parcel | None = None  # after its last message whose reply has arrived


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
        protects from a ClientApp that hangs or ends its process.
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
        self._devices = Devices.uniform(num_nodes) if devices is None else devices
        if len(self._devices) != num_nodes:
            raise ValueError(f"devices are for {len(self._devices)} nodes, not for {num_nodes}")
        adopt_task_identity(run_id=_RUN_ID)
        self._run = empty_run(_RUN_ID)
        self._num_nodes = num_nodes
        nodes = Nodes(client_app, num_nodes, _RUN_ID, dict(run_config or {}))
        self._crew = _crew(nodes, workers=workers, timeout_s=message_timeout_s)
        self._closed = weakref.finalize(self, self._crew.close)
        self._now_s = 0.0
        self._num_pushed = 0
        self._nodes: dict[int, _Node] = {}
        self._running: dict[int, _Flight] = {}
        self._earliest: list[tuple[float, int]] = []  # when unfinished flights arrive at best
        self._arrivals: list[tuple[float, int, _Flight]] = []
        self._delivered: dict[str, _Flight] = {}

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
        return self._now_s

    def node_state(self, node_id: int) -> RecordDict:
        """Return a copy of a node's `Context.state` after its last reply that has arrived."""
        node = self._nodes.get(self._partition(node_id))
        if node is None or node.delivered_state is None:
            return RecordDict()
        state = unpacked(node.delivered_state)
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
        return [self._push(message).asked.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that have arrived by now, in order of arrival, each once."""
        self._run_until(self._now_s)
        ids = dict.fromkeys(message_ids)
        found = [self._delivered.pop(name) for name in ids if name in self._delivered]
        found.sort(key=lambda flight: (flight.arrives_at_s, flight.number))
        return [_reply(flight) for flight in found]

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
        self._run_until(self._now_s + timeout_s)

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
        deadline_s = math.inf if timeout is None else self._now_s + timeout
        flights = [self._push(message) for message in messages]
        missing = {flight.number for flight in flights}
        while missing:
            missing.difference_update(self._run_until(deadline_s))
            if self._now_s >= deadline_s:
                break
        for flight in flights:
            flight.is_forgotten = flight.number in missing
        arrived = [flight for flight in flights if not flight.is_forgotten]
        for flight in arrived:
            del self._delivered[flight.asked.metadata.message_id]
        return [_reply(flight) for flight in arrived]

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

    def _push(self, message: Message) -> _Flight:
        if not self._closed.alive:
            raise FederationError("the grid is closed and takes no messages")
        if not message.has_content():
            raise ValueError("a message without content cannot be sent to a node")
        partition = self._partition(message.metadata.dst_node_id)
        self._num_pushed += 1
        named = with_message_id(message, f"message-{self._num_pushed}")
        flight = _Flight(
            number=self._num_pushed,
            asked=rebuild(named.metadata, RecordDict()),
            partition=partition,
            sent_at_s=self._now_s,
            instruction=packed(named),
        )
        # No work is negative: the reply cannot come before the message has gone there and back.
        at_best_s = self._now_s + 2 * self._devices.one_way_seconds(partition)
        heapq.heappush(self._earliest, (at_best_s, flight.number))
        self._running[flight.number] = flight
        node = self._nodes.setdefault(partition, _Node())
        node.queue.append(flight)
        if len(node.queue) == 1:
            self._start(node)
        return flight

    def _start(self, node: _Node) -> None:
        """Let the crew run the first message in the node's queue."""
        flight = node.queue[0]
        if flight.instruction is None:
            raise WorkerError(f"message {flight.number} was started twice")
        task = Task(flight.number, flight.partition, flight.instruction, node.state)
        flight.instruction = None
        self._crew.submit(task)

    def _settle(self, number: int, outcome: Outcome) -> None:
        """Take note of what a node has made of a message, and when that arrives."""
        flight = self._running.pop(number)
        node = self._nodes[flight.partition]
        node.queue.popleft()
        steps = 0.0
        if isinstance(outcome, Answer):
            flight.reply = outcome.reply
            node.state = node.state if outcome.state is None else outcome.state
            steps = outcome.steps
        else:
            flight.reply = error_reply(flight.asked, code=outcome.code, reason=outcome.reason)
        flight.state = node.state
        latency_s = self._devices.one_way_seconds(flight.partition)
        begins_at_s = max(flight.sent_at_s + latency_s, node.free_at_s)
        work_s = self._devices.work_seconds(flight.partition, steps=steps)
        node.free_at_s = begins_at_s + work_s
        flight.arrives_at_s = node.free_at_s + latency_s
        heapq.heappush(self._arrivals, (flight.arrives_at_s, number, flight))
        if node.queue:
            self._start(node)

    def _run_until(self, horizon_s: float) -> list[int]:
        """Move the clock to the next arrival, at most to the horizon; return what arrived.

        An arrival is the next one only when nothing that still runs could come before it; until
        that is certain, the crew works.
        """
        while True:
            while self._earliest and self._earliest[0][1] not in self._running:
                heapq.heappop(self._earliest)
            next_s = min(self._arrivals[0][0] if self._arrivals else math.inf, horizon_s)
            if not self._earliest or self._earliest[0][0] > next_s:
                break
            for number, outcome in self._crew.finished():
                self._settle(number, outcome)
        if math.isfinite(next_s):
            self._now_s = max(self._now_s, next_s)
        return self._deliver()

    def _deliver(self) -> list[int]:
        """Hand over all replies that have arrived by now; return their numbers."""
        numbers = []
        while self._arrivals and self._arrivals[0][0] <= self._now_s:
            _, number, flight = heapq.heappop(self._arrivals)
            self._nodes[flight.partition].delivered_state = flight.state
            flight.state = None
            if not flight.is_forgotten:
                self._delivered[flight.asked.metadata.message_id] = flight
            numbers.append(number)
        return numbers


def _crew(nodes: Nodes, *, workers: int | None, timeout_s: float) -> Crew:
    if workers == 0:
        return InlineCrew(nodes)
    wanted = usable_cores() if workers is None else workers
    return WorkerCrew(nodes, num_workers=min(wanted, nodes.num_nodes), task_timeout_s=timeout_s)


def _reply(flight: _Flight) -> Message:
    """Return the reply of a flight that has arrived, under an id that any run gives it."""
    reply = unpacked(flight.reply) if isinstance(flight.reply, Parcel) else flight.reply
    if not isinstance(reply, Message):
        raise WorkerError(f"message {flight.number} has no reply")
    return with_message_id(reply, f"reply-{flight.number}")
