"""What a hub carries from one cycle to the next; all of it survives JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.negotiation import LiveRequest
from daafl.autonomy.plan import Value
from daafl.autonomy.records import Decision


@dataclass(frozen=True)
class Pending:
    """A decision whose effect is not known yet.

    Parameters
    ----------
    decision
        As applied, with the baseline frozen when it was made.
    before
        JSON of the loop's observation at that time.
    due
        Tick from which on it is judged.
    """

    decision: Decision
    before: object
    due: int


@dataclass(frozen=True)
class LoopState:
    """What the hub keeps for one loop.

    Parameters
    ----------
    memory
        State of the loop's policy.
    pending
        Its decisions that wait for their effect, oldest first.
    benched_until
        Tick from which on it may decide again after an error.
    """

    memory: object
    pending: tuple[Pending, ...] = ()
    benched_until: int = 0


@dataclass(frozen=True)
class Displacement:
    """A knob that requests hold away from the value it had.

    Parameters
    ----------
    wanted
        Value it gets back when the requests lapse.
    bound
        Value it was given; another one in the plan means that somebody moved it since.
    """

    wanted: Value
    bound: Value


@dataclass(frozen=True)
class HubState:
    """State of a hub.

    Parameters
    ----------
    tick
        Number of the next cycle.
    next_number
        Number of the next decision that acts.
    next_structural
        Tick from which on a structural change is allowed again.
    loops
        Per loop, by name.
    requests
        Requests that may still hold.
    last_moved
        Tick of each knob's last move.
    failures
        How often in a row an action turned out worse than expected, by `belief_key`.
    bans
        Tick from which on a failed action may be tried again, by `belief_key`.
    displaced
        Knobs that requests hold away from their value.
    beliefs
        What is known about actions, from earlier runs and this one.
    """

    tick: int = 0
    next_number: int = 1
    next_structural: int = 0
    loops: Mapping[str, LoopState] = field(default_factory=dict)
    requests: tuple[LiveRequest, ...] = ()
    last_moved: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    bans: Mapping[str, int] = field(default_factory=dict)
    displaced: Mapping[str, Displacement] = field(default_factory=dict)
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
