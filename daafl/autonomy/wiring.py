"""Checks that the loops of a hub fit together, before the first cycle."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Final

from daafl.autonomy.plan import Knob
from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError

HUB: Final = "hub"
"""Name under which the hub itself moves a knob; no loop may be called that."""

METRICS: Final = frozenset(
    {"loss", "accuracy", "seconds", "bytes", "energy", "privacy", "robustness"}
)
"""What loops may influence besides knobs and the fields that they observe."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def evaluation_order(
    loops: Sequence[Loop], knobs: Mapping[str, Knob], elsewhere: frozenset[str]
) -> tuple[Loop, ...]:
    """Return the loops so that each comes after those it depends on.

    Parameters
    ----------
    loops, knobs
        What the hub is made of.
    elsewhere
        Knobs that other hubs hold and that loops of this one may request.

    Raises
    ------
    ConfigError
        Naming the loop that does not fit, the rule and the nearest valid name.
    """
    by_name: dict[str, Loop] = {}
    for loop in loops:
        name = loop.policy.name
        if not _NAME.fullmatch(name) or name == HUB:
            raise ConfigError(f"a loop cannot be called {name!r}; use snake_case, and not {HUB!r}")
        if name in by_name:
            raise ConfigError(f"there are two loops called {name}; give one another name")
        by_name[name] = loop
    for loop in loops:
        _check_knobs(loop, knobs)
    _check_scopes(loops, knobs)
    seen = {field.name for loop in loops for field in fields(loop.policy.observation)}
    known = {*knobs, *elsewhere, *METRICS, *seen}
    for loop in loops:
        for name in loop.influences:
            if name not in known:
                raise ConfigError(
                    f"loop {loop.policy.name} influences {name}, which is neither a knob nor a "
                    f"metric{_nearest(name, known)}"
                )
        for name in loop.depends_on:
            if name not in by_name:
                raise ConfigError(
                    f"loop {loop.policy.name} depends on {name}, which is no loop of this hub"
                    f"{_nearest(name, by_name)}"
                )
    return _sorted(loops, by_name)


def _check_knobs(loop: Loop, knobs: Mapping[str, Knob]) -> None:
    name = loop.policy.name
    for knob in loop.policy.knobs:
        held = knobs.get(knob.name)
        if knob.owner != name:
            raise ConfigError(
                f"loop {name} declares knob {knob.name}, but its owner is {knob.owner}; request "
                "bounds on it instead"
            )
        if held is None:
            raise ConfigError(f"loop {name} owns knob {knob.name}, which its hub does not hold")
        if held.owner != name:
            raise ConfigError(
                f"knob {knob.name} has two owners, {name} and {held.owner}; a knob has one"
            )


def _check_scopes(loops: Sequence[Loop], knobs: Mapping[str, Knob]) -> None:
    """Check that the hub is of one scope, which every loop and knob shares."""
    scopes = [(f"loop {loop.policy.name}", loop.scope) for loop in loops]
    scopes += [(f"knob {knob.name}", knob.scope) for knob in knobs.values()]
    for what, scope in scopes:
        first, expected = scopes[0]
        if scope != expected:
            raise ConfigError(
                f"{what} has the scope {scope}, but {first} has {expected}; one hub has one scope"
            )


def _sorted(loops: Sequence[Loop], by_name: Mapping[str, Loop]) -> tuple[Loop, ...]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for loop in loops:
        sorter.add(loop.policy.name, *loop.depends_on)
    try:
        return tuple(by_name[name] for name in sorter.static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(f"loops depend on each other in a circle: {circle}") from error


def _nearest(name: str, known: Mapping[str, Loop] | set[str]) -> str:
    match = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {match[0]}?" if match else ""
