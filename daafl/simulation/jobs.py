"""What a crew is given to run: a message for a node, or messages that share a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Message

from daafl.simulation.memory import Memory
from daafl.simulation.wire import Parcel, packed


@dataclass(frozen=True)
class Surroundings:
    """What a node finds when it begins to work.

    Attributes
    ----------
    time_s
        Virtual time.
    readings
        What its sensors show; see `daafl.simulation.world.World.readings`.
    """

    time_s: float = 0.0
    readings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A message for a node, to be run; `number` tells tasks apart."""

    number: int
    partition: int
    message: Parcel
    state: Memory | None
    around: Surroundings = Surroundings()

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the messages that the job answers."""
        return (self.number,)


@dataclass(frozen=True)
class Batch:
    """Messages for different nodes that carry one model, to be run as one computation.

    The attributes are those of a `Task`, one entry per message; messages are not to be written to.
    """

    numbers: tuple[int, ...]
    partitions: tuple[int, ...]
    messages: tuple[Message, ...]
    states: tuple[Memory | None, ...]
    arounds: tuple[Surroundings, ...]

    def singly(self) -> list[Task]:
        """Return the messages as tasks, each to be run by itself."""
        columns = zip(
            self.numbers, self.partitions, self.messages, self.states, self.arounds, strict=True
        )
        return [
            Task(number, partition, packed(message), state, around)
            for number, partition, message, state, around in columns
        ]


@dataclass(frozen=True)
class Sum:
    """One message to a whole cohort, whose answer is one update.

    Attributes
    ----------
    number
        Number of the message.
    partitions
        Nodes whose work counts.
    message
        What the cohort is asked.
    time_s
        Virtual time at which it was sent.
    """

    number: int
    partitions: tuple[int, ...]
    message: Message
    time_s: float

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the messages that the job answers."""
        return (self.number,)


Job = Task | Batch | Sum
