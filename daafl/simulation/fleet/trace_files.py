"""Files of users' own traces: CSV or Parquet with the columns node, time and event.

::

    node,time,event,speed,bandwidth_mbps
    0,0,online,,
    0,3600,online,0.5,
    0,7200,offline,,
    3,1800.5,offline,,

``time`` is in seconds from the start and grows for every node. ``event`` is ``online`` or
``offline``. The other two columns may be absent and their cells empty: ``speed`` is relative to
the node's own from then on, ``bandwidth_mbps`` what it has at most.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from daafl.errors import ConfigError
from daafl.simulation.fleet.traces import Trace, TraceEvent

NEEDED: Final = ("node", "time", "event")
OPTIONAL: Final = ("speed", "bandwidth_mbps")
MAX_EVENTS: Final = 10_000_000
MAX_NODE: Final = 2**31 - 1
MAX_TIME_S: Final = 1e9  # 30 years

_EVENTS: Final = {"online": True, "offline": False}

Row = Mapping[str, object]


def read_trace(path: str) -> Trace:
    """Return the recording in a file whose name ends in ``.csv`` or ``.parquet``.

    Raises
    ------
    ConfigError
        If the file cannot be read or breaks a rule; it names the file, the line or row, the
        column and the rule.
    """
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise ConfigError(f"trace {path} must be a file *.csv or *.parquet")
    checker = _Checker(path)
    try:
        events = [checker.event(place, row) for place, row in reader(path)]
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"trace {path} is not a text in UTF-8") from error
    except csv.Error as error:
        raise ConfigError(f"trace {path} is not a CSV file: {error}") from error
    if not events:
        raise ConfigError(f"trace {path} has no events; it needs at least one row")
    return Trace.of(events)


def _csv_rows(path: str) -> Iterator[tuple[str, Row]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, "line 1", header)
        for cells in reader:
            place = f"line {reader.line_num}"
            if len(cells) != len(header):
                raise ConfigError(
                    f"trace {path}, {place} has {len(cells)} cells; the header has {len(header)}"
                )
            yield place, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _parquet_rows(path: str) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"trace {path} needs pyarrow; install daafl[data], or convert the file to CSV"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        _check_header(path, "schema", file.schema_arrow.names)
        count = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                count += 1
                yield f"row {count}", row
    except pyarrow.ArrowException as error:
        raise ConfigError(f"trace {path} is not a Parquet file: {error}") from error


def _check_header(path: str, place: str, names: list[str]) -> None:
    for name in NEEDED:
        if name not in names:
            raise ConfigError(f"trace {path}, {place}: there is no column {name}")
    for index, name in enumerate(names):
        if name not in NEEDED + OPTIONAL:
            known = ", ".join(NEEDED + OPTIONAL)
            raise ConfigError(f"trace {path}, {place}: column {name!r:.40} is none of {known}")
        if name in names[:index]:
            raise ConfigError(f"trace {path}, {place}: column {name} is there twice")


@dataclass
class _Checker:
    """Checks rows one by one; remembers where each node stands."""

    path: str
    count: int = 0
    last: dict[int, TraceEvent] = field(default_factory=dict)

    def event(self, place: str, row: Row) -> TraceEvent:
        """Return the event in a row."""
        where = f"trace {self.path}, {place}, column"
        self.count += 1
        if self.count > MAX_EVENTS:
            raise ConfigError(f"trace {self.path} has more than {MAX_EVENTS:,} events")
        event = TraceEvent(
            node=_node(f"{where} node", row["node"]),
            at_s=_number(f"{where} time", row["time"], 0.0, MAX_TIME_S),
            is_online=_is_online(f"{where} event", row["event"]),
            speed=_positive(f"{where} speed", row.get("speed")),
            bandwidth_mbps=_positive(f"{where} bandwidth_mbps", row.get("bandwidth_mbps")),
        )
        changes = event.speed is not None or event.bandwidth_mbps is not None
        if changes and not event.is_online:
            raise ConfigError(f"{where} event: a node that goes offline has no speed or bandwidth")
        last = self.last.get(event.node)
        if last is not None and event.at_s <= last.at_s:
            raise ConfigError(
                f"{where} time: node {event.node} has {event.at_s:g} after {last.at_s:g}; times "
                "of a node must grow"
            )
        if last is not None and event.is_online == last.is_online and not changes:
            state = "online" if event.is_online else "offline"
            raise ConfigError(f"{where} event: node {event.node} is {state} already")
        self.last[event.node] = event
        return event


def _node(where: str, value: object) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_NODE:
        raise ConfigError(f"{where} is {value!r:.40}, but must be a node's index: 0, 1, 2, ...")
    return number


def _number(where: str, value: object, low: float, high: float) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise ConfigError(
            f"{where} is {value!r:.40}, but must be a number from {low:g} to {high:g}"
        )
    return number


def _positive(where: str, value: object) -> float | None:
    """Return the number in an optional cell."""
    if value is None or value == "":
        return None
    return _number(where, value, 1e-9, 1e9)


def _is_online(where: str, value: object) -> bool:
    if not isinstance(value, str) or value not in _EVENTS:
        raise ConfigError(f"{where} is {value!r:.40}, but must be online or offline")
    return _EVENTS[value]
