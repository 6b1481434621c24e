"""The node store: numbers that only grow, and memory that survives kills and damage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import StoreError
from daafl.store import node_store
from daafl.store.node_store import NodeStore, StoredUpdate


def records(directory: Path) -> list[Path]:
    """Return the record files of the only node in a store."""
    return sorted(directory.glob("*/node-*/record.*.json"))


def test_sequence_numbers_grow_from_one_per_federation_and_node(tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    assert [store.next_sequence("a", 1) for _ in range(3)] == [1, 2, 3]
    assert store.next_sequence("a", 2) == 1
    assert store.next_sequence("b", 1) == 1
    assert NodeStore(tmp_path).next_sequence("a", 1) == 4


def test_loop_state_and_sequence_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    assert store.loop_state("a", 1) is None
    store.next_sequence("a", 1)
    state = {"battery": 0.4, "seen": [1, None, True], "nested": {"x": "y"}}
    store.save_loop_state("a", 1, state)
    assert store.next_sequence("a", 1) == 2
    assert NodeStore(tmp_path).loop_state("a", 1) == state


def test_an_update_is_kept_until_it_is_acknowledged(tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    assert store.unacknowledged("a", 1) is None
    store.acknowledge("a", 1, 7)
    store.keep_update("a", 1, StoredUpdate(3, b"three"))
    store.keep_update("a", 1, StoredUpdate(4, b"\x00four"))
    assert NodeStore(tmp_path).unacknowledged("a", 1) == StoredUpdate(4, b"\x00four")
    store.acknowledge("a", 1, 3)
    assert store.unacknowledged("a", 1) == StoredUpdate(4, b"\x00four")
    store.acknowledge("a", 1, 4)
    assert store.unacknowledged("a", 1) is None


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_store, "MAX_UPDATE_BYTES", 10)
    monkeypatch.setattr(node_store, "MAX_RECORD_BYTES", 200)
    store = NodeStore(tmp_path)
    store.keep_update("a", 1, StoredUpdate(1, b"0123456789"))
    with pytest.raises(StoreError, match=r"11 bytes is not kept in .*update\.bin; at most 10"):
        store.keep_update("a", 1, StoredUpdate(2, b"01234567890"))
    assert store.unacknowledged("a", 1) == StoredUpdate(1, b"0123456789")
    with pytest.raises(StoreError, match="at most 200"):
        store.save_loop_state("a", 1, "x" * 200)


@pytest.mark.parametrize("state", [float("nan"), {"x": float("inf")}])
def test_a_state_that_is_not_json_is_refused(tmp_path: Path, state: float) -> None:
    with pytest.raises(StoreError, match="not JSON"):
        NodeStore(tmp_path).save_loop_state("a", 1, state)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"sha256": 1}', b"\xff" * 40])
def test_a_damaged_record_is_replaced_by_its_copy_and_no_number_is_used_twice(
    tmp_path: Path, damage: bytes
) -> None:
    store = NodeStore(tmp_path)
    store.save_loop_state("a", 1, "kept")
    given_out = [store.next_sequence("a", 1) for _ in range(4)]
    (newest,) = (p for p in records(tmp_path) if '\\"sequence\\": 4' in p.read_text("ascii"))
    newest.write_bytes(damage)
    again = NodeStore(tmp_path)
    given_out += [again.next_sequence("a", 1) for _ in range(3)]
    assert given_out == sorted(set(given_out))
    assert given_out[4] > 4
    assert again.loop_state("a", 1) == "kept"


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    store.next_sequence("a", 1)
    (path,) = records(tmp_path)
    text = path.read_text(encoding="ascii")
    path.write_text(text.replace('\\"sequence\\": 1', '\\"sequence\\": 0'), encoding="ascii")
    assert path.read_text(encoding="ascii") != text
    with pytest.raises(StoreError, match="damaged, and so is its copy; restore"):
        store.next_sequence("a", 1)


def test_two_damaged_records_say_what_to_do_and_change_nothing(tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    store.next_sequence("a", 1)
    store.next_sequence("a", 1)
    for path in records(tmp_path):
        path.write_bytes(b"rubbish")
    with pytest.raises(StoreError, match=r"node 1 in .*node-1 is damaged"):
        store.next_sequence("a", 1)
    assert [path.read_bytes() for path in records(tmp_path)] == [b"rubbish"] * 2


@pytest.mark.parametrize("keep", [0, 5, 40, 55, -1])
def test_a_damaged_update_names_the_file_to_delete(tmp_path: Path, keep: int) -> None:
    store = NodeStore(tmp_path)
    store.keep_update("a", 1, StoredUpdate(1, b"update"))
    (path,) = tmp_path.glob("*/node-1/update.bin")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"update.bin is damaged; delete it"):
        store.unacknowledged("a", 1)


NAMES = ["", "..", "../../etc", "/etc/passwd", "a/b", "a\\b", "C:\\x", "\0", "ü" * 500, "A", "a"]


def test_whatever_a_federation_is_called_its_folder_lies_inside(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "inside")
    assert [store.next_sequence(name, 1) for name in NAMES] == [1] * len(NAMES)
    assert len(list((tmp_path / "inside").iterdir())) == len(NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@given(st.text())
def test_any_text_names_a_folder_of_its_own(name: str) -> None:
    folder = NodeStore(Path("/store"))._folder(name, 3)
    assert folder.parts[:2] == ("/", "store")
    assert len(folder.parts) == 4
    assert folder.parts[2].isascii()
    assert ".." not in folder.parts
    assert len(folder.parts[2]) <= 53


def test_a_negative_node_has_no_record(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="logical ids of nodes are 0 or more"):
        NodeStore(tmp_path).next_sequence("a", -1)


COUNTER = """
import sys
from pathlib import Path
from daafl.store.node_store import NodeStore
store = NodeStore(Path(sys.argv[1]))
while True:
    print(store.next_sequence("a", 1), flush=True)
"""


def test_no_kill_makes_a_number_be_used_twice(tmp_path: Path) -> None:
    given_out: list[int] = []
    for _ in range(4):
        counter = subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert counter.stdout is not None
        given_out += [int(counter.stdout.readline()) for _ in range(3)]
        os.kill(counter.pid, signal.SIGKILL)
        given_out += map(int, counter.communicate()[0].split())
    assert given_out == sorted(set(given_out))
    assert NodeStore(tmp_path).next_sequence("a", 1) > given_out[-1]
