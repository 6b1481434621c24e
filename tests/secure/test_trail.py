"""The audit log of a run: it goes on after a kill, and refuses to go on with a changed file."""

from pathlib import Path

import pytest

from daafl.errors import StoreError
from daafl.secure.audit import AuditError, verify
from daafl.secure.trail import Trail


def test_a_trail_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with Trail(path) as trail:
        trail.note("run_began", nodes=3)
        first = trail.head
    with Trail(path) as trail:
        assert trail.head == first
        trail.note("update_accepted", node=1)
    assert verify(path, first).count == 2


@pytest.mark.parametrize("kept", [1, 20])
def test_a_line_that_a_kill_cut_short_is_replaced(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "audit.jsonl"
    with Trail(path) as trail:
        trail.note("run_began", nodes=3)
        first = trail.head
        trail.note("update_accepted", node=1)
    whole = path.read_bytes()
    cut = whole.index(b"\n") + 1 + kept
    path.write_bytes(whole[:cut])
    with Trail(path) as trail:
        assert trail.head.count == 2
    assert verify(path, first).count == 2
    assert b'"line_lost"' in path.read_bytes()


def test_a_changed_file_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with Trail(path) as trail:
        trail.note("update_accepted", node=1)
        trail.note("update_accepted", node=2)
    path.write_bytes(path.read_bytes().replace(b'"node":1', b'"node":7'))
    with pytest.raises(AuditError, match="line 1"):
        Trail(path)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with Trail(tmp_path / "audit.jsonl"):
        pass
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"audit\.jsonl"):
        Trail(tmp_path / "nowhere" / "audit.jsonl")


def test_a_log_that_lost_its_end_since_it_was_noted_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with Trail(path) as trail:
        trail.note("update_accepted", node=1)
        trail.note("update_accepted", node=2)
        head = trail.head
    lines = path.read_bytes().splitlines(keepends=True)
    with Trail(path, head):
        pass
    path.write_bytes(lines[0])
    with pytest.raises(AuditError, match="was cut"):
        Trail(path, head)
    path.unlink()
    with pytest.raises(AuditError, match="was cut"):
        Trail(path, head)
