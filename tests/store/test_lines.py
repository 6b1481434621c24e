"""Files of lines that grow at their end, and go back to where they were."""

from pathlib import Path

import pytest

from daafl.errors import StoreError
from daafl.store.lines import append_line, remove, synced_size, truncate_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of two lines and the beginning of a third."""
    path = tmp_path / "rounds.jsonl"
    for line in ("one", "zwei, \u00e4"):
        append_line(path, line)
    with path.open("ab") as file:
        file.write(b"thr")
    return path


def test_lines_are_appended_and_cut_off(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == "one\nzwei, \u00e4\nthr"
    assert synced_size(path) == 16  # 4 + 9 + 3 bytes: the umlaut has two
    truncate_lines(path, 13)
    append_line(path, "three")
    assert path.read_text(encoding="utf-8").split("\n") == ["one", "zwei, \u00e4", "three", ""]
    truncate_lines(path, 0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(("size", "rule"), [(5, "no line that ends"), (17, "lines are missing")])
def test_it_goes_back_to_the_end_of_a_line_only(path: Path, size: int, rule: str) -> None:
    with pytest.raises(StoreError, match=rule):
        truncate_lines(path, size)
    assert path.stat().st_size == 16


def test_what_the_disk_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot take another line"):
        append_line(tmp_path / "missing" / "rounds.jsonl", "one")
    with pytest.raises(StoreError, match="cannot be read"):
        synced_size(tmp_path / "missing")
    with pytest.raises(StoreError, match="cannot be cut back"):
        truncate_lines(tmp_path / "missing", 0)


def test_removing_twice_is_harmless(path: Path) -> None:
    remove(path)
    remove(path)
    assert not path.exists()
