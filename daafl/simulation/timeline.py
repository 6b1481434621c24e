"""The event clock: which messages run at which nodes, and when their replies arrive."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message

from daafl.errors import WorkerError
from daafl.simulation.fates import gathered, settle
from daafl.simulation.flight import CohortCall, Event, Flight, Gathering, Group, Instruction
from daafl.simulation.history import History, Past
from daafl.simulation.jobs import Batch, Sum, Surroundings, Task
from daafl.simulation.memory import Memory
from daafl.simulation.node import Answer, Failure, Outcome
from daafl.simulation.node_table import NodeTable
from daafl.simulation.sealing import divided
from daafl.simulation.traffic import Traffic
from daafl.simulation.wire import Parcel
from daafl.simulation.workers import Crew
from daafl.simulation.world import World

_CAUTION: float = 1e-9  # lower bounds are lowered by so much of themselves, for rounding


@dataclass(frozen=True)
class Letter:
    """A message that is to be sent to a node; `num_bytes` is its payload."""

    partition: int
    instruction: Instruction
    num_bytes: int


@dataclass(frozen=True)
class Passed:
    """What has happened while time moved.

    Attributes
    ----------
    arrived
        Messages whose replies have arrived, in order of arrival.
    lost
        Numbers of messages that will never have a reply.
    """

    arrived: Sequence[Event]
    lost: Sequence[int]


@dataclass(frozen=True, eq=False)
class Point:
    """Where a timeline stands, with nothing in it that has happened but is not known yet.

    Attributes
    ----------
    now_s
        Virtual time.
    num_sent
        Messages sent so far.
    past
        What is over, and what has to be run again.
    """

    now_s: float
    num_sent: int
    past: Past


class Timeline:
    """Sends messages to nodes and moves time from one arrival of a reply to the next.

    What a message costs is known only after it has run. So a message runs as early as possible
    in real time, and virtual time moves to an arrival only when nothing that still runs could
    come before it (conservative simulation; Chandy and Misra 1979). It runs on a copy of what its
    node keeps; the node's own changes when the reply arrives.

    Parameters
    ----------
    world
        How long things take, and what goes wrong.
    crew
        Who runs the messages.
    merge
        Makes one reply of those to the parts of a cohort.
    """

    def __init__(
        self,
        world: World,
        crew: Crew,
        merge: Callable[[Message, Sequence[Message]], Message] | None = None,
    ) -> None:
        self._merge = merge
        self.now_s = 0.0
        self._world = world
        self._crew = crew
        self._num_sent = 0
        self._nodes = NodeTable(world)  # as what has run leaves them
        self._history = History(self._nodes.copied())
        self._queues: dict[int, deque[Flight]] = {}
        self._running: dict[int, Event] = {}
        self._earliest: list[tuple[float, int]] = []  # when replies arrive at best, by number
        self._arrivals: list[tuple[float, int, Event]] = []
        self._vanishing: list[tuple[float, int, Event]] = []

    def next_number(self) -> int:
        """Return the number that the next message will have."""
        return self._num_sent + 1

    @property
    def may_arrive(self) -> bool:
        """Whether a reply will, or may, still arrive."""
        return bool(self._running or self._arrivals)

    @property
    def traffic(self) -> Traffic:
        """Bytes and costs of everything that is over."""
        return self._history.traffic

    def send(self, letters: Sequence[Letter], *, together: bool = False) -> list[Flight]:
        """Send messages to different nodes now; `together` has them run as one job."""
        flights = []
        for letter in letters:
            self._num_sent += 1
            flights.append(
                Flight(
                    self._num_sent,
                    letter.partition,
                    self.now_s,
                    letter.num_bytes,
                    letter.instruction,
                )
            )
        for group in [flights] if together else [[flight] for flight in flights]:
            self._launch(Group(group, is_batch=together))
        return flights

    def gather(
        self,
        partitions: Sequence[int],
        message: Message,
        *,
        num_bytes: int,
        steps: float,
        most_together: int,
    ) -> Gathering:
        """Send a message to a cohort now; its members do `steps` steps and answer as one.

        What reaches which member, and who fails, is known beforehand: those who answer are all
        that is trained. Every member sends back as many bytes as it was sent.
        """
        members = np.asarray(partitions, np.int64)
        number = self.next_number()
        call = CohortCall(
            number, members, self.now_s, message, num_bytes, steps, max(most_together, 1)
        )
        self._num_sent += len(members)
        return self._gather(call, is_settled_before=False)

    def run_until(self, horizon_s: float) -> Passed:
        """Move time to the next arrival, at most to the horizon; return what has happened.

        Time stays where it is if something arrives now, or if nothing can arrive and the horizon
        is infinite. Equal times are in the order of sending.
        """
        next_s = self._next_arrival_s(horizon_s)
        if math.isfinite(next_s):
            self.now_s = max(self.now_s, next_s)
        lost = []
        while self._vanishing and self._vanishing[0][0] <= self.now_s:
            _, number, event = heapq.heappop(self._vanishing)
            self._history.close(event)
            lost.append(number)
        arrived = []
        while self._arrivals and self._arrivals[0][0] <= self.now_s:
            _, _, event = heapq.heappop(self._arrivals)
            self._history.close(event)
            arrived.append(event)
        return Passed(arrived, lost)

    def state(self, partition: int) -> Memory | None:
        """Return what a node keeps after its last message that is over."""
        while any(_is_known(flight) for flight in self._queues.get(partition, ())):
            self._settle(self._crew.finished())
        return self._history.state(partition)

    def out(self) -> list[Event]:
        """Return the messages that are not over, in the order of sending."""
        return [event for event in self._history.events() if not event.is_over]

    def point(self) -> Point:
        """Return where the timeline stands."""
        return Point(self.now_s, self._num_sent, self._history.past())

    def go_to(self, point: Point) -> None:
        """Stand, in a timeline that has sent nothing, where another one stood.

        What was out is sent to the nodes again, with its numbers and times. A reply depends on
        the node's state and the message alone, so the same replies arrive at the same times; of
        those that are over already, only the effect on their nodes counts.
        """
        self.now_s, self._num_sent = point.now_s, point.num_sent
        self._nodes.load(point.past.nodes)
        self._history.load(point.past)
        for group in point.past.out:
            if group.gathering is not None:
                again = group.gathering
                self._gather(again.call, is_settled_before=again.is_over)
            else:
                self._launch(group)

    def _gather(self, call: CohortCall, *, is_settled_before: bool) -> Gathering:
        """Let a cohort work; who answers, and when, is certain at once."""
        while any(int(partition) in self._queues for partition in call.partitions):
            self._settle(self._crew.finished())
        gathering = gathered(call, self._world, self._nodes)
        self._history.file(Group(gathering=gathering))
        self._nodes.put(call.partitions, gathering.free_at_s, gathering.bodies)
        if is_settled_before:
            self._history.close(gathering)
        elif not len(gathering.answering):
            self._vanish(gathering)
        else:
            self._divide(gathering)
        return gathering

    def _divide(self, gathering: Gathering) -> None:
        """Let the crew train a cohort, in jobs that share the cores."""
        call = gathering.call
        members = gathering.answering.tolist()
        for index, part in enumerate(divided(members, call.most_together)):
            number = call.number + index  # a cohort has as many numbers as members
            gathering.parts[number] = None
            self._running[number] = gathering
            heapq.heappush(self._earliest, (gathering.arrives_at_s, number))
            self._crew.submit(Sum(number, tuple(part), call.message, call.sent_at_s))

    def _launch(self, group: Group) -> None:
        """Let messages travel to their nodes and queue there."""
        flights = group.flights
        nodes = np.array([flight.partition for flight in flights])
        numbers = np.array([flight.number for flight in flights])
        sent_at_s = np.array([flight.sent_at_s for flight in flights])
        sizes = np.array([flight.num_bytes for flight in flights])
        reaches_at_s = self._world.reached(nodes, numbers, sent_at_s, sizes).arrives_at_s.tolist()
        at_best_s = (sent_at_s + self._world.least_seconds(nodes)).tolist()
        self._history.file(group)
        for flight, reaches_s, best_s in zip(flights, reaches_at_s, at_best_s, strict=True):
            flight.reaches_at_s = reaches_s
            if not math.isfinite(reaches_s):
                flight.ends_at_s, flight.state = flight.sent_at_s, None
                self._vanish(flight)
                continue
            earliest_s = max(best_s, reaches_s)
            heapq.heappush(self._earliest, (earliest_s - _CAUTION * earliest_s, flight.number))
            self._running[flight.number] = flight
            queue = self._queues.setdefault(flight.partition, deque())
            queue.append(flight)
            group.num_queued += len(queue) > 1
        if group.num_queued == 0:
            self._start(group)

    def _vanish(self, event: Event) -> None:
        heapq.heappush(self._vanishing, (event.vanishes_at_s, event.number, event))

    def _next_arrival_s(self, horizon_s: float) -> float:
        """Return when the next reply arrives or the horizon comes, once that is certain."""
        while True:
            while self._earliest and self._earliest[0][1] not in self._running:
                heapq.heappop(self._earliest)
            next_s = min(self._arrivals[0][0] if self._arrivals else math.inf, horizon_s)
            if not self._earliest or self._earliest[0][0] > next_s:
                return next_s
            self._settle(self._crew.finished())

    def _start(self, group: Group) -> None:
        """Let the crew run a group whose nodes are all free for it."""
        flights = [flight for flight in group.flights if math.isfinite(flight.reaches_at_s)]
        if not flights:
            return
        nodes = np.array([flight.partition for flight in flights])
        reaches_at_s = np.array([flight.reaches_at_s for flight in flights])
        begins_at_s = np.maximum(reaches_at_s, self._nodes.free_at_s[nodes])
        shown = self._world.readings(nodes, begins_at_s, self._nodes.bodies[nodes])
        arounds = []
        for flight, time_s, readings in zip(flights, begins_at_s.tolist(), shown, strict=True):
            flight.begins_at_s = time_s
            arounds.append(Surroundings(time_s, readings))
        states = [self._nodes.states.get(flight.partition) for flight in flights]
        if not group.is_batch:
            (flight,), (state,), (around,) = flights, states, arounds
            if not isinstance(flight.instruction, Parcel):
                raise WorkerError(f"message {flight.number} is not packed and cannot be run alone")
            self._crew.submit(
                Task(flight.number, flight.partition, flight.instruction, state, around)
            )
            return
        messages = [f.instruction for f in flights if isinstance(f.instruction, Message)]
        if len(messages) != len(flights):
            raise WorkerError(f"message {flights[0].number} is packed and cannot run with others")
        self._crew.submit(
            Batch(
                tuple(flight.number for flight in flights),
                tuple(flight.partition for flight in flights),
                tuple(messages),
                tuple(states),
                tuple(arounds),
            )
        )

    def _settle(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Take note of what nodes have made of messages, and when that arrives."""
        flights = []
        for number, outcome in outcomes:
            event = self._running.pop(number)
            if isinstance(event, Flight):
                event.outcome = outcome
                flights.append(event)
                continue
            event.parts[number] = outcome
            if None not in event.parts.values():
                event.outcome = self._whole(event)
                heapq.heappush(self._arrivals, (event.arrives_at_s, event.number, event))
        if not flights:
            return
        settle(flights, self._world, self._nodes)
        for flight in flights:
            if flight.is_settled_before:
                self._history.close(flight)
            elif math.isfinite(flight.arrives_at_s):
                heapq.heappush(self._arrivals, (flight.arrives_at_s, flight.number, flight))
            else:
                self._vanish(flight)
        for flight in flights:
            self._next_in_queue(flight.partition)

    def _whole(self, gathering: Gathering) -> Outcome:
        """Return the reply of a cohort whose parts are all in, or the failure of one of them."""
        outcomes = [part for _, part in sorted(gathering.parts.items()) if part is not None]
        gathering.parts.clear()
        failures = [part for part in outcomes if isinstance(part, Failure)]
        if failures or len(outcomes) == 1:
            return (failures or outcomes)[0]
        replies = [
            part.reply
            for part in outcomes
            if isinstance(part, Answer) and isinstance(part.reply, Message)
        ]
        if self._merge is None or len(replies) != len(outcomes):
            raise WorkerError(f"the parts of cohort {gathering.number} cannot be put together")
        reply = self._merge(gathering.call.message, replies)
        return Answer(reply, None, gathering.call.steps, gathering.call.num_bytes)

    def _next_in_queue(self, partition: int) -> None:
        queue = self._queues[partition]
        queue.popleft()
        if not queue:
            del self._queues[partition]
            return
        group = self._history.group(queue[0])
        group.num_queued -= 1
        if group.num_queued == 0:
            self._start(group)


def _is_known(flight: Flight) -> bool:
    return flight.is_settled_before
