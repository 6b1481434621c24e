import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daafl.autonomy import journal
from daafl.autonomy.journal import Journal
from daafl.autonomy.lines import override, restored
from daafl.autonomy.plan import Change
from daafl.errors import JournalError


def line(tick: int) -> dict[str, object]:
    return {"kind": "decided", "target": "main", "tick": tick}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal.create(tmp_path / "journal.jsonl", {"seed": 3}) as log:
        log.append(line(0), line(1))
    return tmp_path / "journal.jsonl"


def test_what_was_appended_is_read_back(path: Path) -> None:
    header, records = journal.read(path)
    assert header == {"kind": "header", "seed": 3}
    assert records == (line(0), line(1))


def test_a_journal_is_not_begun_twice(path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be created: File exists"):
        Journal.create(path, {})


def test_a_torn_last_line_is_dropped_and_reported(path: Path, caplog) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "decid')
    with caplog.at_level(logging.WARNING):
        assert journal.read(path).records == (line(0), line(1))
    assert "cut off after 15 bytes" in caplog.text
    with Journal(path) as log:
        log.append(line(2))
    assert journal.read(path).records == (line(0), line(1), line(2))


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"kind": "gossip"}', b'{"kind": "decided", "tick": NaN}', b'{"kind"']
)
def test_a_damaged_line_in_the_middle_is_named(path: Path, damage: bytes) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, lines[2], b""]))
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2 is damaged"):
        journal.read(path)


def test_a_journal_begins_with_a_header(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps(line(0)) + "\n")
    with pytest.raises(JournalError, match="first line must be a header"):
        journal.read(path)
    with pytest.raises(JournalError, match="cannot be read"):
        journal.read(tmp_path / "missing")
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "missing")


def test_the_header_is_read_whatever_follows_it(path: Path, tmp_path: Path) -> None:
    header = journal.read(path).header
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + b"rubbish")
    assert journal.read_header(path) == header
    path.write_text(json.dumps(line(0)) + "\n")
    with pytest.raises(JournalError, match="first line must be a header"):
        journal.read_header(path)
    with pytest.raises(JournalError, match="cannot be read"):
        journal.read_header(tmp_path / "missing")


def test_a_record_that_is_not_json_is_refused_and_leaves_no_trace(path: Path) -> None:
    before = path.read_bytes()
    with Journal(path) as log, pytest.raises(JournalError, match="finite"):
        log.append(line(2), {"kind": "decided", "loss": math.nan})
    assert path.read_bytes() == before


def test_a_resumed_run_cuts_the_journal_back(path: Path) -> None:
    with Journal(path) as log:
        offset = log.append(line(2))
        log.append(line(3))
    assert offset < path.stat().st_size
    with Journal(path, keep_bytes=offset) as log:
        log.append(line(9))
    assert journal.read(path).records == (line(0), line(1), line(2), line(9))
    with pytest.raises(JournalError, match="not 1000000"):
        Journal(path, keep_bytes=1_000_000)


WRITER = """
import sys
from pathlib import Path
from daafl.autonomy.journal import Journal
with Journal.create(Path(sys.argv[1]), {"seed": 0}) as log:
    for tick in range(10**6):
        log.append({"kind": "decided", "tick": tick, "notes": ["x" * 200]})
        print(tick, flush=True)
"""


def test_what_was_said_to_be_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(rest) for rest in writer.stdout.read().split("\n")[:-1]]
    ticks = [record["tick"] for record in journal.read(path).records]
    assert ticks == list(range(len(ticks)))
    assert len(ticks) >= len(said) >= 20


def test_lines_of_operators_and_hosts() -> None:
    change = Change("lr", 0.1, 3.0)
    encoded = [{"knob": "lr", "old": 0.1, "new": 3.0}]
    assert override("main", 10, [change], by="operator", reason="a test") == {
        "kind": "override",
        "target": "main",
        "tick": 10,
        "changes": encoded,
        "by": "operator",
        "reason": "a test",
    }
    assert restored("main", asked=7, applied=6, changes=[change]) == {
        "kind": "restored",
        "target": "main",
        "asked": 7,
        "applied": 6,
        "changes": encoded,
    }
