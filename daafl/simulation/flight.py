"""Messages under way, from the moment they are sent until what became of them is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from daafl.simulation.memory import Memory
from daafl.simulation.node import Failure, Outcome
from daafl.simulation.traffic import Traffic
from daafl.simulation.wire import Parcel
from daafl.simulation.world import Bodies, Nodes, Seconds

Instruction = Parcel | Message
"""A message as it was when it was sent: packed if it is to be run by itself."""


@dataclass(eq=False)
class Flight:
    """A message to a node, until its reply has arrived or is lost.

    Parameters
    ----------
    number
        Counts the messages of a timeline from 1.
    partition
        Index of the node it is for.
    sent_at_s, reaches_at_s
        Virtual times; infinite for a message that never reaches its node.
    num_bytes
        Payload of the message.
    instruction
        The message. It may have to be run again after a restart.
    is_settled_before
        Whether what became of it was known before a restart; it is then run for its effect on the
        node alone.
    begins_at_s, ends_at_s, free_at_s, arrives_at_s
        Virtual times: the node begins and ends its work, can do other work, and the reply arrives;
        infinite for what does not happen.
    outcome, state, body
        What the node made of it, and what the node is like after that.
    reply_bytes, is_repeated, cost
        Payload of the reply, whether it arrives twice, and what the work cost.
    is_over
        Whether nobody has to wait for it any more.
    """

    number: int
    partition: int
    sent_at_s: float
    num_bytes: int
    instruction: Instruction
    reaches_at_s: float = math.inf
    is_settled_before: bool = False
    begins_at_s: float = 0.0
    ends_at_s: float = math.inf
    free_at_s: float = 0.0
    arrives_at_s: float = math.inf
    outcome: Outcome | None = None
    state: Memory | None = None
    body: Bodies = field(default_factory=lambda: np.empty(0))
    reply_bytes: int = 0
    is_repeated: bool = False
    cost: float = 0.0
    is_over: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether its reply arrives, and once."""
        return math.isfinite(self.arrives_at_s) and not self.is_repeated

    @property
    def vanishes_at_s(self) -> float:
        """When a message without a reply has had all of its effects."""
        return self.ends_at_s if math.isfinite(self.ends_at_s) else self.free_at_s

    @property
    def traffic(self) -> Traffic:
        """What it adds to the traffic once it is over."""
        if math.isinf(self.reaches_at_s):
            return Traffic(down_sent=self.num_bytes, down_lost=self.num_bytes, num_lost=1)
        if self.is_usual:
            sent, size = self.num_bytes, self.reply_bytes
            return Traffic(sent, sent, 0, size, size, cost=self.cost)
        size = self.reply_bytes if math.isfinite(self.ends_at_s) else 0
        arrived = size if math.isfinite(self.arrives_at_s) else 0
        return Traffic(
            down_sent=self.num_bytes,
            down_reached=self.num_bytes,
            up_sent=size,
            up_arrived=arrived,
            up_lost=size - arrived,
            up_again=size if self.is_repeated else 0,
            num_lost=int(not math.isfinite(self.arrives_at_s)),
            num_again=int(self.is_repeated),
            cost=self.cost,
        )


@dataclass(frozen=True, eq=False)
class CohortCall:
    """A message to a whole cohort.

    Parameters
    ----------
    number
        First of the numbers of its messages, one per member.
    partitions
        The members; shape [members].
    sent_at_s
        Virtual time.
    message
        What every member is asked.
    num_bytes, steps
        Payload that travels to each member and back again, and local steps each one does.
    most_together
        Members that are trained in one job at most.
    """

    number: int
    partitions: Nodes
    sent_at_s: float
    message: Message
    num_bytes: int
    steps: float
    most_together: int


@dataclass(eq=False)
class Gathering:
    """A cohort at work; its reply arrives with that of the last member that answers.

    Parameters
    ----------
    call
        What it was asked.
    arrives_at_s
        Virtual time of the reply; infinite if no member answers.
    answering
        Members whose work counts.
    free_at_s, bodies
        What the members are like afterwards, in the order of the call.
    traffic
        What it adds to the traffic once it is over.
    parts
        What became of the jobs that it was divided into, by their numbers; ``None`` while they run.
    outcome
        The cohort's reply.
    is_over
        Whether nobody has to wait for it any more.
    """

    call: CohortCall
    arrives_at_s: float
    answering: Nodes
    free_at_s: Seconds
    bodies: Bodies
    traffic: Traffic
    parts: dict[int, Outcome | None] = field(default_factory=dict)
    outcome: Outcome | None = None
    is_over: bool = False

    @property
    def number(self) -> int:
        """First of the numbers of its messages."""
        return self.call.number

    @property
    def vanishes_at_s(self) -> float:
        """When a cohort without a reply has had all of its effects."""
        return float(self.free_at_s.max(initial=self.call.sent_at_s))


Event = Flight | Gathering
"""What arrives, or does not."""


@dataclass(eq=False)
class Group:
    """Messages sent at once; those with one model run as one job.

    Parameters
    ----------
    flights
        The messages, if they are to single nodes.
    gathering
        The message to a cohort, if it is one.
    is_batch
        Whether the flights run together.
    num_queued
        Flights whose node is still busy with what was sent before.
    """

    flights: list[Flight] = field(default_factory=list)
    gathering: Gathering | None = None
    is_batch: bool = False
    num_queued: int = 0

    @property
    def events(self) -> Sequence[Event]:
        """The messages, or the one to a cohort."""
        return self.flights if self.gathering is None else [self.gathering]

    @property
    def partitions(self) -> list[int]:
        """The nodes that it concerns."""
        if self.gathering is not None:
            return [int(partition) for partition in self.gathering.call.partitions]
        return [flight.partition for flight in self.flights]

    @property
    def is_over(self) -> bool:
        """Whether everything that becomes of it has happened."""
        return all(event.is_over for event in self.events)


def steps_of(outcome: Outcome) -> float:
    """Return the local steps behind an outcome; a failure costs no work."""
    return 0.0 if isinstance(outcome, Failure) else outcome.steps


def bytes_of(outcome: Outcome) -> int:
    """Return the payload of a reply; an error has none."""
    return 0 if isinstance(outcome, Failure) else outcome.num_bytes
