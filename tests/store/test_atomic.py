"""Atomic writes: the old file or the new one, whatever happens."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daafl.errors import StoreError
from daafl.store import atomic
from daafl.store.atomic import write_bytes, write_json


def test_a_file_is_written_with_its_folders_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"first, longer")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "Müller", "loss": 0.5})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text == '{\n  "name": "Müller",\n  "loss": 0.5\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, {"a": b"bytes"}])
def test_what_is_not_json_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(StoreError, match="not JSON"):
        write_json(path, value)
    assert path.read_text(encoding="utf-8") == "1\n"


def test_new_files_get_ordinary_permissions_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"1")
    reference = tmp_path / "reference"
    reference.write_bytes(b"1")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)
    path.chmod(0o640)
    write_bytes(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_failed_write_says_where_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StoreError, match=r"file cannot be written \(No space left on device\)"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "below", b"")


WRITER = """
import sys
from pathlib import Path
from daafl.store.atomic import write_bytes
path, number = Path(sys.argv[1]), 0
while True:
    number += 1
    write_bytes(path, bytes([number % 256]) * 200_000)
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for pause_s in (0.0, 0.003, 0.011):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        time.sleep(pause_s)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        data = path.read_bytes()
        assert len(data) == 200_000
        assert len(set(data)) == 1
