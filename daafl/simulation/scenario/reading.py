"""Scenario files: read as a whole, refused with file, line, key, value and rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from daafl.errors import ConfigError
from daafl.nearest import suggestion
from daafl.simulation.scenario.document import MAX_BYTES, Document, parsed
from daafl.simulation.scenario.events import Event
from daafl.simulation.scenario.mistake import Mistake
from daafl.simulation.scenario.rules import shown
from daafl.simulation.scenario.scenario import KINDS, MAX_EVENTS, Scenario

_KEYS: Final = ("name", "description", "seed", "num_nodes", "events")


def read_scenario(path: Path | str, *, num_nodes: int, seed: int = 0) -> Scenario:
    """Return the scenario in a file, for a federation of so many nodes.

    Parameters
    ----------
    path
        A YAML file.
    num_nodes
        Nodes of the federation; where the file says how many, it must be so many.
    seed
        Seed of all chance in it, unless the file has its own.

    Raises
    ------
    ConfigError
        In one sentence: file, line, key, value and rule.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the scenario {file} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8") from error
    return _scenario(parsed(text, str(file)), file.stem, num_nodes, seed)


def scenario_of(values: Mapping[str, Any], *, num_nodes: int, seed: int = 0) -> Scenario:
    """Return the scenario that plain values describe as a file would; see `read_scenario`."""
    lines: dict[tuple[str | int, ...], int] = {}
    return _scenario(Document("scenario", values, lines), "scenario", num_nodes, seed)


def _scenario(document: Document, name: str, num_nodes: int, seed: int) -> Scenario:
    top = document.value
    if not isinstance(top, Mapping):
        raise ConfigError(f"{document.place()}: a scenario is a mapping with the key events")
    for key in top:
        if key not in _KEYS:
            raise ConfigError(f"{document.place(key)}: {key} is not known; {_hint(key, _KEYS)}")
    if "events" not in top:
        raise ConfigError(f"{document.place()}: events has no value; a scenario needs a list")
    entries = top["events"]
    if not isinstance(entries, list) or len(entries) > MAX_EVENTS:
        raise ConfigError(
            f"{document.place('events')}: events is {shown(entries)}, but must be a list of at "
            f"most {MAX_EVENTS}"
        )
    stated = top.get("num_nodes")
    if stated is not None and (isinstance(stated, bool) or stated != num_nodes):
        raise ConfigError(
            f"{document.place('num_nodes')}: num_nodes is {shown(stated)}, but the federation has "
            f"{num_nodes} nodes"
        )
    events = [_event(document, index) for index in range(len(entries))]
    own = {key: top[key] for key in ("name", "description", "seed") if top.get(key) is not None}
    try:
        return Scenario(num_nodes, events, **{"name": name, "seed": seed, **own})
    except Mistake as mistake:
        raise _located(document, mistake) from mistake


def _event(document: Document, index: int) -> Event:
    entry = document.value["events"][index]
    path = f"events[{index}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"{document.place('events', index)}: {path} is {shown(entry)}, but must be a mapping "
            "with the key kind"
        )
    place = document.place("events", index, "kind")
    kind = entry.get("kind")
    if kind is None:
        raise ConfigError(f"{place}: {path}.kind has no value; {_hint('', KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = _hint(str(kind), KINDS)
        raise ConfigError(f"{place}: {path}.kind is {shown(kind)}, which is not known; {hint}")
    known = {item.name: item for item in fields(KINDS[kind])}
    values = {key: value for key, value in entry.items() if key != "kind"}
    for key in values:
        if key not in known:
            place = document.place("events", index, key)
            hint = _hint(key, [*known, "kind"])
            raise ConfigError(f"{place}: {path}.{key} is not known: {kind} has no {key}; {hint}")
    for key, item in known.items():
        if item.default is MISSING and key not in values:
            raise ConfigError(f"{place}: {path}.{key} has no value; {kind} needs one")
    try:
        return KINDS[kind](**values)
    except Mistake as mistake:
        raise _located(document, mistake.of(index)) from mistake


def _located(document: Document, mistake: Mistake) -> ConfigError:
    keys: list[str | int] = [] if mistake.key is None else list(mistake.key.split("."))
    before: list[str | int] = [] if mistake.event is None else ["events", mistake.event]
    return ConfigError(f"{document.place(*before, *keys)}: {mistake}")


def _hint(key: str, known: Any) -> str:
    return suggestion(key, known)
