"""Which requests hold in a cycle: within the asking loop's reach, and not yet lapsed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from daafl.autonomy.negotiation import Agreement, LiveRequest, Merit, agreement
from daafl.autonomy.plan import Knob
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import STRENGTH, Decision, Level, Request

Note: TypeAlias = Callable[[str], None]
"""Takes a sentence for the journal."""


def within_reach(loop: Loop, decision: Decision, note: Note) -> Decision:
    """Return the decision with the requests that its loop may make, at a level it may speak at."""
    allowed = []
    for request in decision.requests:
        if request.knob not in loop.influences:
            note(
                f"{decision.loop} may not request {request.knob}: it does not declare to "
                "influence it"
            )
            continue
        level = request.level
        if STRENGTH[level] < STRENGTH[loop.level]:
            note(
                f"{decision.loop} requests {request.knob} at level {level}, but speaks at level "
                f"{loop.level}"
            )
            level = loop.level
        allowed.append(replace(request, by=decision.loop, level=level))
    return replace(decision, requests=tuple(allowed))


def live_requests(
    earlier: Iterable[LiveRequest],
    decisions: Iterable[Decision],
    inbound: Iterable[Request],
    knobs: Mapping[str, Knob],
    *,
    tick: int,
    note: Note,
) -> tuple[LiveRequest, ...]:
    """Return all requests that hold; a loop's newer one on a knob replaces its older one."""
    new = []
    for request in inbound:
        if request.knob in knobs:
            new.append(LiveRequest(request, tick + request.ticks))
        else:
            note(f"{request.by} requests {request.knob}, which is not held here")
    for decision in decisions:
        for request in decision.requests:
            if request.knob in knobs:
                new.append(LiveRequest(request, tick + request.ticks, Merit.of(decision)))
    replaced = {(ask.request.by, ask.request.knob) for ask in new}
    kept = [
        ask
        for ask in earlier
        if ask.until > tick and (ask.request.by, ask.request.knob) not in replaced
    ]
    return (*kept, *new)


def agreements(
    live: Sequence[LiveRequest], levels: Mapping[str, Level], *, tick: int, note: Note
) -> dict[str, Agreement]:
    """Return what the live requests leave of each requested knob.

    A request that does not hold is noted once, in the cycle it is made in.

    Parameters
    ----------
    live
        Requests that hold.
    levels
        Level of the loop that owns a knob; knobs that no loop owns are absent.
    tick, note
        The cycle, and where to say what is dropped.
    """
    names = sorted({ask.request.knob for ask in live})
    met = {name: agreement(live, name, levels.get(name)) for name in names}
    for ask in live:
        request = ask.request
        if ask.until - request.ticks != tick:
            continue
        if request in met[request.knob].dropped:
            winners = " and ".join(met[request.knob].by)
            note(f"{request.by} cannot have its bound on {request.knob}: {winners} goes first")
        elif request.by not in met[request.knob].by:
            note(f"{request.by} cannot bind {request.knob}: its owner's reasons are stronger")
    return met
