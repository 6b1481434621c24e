"""Recordings: what they say of nodes, and what is wrong with a file."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.config.composition import compose
from daafl.config.launching import parts
from daafl.errors import ConfigError
from daafl.simulation.fleet import (
    Compute,
    DeviceClass,
    Fleet,
    Link,
    Presence,
    Trace,
    TraceEvent,
    read_trace,
)

Make = Callable[..., Any]


def recorded(*events: tuple[Any, ...]) -> Trace:
    return Trace.of(TraceEvent(0, *event) for event in events)


def test_a_node_is_online_when_the_recording_says_so(alone: Make) -> None:
    device = alone(trace=recorded((10.0, True), (20.0, False), (30.0, True)))
    expected = {0: False, 9.9: False, 10: True, 19.9: True, 20: False, 30: True, 1e9: True}
    assert {at_s: device.is_online(at_s) for at_s in expected} == expected


def test_a_node_that_leaves_first_was_online_before(alone: Make) -> None:
    device = alone(trace=recorded((10.0, False), (20.0, True), (30.0, False)))
    assert [device.is_online(at_s) for at_s in (0, 9.9, 10, 20, 30, 1e9)] == [
        True, True, False, True, False, False,
    ]  # fmt: skip


def test_work_pauses_between_the_recorded_stays(alone: Make) -> None:
    device = alone(trace=recorded((10.0, True), (20.0, False), (30.0, True), (35.0, False)))
    # From 14: 6 s until 20, and the other 4 s from 30 on.
    assert device.works(14.0, 10.0).ends_at_s[0] == 34.0
    assert device.works(14.0, 6.0).ends_at_s[0] == 20.0
    assert device.works(0.0, 15.0).ends_at_s[0] == 35.0
    # 16 s are more than there are: it never ends, and the node is free when it would have.
    shift = device.works(0.0, 16.0)
    assert (shift.ends_at_s[0], shift.free_at_s[0]) == (math.inf, 26.0)
    assert device.reached(25.0, 0) == 30.0
    assert device.reached(34.9, 0) == math.inf
    assert device.returned(36.0, 0) == math.inf


def test_speed_and_bandwidth_change_when_the_recording_says_so(alone: Make) -> None:
    trace = recorded((0.0, True), (100.0, True, 0.5, 4.0), (200.0, True, 2.0), (300.0, True, 1.0))
    device = alone(trace=trace)
    lasted = [device.works(at_s, 10.0).ends_at_s[0] - at_s for at_s in (0.0, 100.0, 200.0, 300.0)]
    assert lasted == [10.0, 20.0, 5.0, 10.0]
    # 1 MB is 8 Mbit: at 16 Mbit/s before, at 4 Mbit/s since then.
    assert device.reached(50.0, 1_000_000) == 51.0
    assert device.reached(250.0, 1_000_000) == 252.5
    assert (
        device.fleet.readings(np.array([0]), np.array([250.0]), device.body[:1])[0]["uplink_mbps"]
        == 4.0
    )


def test_nodes_without_a_recording_do_as_their_class_does() -> None:
    link = Link(8.0, 8.0, latency_s=0.0)
    night = DeviceClass(Compute(1.0), link, presence=Presence(starts_h=2.0, hours=3.0))
    trace = Trace.of([TraceEvent(1, 5.0, True), TraceEvent(3, 6.0, True)])
    fleet = Fleet.of({"night": night}, 5, seed=0, trace=trace)
    sent, nodes = np.zeros(5), np.arange(5)
    arrives = fleet.reached(nodes, nodes + 1, sent, nodes).arrives_at_s
    assert arrives.tolist() == [7200.0, 5.0, 7200.0, 6.0, 7200.0]


@given(
    gaps=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    starts_online=st.booleans(),
    begins=st.integers(0, 400),
    steps=st.integers(1, 300),
)
def test_work_takes_as_many_online_seconds_as_it_has_steps(
    gaps: list[int], starts_online: bool, begins: int, steps: int
) -> None:
    """Against counting second by second."""
    times = np.cumsum(gaps)
    events = [
        TraceEvent(2, float(at_s), (index % 2 == 0) != starts_online)
        for index, at_s in enumerate(times)
    ]
    device = DeviceClass(Compute(1.0), Link(8.0, 8.0, latency_s=0.0))
    fleet = Fleet.of({"device": device}, 3, seed=0, trace=Trace.of(events))
    node, number = np.array([2]), np.array([1])

    def is_online(second: int) -> bool:
        return (np.searchsorted(times, second, side="right") % 2 == 0) == starts_online

    left, second = steps, begins
    while left and second < 2000:
        left -= is_online(second)
        second += 1
    expected = math.inf if left else float(second)
    shift = fleet.worked(
        node, number, np.array([float(begins)]), np.array([float(steps)]), fleet.bodies(node)
    )
    assert shift.ends_at_s[0] == expected
    assert fleet.online(node, float(begins))[0] == is_online(begins)


GOOD = "node,time,event,speed,bandwidth_mbps\n0,0,online,,\n2,5.5,offline,,\n0,9,online,0.5,2\n"


def test_a_csv_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    events = [
        TraceEvent(0, 0.0, True),
        TraceEvent(2, 5.5, False),
        TraceEvent(0, 9.0, True, 0.5, 2.0),
    ]
    assert read_trace(str(path)).digest == Trace.of(events).digest


def test_a_parquet_file_says_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    csv_path, path = tmp_path / "good.csv", tmp_path / "good.parquet"
    csv_path.write_text(GOOD)
    columns = {
        "time": [0.0, 5.5, 9.0],
        "node": [0, 2, 0],
        "event": ["online", "offline", "online"],
        "speed": [None, None, 0.5],
        "bandwidth_mbps": [None, None, 2.0],
    }
    parquet.write_table(pyarrow.table(columns), path)
    assert read_trace(str(path)).digest == read_trace(str(csv_path)).digest
    columns["event"][1] = "gone"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ConfigError, match=r"row 2, column event is 'gone', but must be online or"):
        read_trace(str(path))
    path.write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="is not a Parquet file"):
        read_trace(str(path))


HEAD = "node,time,event\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: there is no column node"),
        ("node,time\n", "line 1: there is no column event"),
        ("node,time,event,colour\n", "line 1: column 'colour' is none of node, time"),
        ("node,time,event,time\n", "line 1: column time is there twice"),
        (HEAD, "has no events"),
        (HEAD + "0,1\n", "line 2 has 2 cells; the header has 3"),
        (HEAD + "-1,1,online\n", "line 2, column node is '-1', but must be a node's index"),
        (HEAD + "1.5,1,online\n", "line 2, column node is '1.5', but must be"),
        (HEAD + "0,nan,online\n", "line 2, column time is 'nan', but must be a number from 0"),
        (HEAD + "0,-1,online\n", "line 2, column time is '-1', but must be"),
        (HEAD + "0,1,Online\n", "line 2, column event is 'Online', but must be online or offline"),
        (HEAD + "0,5,online\n0,5,offline\n", "line 3, column time: node 0 has 5 after 5"),
        (HEAD + "0,5,online\n0,6,online\n", "line 3, column event: node 0 is online already"),
        ("node,time,event,speed\n0,5,online,0\n", "line 2, column speed is '0', but must be"),
        ("node,time,event,speed\n0,5,offline,1\n", "line 2, column event: a node that goes off"),
        (HEAD + '0,"1,online\n', "is not a CSV file"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_trace(str(path))
    assert complaint in str(caught.value)
    assert "bad.csv" in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(str(tmp_path / "absent.csv"))
    with pytest.raises(ConfigError, match=r"must be a file \*.csv or \*.parquet"):
        read_trace(str(tmp_path / "trace.json"))
    (tmp_path / "bytes.csv").write_bytes(b"node,time,event\n\xff,1,online\n")
    with pytest.raises(ConfigError, match="not a text in UTF-8"):
        read_trace(str(tmp_path / "bytes.csv"))
    with pytest.raises(ValueError, match="at least one event"):
        Trace.of([])


def test_the_fleet_of_a_trace_can_be_configured(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + "3,60,online\n")
    fleet = parts(compose(["fleet=trace", f"fleet.trace.path={path}"]))["fleet"]
    assert fleet.online(np.array([2, 3]), 0.0).tolist() == [True, False]
    path.write_text(HEAD + "3,60,asleep\n")
    with pytest.raises(ConfigError, match=r"line 2, column event"):
        parts(compose(["fleet=trace", f"fleet.trace.path={path}"]))
    with pytest.raises(ConfigError, match=r"fleet\.trace\.path"):
        parts(compose(["fleet=trace"]))
