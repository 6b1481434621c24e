"""The event clock: which message runs at which node, and when its reply arrives."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from daafl.errors import WorkerError
from daafl.simulation.devices import Devices
from daafl.simulation.node import Answer, Failure, Outcome
from daafl.simulation.wire import Parcel
from daafl.simulation.workers import Crew, Task


@dataclass(eq=False)
class Flight:
    """A message from the moment it is sent until its reply arrives.

    Parameters
    ----------
    number
        Counts the messages of a timeline from 1.
    partition
        Index of the node it is for.
    sent_at_s, arrives_at_s
        Virtual times of message and reply; the latter is unknown until the node has worked.
    instruction
        The message; ``None`` once its reply has arrived. Until then it may have to be run again.
    outcome
        What the node made of it.
    state, free_at_s
        The node's state after this message, and the virtual time from which it is free.
    """

    number: int
    partition: int
    sent_at_s: float
    instruction: Parcel | None
    arrives_at_s: float = math.inf
    outcome: Outcome | None = None
    state: Parcel | None = None
    free_at_s: float = 0.0


@dataclass(frozen=True)
class NodePoint:
    """A node after its last message whose reply has arrived."""

    partition: int
    free_at_s: float
    state: Parcel | None


@dataclass(frozen=True)
class Point:
    """Where a timeline stands, with nothing in it that has happened but is not known yet.

    Parameters
    ----------
    now_s
        Virtual time.
    num_sent
        Messages sent so far.
    nodes
        Nodes that have answered, as far as their answers have arrived.
    out
        Messages whose replies have not arrived, in the order of sending, to be run from there.
    """

    now_s: float
    num_sent: int
    nodes: tuple[NodePoint, ...]
    out: tuple[Flight, ...]


@dataclass(eq=False)
class _Node:
    """A node: of the messages in its queue the first one runs, the others wait."""

    queue: deque[Flight] = field(default_factory=deque)
    free_at_s: float = 0.0
    state: Parcel | None = None  # after its last message that has run
    delivered: NodePoint | None = None


class Timeline:
    """Sends messages to nodes and moves time from one arrival of a reply to the next.

    What a message costs is known only after it has run. So a message runs as early as possible
    in real time, and virtual time moves to an arrival only when nothing that still runs could
    come before it (conservative simulation; Chandy and Misra 1979).

    Parameters
    ----------
    devices
        Speed and latency of every node.
    crew
        Who runs the messages.
    """

    def __init__(self, devices: Devices, crew: Crew) -> None:
        self.now_s = 0.0
        self._devices = devices
        self._crew = crew
        self._num_sent = 0
        self._nodes: dict[int, _Node] = {}
        self._out: dict[int, Flight] = {}
        self._running: dict[int, Flight] = {}
        self._earliest: list[tuple[float, int]] = []  # when flights arrive at best, by number
        self._arrivals: list[tuple[float, int, Flight]] = []

    def next_number(self) -> int:
        """Return the number that the next message will have."""
        return self._num_sent + 1

    def send(self, partition: int, instruction: Parcel) -> Flight:
        """Send a message to a node now."""
        self._num_sent += 1
        flight = Flight(self._num_sent, partition, self.now_s, instruction)
        self._enqueue(flight)
        return flight

    def run_until(self, horizon_s: float) -> list[Flight]:
        """Move time to the next arrival, at most to the horizon; return what has arrived.

        Time stays where it is if something arrives now, or if nothing is out and the horizon is
        infinite. Equal times are in the order of sending.
        """
        next_s = self._next_arrival_s(horizon_s)
        if math.isfinite(next_s):
            self.now_s = max(self.now_s, next_s)
        arrived = []
        while self._arrivals and self._arrivals[0][0] <= self.now_s:
            _, _, flight = heapq.heappop(self._arrivals)
            node = self._nodes[flight.partition]
            node.delivered = NodePoint(flight.partition, flight.free_at_s, flight.state)
            del self._out[flight.number]
            flight.state = flight.instruction = None
            arrived.append(flight)
        return arrived

    def state(self, partition: int) -> Parcel | None:
        """Return a node's state after its last message whose reply has arrived."""
        node = self._nodes.get(partition)
        return None if node is None or node.delivered is None else node.delivered.state

    def point(self) -> Point:
        """Return where the timeline stands."""
        delivered = (self._nodes[partition].delivered for partition in sorted(self._nodes))
        nodes = tuple(point for point in delivered if point is not None)
        return Point(self.now_s, self._num_sent, nodes, tuple(self._out.values()))

    def go_to(self, point: Point) -> None:
        """Stand, in a timeline that has sent nothing, where another one stood.

        What was out is sent to the nodes again, with its numbers and times. A reply depends on
        the node's state and the message alone, so the same replies arrive at the same times.
        """
        self.now_s, self._num_sent = point.now_s, point.num_sent
        for known in point.nodes:
            node = _Node(free_at_s=known.free_at_s, state=known.state, delivered=known)
            self._nodes[known.partition] = node
        for flight in point.out:
            self._enqueue(flight)

    def _enqueue(self, flight: Flight) -> None:
        # No work is negative: the reply cannot come before the message has gone there and back.
        # Added one by one as in `_settle`, since another rounding could put it after the reply.
        latency_s = self._devices.one_way_seconds(flight.partition)
        at_best_s = flight.sent_at_s + latency_s + latency_s
        heapq.heappush(self._earliest, (at_best_s, flight.number))
        self._out[flight.number] = self._running[flight.number] = flight
        node = self._nodes.setdefault(flight.partition, _Node())
        node.queue.append(flight)
        if len(node.queue) == 1:
            self._start(node)

    def _next_arrival_s(self, horizon_s: float) -> float:
        """Return when the next reply arrives or the horizon comes, once that is certain."""
        while True:
            while self._earliest and self._earliest[0][1] not in self._running:
                heapq.heappop(self._earliest)
            next_s = min(self._arrivals[0][0] if self._arrivals else math.inf, horizon_s)
            if not self._earliest or self._earliest[0][0] > next_s:
                return next_s
            for number, outcome in self._crew.finished():
                self._settle(self._running.pop(number), outcome)

    def _start(self, node: _Node) -> None:
        """Let the crew run the first message in the node's queue."""
        flight = node.queue[0]
        if flight.instruction is None:
            raise WorkerError(f"message {flight.number} has been answered and cannot be run")
        self._crew.submit(Task(flight.number, flight.partition, flight.instruction, node.state))

    def _settle(self, flight: Flight, outcome: Outcome) -> None:
        """Take note of what a node has made of a message, and when that arrives."""
        node = self._nodes[flight.partition]
        node.queue.popleft()
        if isinstance(outcome, Answer) and outcome.state is not None:
            node.state = outcome.state
        steps = 0.0 if isinstance(outcome, Failure) else outcome.steps
        latency_s = self._devices.one_way_seconds(flight.partition)
        begins_at_s = max(flight.sent_at_s + latency_s, node.free_at_s)
        node.free_at_s = begins_at_s + self._devices.work_seconds(flight.partition, steps=steps)
        flight.arrives_at_s = node.free_at_s + latency_s
        flight.outcome, flight.state, flight.free_at_s = outcome, node.state, node.free_at_s
        heapq.heappush(self._arrivals, (flight.arrives_at_s, flight.number, flight))
        if node.queue:
            self._start(node)
