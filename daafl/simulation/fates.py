"""What becomes of messages in a world: when work ends, and when replies arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from daafl.simulation.flight import CohortCall, Flight, Gathering, bytes_of, steps_of
from daafl.simulation.node import Answer
from daafl.simulation.node_table import NodeTable
from daafl.simulation.traffic import Traffic
from daafl.simulation.world import World


def gathered(call: CohortCall, world: World, table: NodeTable) -> Gathering:
    """Return what becomes of a message to a cohort whose members are as in the table.

    Who it reaches, who fails and who answers is known before anybody has trained.
    """
    nodes, size = call.partitions, call.num_bytes
    numbers = np.arange(call.number, call.number + len(nodes))
    sizes = np.full(len(nodes), size)
    free_at_s, bodies = table.free_at_s[nodes], table.bodies[nodes]
    away = world.reached(nodes, numbers, np.full(len(nodes), call.sent_at_s), sizes)
    at = np.flatnonzero(np.isfinite(away.arrives_at_s))
    begins_at_s = np.maximum(away.arrives_at_s[at], free_at_s[at])
    steps = np.full(len(at), call.steps)
    shift = world.worked(nodes[at], numbers[at], begins_at_s, steps, bodies[at])
    free_at_s[at], bodies[at] = shift.free_at_s, shift.bodies
    has_ended = np.isfinite(shift.ends_at_s)
    done = at[has_ended]
    back = world.returned(nodes[done], numbers[done], shift.ends_at_s[has_ended], sizes[done])
    is_home = np.isfinite(back.arrives_at_s)
    num_home, num_again = int(is_home.sum()), int(np.isfinite(back.again_at_s).sum())
    return Gathering(
        call,
        arrives_at_s=float(back.arrives_at_s[is_home].max()) if num_home else math.inf,
        answering=nodes[done][is_home],
        free_at_s=free_at_s,
        bodies=bodies,
        traffic=Traffic(
            down_sent=size * len(nodes),
            down_reached=size * len(at),
            down_lost=size * (len(nodes) - len(at)),
            up_sent=size * len(done),
            up_arrived=size * num_home,
            up_lost=size * (len(done) - num_home),
            up_again=size * num_again,
            num_lost=len(nodes) - num_home,
            num_again=num_again,
            cost=float(shift.cost.sum()),
        ),
    )


def settle(flights: Sequence[Flight], world: World, table: NodeTable) -> None:
    """Write down when work that is known now ends, when replies to it arrive, and what it left.

    Flights and table are changed.
    """
    nodes = np.array([flight.partition for flight in flights])
    numbers = np.array([flight.number for flight in flights])
    begins_at_s = np.array([flight.begins_at_s for flight in flights])
    outcomes = [flight.outcome for flight in flights if flight.outcome is not None]
    steps = np.array([steps_of(outcome) for outcome in outcomes])
    sizes = np.array([bytes_of(outcome) for outcome in outcomes])
    shift = world.worked(nodes, numbers, begins_at_s, steps, table.bodies[nodes])
    table.put(nodes, shift.free_at_s, shift.bodies)
    has_ended = np.isfinite(shift.ends_at_s)
    left_at_s = np.where(has_ended, shift.ends_at_s, shift.free_at_s)
    back = world.returned(nodes, numbers, left_at_s, sizes)
    arrives_at_s = np.where(has_ended, back.arrives_at_s, np.inf)
    is_repeated = np.isfinite(back.again_at_s) & np.isfinite(arrives_at_s)
    states = table.states
    for row, flight in enumerate(flights):
        outcome = flight.outcome
        flight.ends_at_s = float(shift.ends_at_s[row])
        flight.free_at_s = float(shift.free_at_s[row])
        flight.arrives_at_s = float(arrives_at_s[row])
        flight.body, flight.cost = shift.bodies[row], float(shift.cost[row])
        flight.is_repeated, flight.reply_bytes = bool(is_repeated[row]), int(sizes[row])
        # A node that failed at its work has forgotten what it did.
        if has_ended[row] and isinstance(outcome, Answer) and outcome.state is not None:
            states[flight.partition] = outcome.state
        flight.state = states.get(flight.partition)
