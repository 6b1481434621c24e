"""Checkpoints survive kills, power cuts, full disks and damage."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daafl.errors import StoreError
from daafl.store.blobs import Blobs
from daafl.store.checkpoint import Checkpoint, Checkpoints
from daafl.store.tree import Tree

OPERATIONS = ("mkdir", "open", "write", "fsync", "chmod", "replace", "unlink")
NUM_PARAMETERS = 500


def state_after(step: int) -> dict[str, Tree]:
    """Return a state with an array of its own, one that the step before has too, and others."""
    return {
        "step": step,
        "model": np.random.default_rng(step).standard_normal(NUM_PARAMETERS, np.float32),
        "previous": np.random.default_rng(step - 1).standard_normal(NUM_PARAMETERS, np.float32),
        "constant": np.frombuffer(np.random.default_rng(99).bytes(4_000), np.uint8),
        "small": np.array([step]),
    }


def check(checkpoint: Checkpoint | None) -> int:
    """Return the step of a checkpoint, whose state must be exactly that of the step."""
    assert checkpoint is not None
    expected = state_after(checkpoint.step)
    assert isinstance(checkpoint.state, dict)
    assert list(checkpoint.state) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(checkpoint.state[name], value, strict=True)
    return checkpoint.step


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def check_nothing_else_is_there(folder: Path, steps: list[int]) -> None:
    """Check that the files are those of checkpoints 2 and 3, or of whichever they should be."""
    found = files(folder)
    manifests = [name for name in found if "/" not in name]
    assert manifests == [f"{step:08d}.checkpoint" for step in steps]
    models = {number for step in steps for number in (step, step - 1)}
    assert len(found) == len(steps) + len(models) + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints 1 and 2 on disk."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.write(1, state_after(1))
    checkpoints.write(2, state_after(2))
    return checkpoints.folder


def test_what_is_written_is_read_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.latest() is None
    for step in range(1, 5):
        checkpoints.write(step, state_after(step))
        assert check(checkpoints.latest()) == step
        assert check(Checkpoints(checkpoints.folder).latest()) == step
        check_nothing_else_is_there(checkpoints.folder, [s for s in (step - 1, step) if s > 0])
    assert Checkpoints(checkpoints.folder).latest().notes == ()


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    for name in ("model.npz", ".model.npz.x1", "blobs/notes.txt"):
        (folder / name).write_text("mine")
    Checkpoints(folder).write(3, state_after(3))
    assert {"model.npz", ".model.npz.x1", "blobs/notes.txt"} <= set(files(folder))


def test_a_complete_run_needs_none_of_them(folder: Path) -> None:
    (folder / "model.npz").write_text("the result")
    checkpoints = Checkpoints(folder)
    checkpoints.clear()
    assert files(folder) == ["model.npz"]
    assert checkpoints.latest() is None
    checkpoints.write(1, state_after(1))
    assert check(checkpoints.latest()) == 1


def test_the_same_step_can_be_written_again(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    assert check(checkpoints.latest()) == 2
    for _ in range(2):
        checkpoints.write(2, {**state_after(2), "small": np.array([2])})
        assert check(checkpoints.latest()) == 2
        check_nothing_else_is_there(folder, [1, 2])


def test_a_run_that_goes_back_drops_what_it_has_left_behind(folder: Path) -> None:
    (folder / "00000002.checkpoint").write_bytes(b"damaged")
    checkpoints = Checkpoints(folder)
    assert check(checkpoints.latest()) == 1
    # With a checkpoint every third step, 2 would be the newest before 4; it is not the run's own.
    checkpoints.write(4, state_after(4))
    assert [name for name in files(folder) if "/" not in name] == [
        "00000001.checkpoint",
        "00000004.checkpoint",
    ]
    (folder / "00000004.checkpoint").write_bytes(b"damaged")
    assert check(Checkpoints(folder).latest()) == 1


def test_arrays_that_are_there_are_not_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(folder)
    check(checkpoints.latest())
    checkpoints.write(3, state_after(3))
    written: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or real(fd, data))
    checkpoints.write(4, state_after(4))
    assert len(written) == 2  # the new model and the manifest
    assert written[0] < 4 * NUM_PARAMETERS


# Kills and power cuts -------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone; nothing it would do after this happens."""


class Disk:
    """Stops the process at its n-th operation on the disk, and knows what a power cut leaves.

    What was written is on the disk for certain once its file was synced, and so is a name once
    its folder was.
    """

    def __init__(self, folder: Path, stop_at: int) -> None:
        self.stop_at = stop_at
        self.count = 0
        self.contents = {os.stat(p).st_ino: p.read_bytes() for p in folder.rglob("*.*")}
        self.contents |= {os.stat(p).st_ino: p.read_bytes() for p in folder.glob("blobs/*")}
        self.names = {path: self._entries(path) for path in (folder, folder / "blobs")}

    @contextmanager
    def attached(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, self._stopping(name, getattr(os, name)))
            yield

    def after_power_cut(self, target: Path, *, keeps_names: bool) -> Path:
        """Write what is certain to be left; with the names as they are, or as they were synced."""
        for path, synced in self.names.items():
            made = target / path.relative_to(next(iter(self.names)))
            made.mkdir(parents=True, exist_ok=True)
            entries = self._entries(path) if keeps_names else synced
            for name, inode in entries.items():
                (made / name).write_bytes(self.contents.get(inode, b""))
        return target

    def _stopping(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count >= self.stop_at:
                if name == "write" and self.count == self.stop_at:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise Killed
            result = real(*arguments, **options)
            if name == "open" and arguments[1] & os.O_CREAT:
                self.contents.pop(os.fstat(result).st_ino, None)
            if name == "fsync":
                self._note(arguments[0])
            return result

        return operate

    def _note(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.names[path] = self._entries(path)
        else:
            self.contents[status.st_ino] = path.read_bytes()

    @staticmethod
    def _entries(path: Path) -> dict[str, int]:
        if not path.is_dir():
            return {}
        return {p.name: os.stat(p).st_ino for p in path.iterdir() if p.is_file()}


@pytest.mark.parametrize("is_resumed", [False, True])
def test_killed_between_any_two_operations_the_old_state_or_the_new_one_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_resumed: bool
) -> None:
    steps_found = []
    for stop_at in range(1, 1000):
        copy = tmp_path / f"{stop_at}"
        shutil.copytree(folder, copy)
        checkpoints = Checkpoints(copy)
        if is_resumed:
            assert check(checkpoints.latest()) == 2
        disk = Disk(copy, stop_at)
        with disk.attached(monkeypatch), suppress(Killed):
            checkpoints.write(3, state_after(3))
        if disk.count < stop_at:
            # Written is written: a power cut from here on takes nothing back.
            cut = disk.after_power_cut(tmp_path / "cut", keeps_names=False)
            assert check(Checkpoints(cut).latest()) == 3
            break
        steps_found.append(check(Checkpoints(copy).latest()))
        for keeps_names in (False, True):
            cut = disk.after_power_cut(
                tmp_path / f"{stop_at}-cut-{keeps_names}", keeps_names=keeps_names
            )
            left = Checkpoints(cut).latest()
            assert check(left) in (2, 3)
            assert left.notes == ()
        # The next process goes on from there, and leaves no traces of the killed one.
        survivor = Checkpoints(copy)
        step = check(survivor.latest())
        survivor.write(step + 1, state_after(step + 1))
        assert check(Checkpoints(copy).latest()) == step + 1
        check_nothing_else_is_there(copy, [step, step + 1])
    assert steps_found == sorted(steps_found)
    assert steps_found.count(2) > 10
    assert steps_found.count(3) >= 2


def test_a_first_checkpoint_that_was_not_finished_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for stop_at in range(1, 1000):
        copy = tmp_path / f"{stop_at}"
        disk = Disk(copy, stop_at)
        with disk.attached(monkeypatch), suppress(Killed):
            Checkpoints(copy).write(1, state_after(1))
        if disk.count < stop_at:
            break
        checkpoint = Checkpoints(copy).latest()
        found.append(0 if checkpoint is None else check(checkpoint))
        Checkpoints(copy).write(1, state_after(1))
        check_nothing_else_is_there(copy, [1])
    assert found == sorted(found)
    assert set(found) == {0, 1}


@pytest.mark.parametrize("is_lasting", [False, True])
def test_whatever_operation_fails_the_last_state_stays_and_the_error_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_lasting: bool
) -> None:
    num_errors = 0
    for fail_at in range(1, 1000):
        copy = tmp_path / f"{fail_at}"
        shutil.copytree(folder, copy)
        checkpoints = Checkpoints(copy)
        check(checkpoints.latest())
        count = 0

        def failing(real: Callable[..., Any], name: str, at: int = fail_at) -> Callable[..., Any]:
            def operate(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                # A full disk still removes files.
                if count == at or (is_lasting and count > at and name != "unlink"):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*arguments, **options)

            return operate

        with monkeypatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, failing(getattr(os, name), name))
            try:
                checkpoints.write(3, state_after(3))
                error = None
            except StoreError as caught:
                error = str(caught)
        if count < fail_at:
            break
        if error is not None:
            num_errors += 1
            assert f"checkpoint 3 cannot be written to {copy}" in error
            assert "(No space left on device)" in error
            step = check(Checkpoints(copy).latest())
            # Nothing of the failed write takes up space, unless all of it was written.
            check_nothing_else_is_there(copy, [1, 2] if step == 2 else [1, 2, 3])
        else:
            assert check(Checkpoints(copy).latest()) == 3
        checkpoints.write(4, state_after(4))
        assert check(Checkpoints(copy).latest()) == 4
        assert len([name for name in files(copy) if "/" not in name]) == 2
    assert num_errors > 10


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from daafl.errors import StoreError
from daafl.store.blobs import Blobs
from daafl.store.checkpoint import Checkpoints
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.write(1, {"model": np.arange(1_000)})
try:
    checkpoints.write(2, {"model": np.arange(100_000)})
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_really_takes_no_more_is_an_error_of_the_store(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "checkpoint 2 cannot be written" in told
    assert "(File too large)" in told
    checkpoint = Checkpoints(tmp_path).latest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert len(files(tmp_path)) == 2


WRITER = """
import sys
from pathlib import Path
import numpy as np
from daafl.store.blobs import Blobs
from daafl.store.checkpoint import Checkpoints
checkpoints, step = Checkpoints(Path(sys.argv[1])), 0
last = checkpoints.latest()
step = 0 if last is None else last.step
while True:
    step += 1
    checkpoints.write(step, {"step": step, "model": np.full(20_000, step), "old": np.full(20_000, step - 1)})
    print(step, flush=True)
"""  # noqa: E501


def test_readers_see_whole_states_while_a_writer_writes_and_is_killed(tmp_path: Path) -> None:
    seen = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(40):
            checkpoint = Checkpoints(tmp_path).latest()
            assert checkpoint is not None
            assert checkpoint.step >= seen
            seen = checkpoint.step
            assert checkpoint.state["step"] == seen
            assert set(checkpoint.state["model"]) == {seen}
            assert set(checkpoint.state["old"]) == {seen - 1}
            assert checkpoint.notes == ()
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
    assert seen > 8


def test_a_reader_that_is_overtaken_by_two_writes_reads_the_newest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Blobs.read

    def overtaken(blobs: Blobs, name: str, size: int) -> bytes:
        monkeypatch.setattr(Blobs, "read", real)
        writer = Checkpoints(folder)
        writer.write(3, state_after(3))
        writer.write(4, state_after(4))
        return real(blobs, name, size)

    monkeypatch.setattr(Blobs, "read", overtaken)
    checkpoint = Checkpoints(folder).latest()
    assert check(checkpoint) == 4
    assert checkpoint.notes == ()


# Damage ---------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder: Path) -> None:
    path = folder / "00000002.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    checkpoint = Checkpoints(folder).latest()
    assert check(checkpoint) == 1
    assert checkpoint.notes == (
        "checkpoint 2 is damaged (its manifest does not have the checksum it names); used 1",
    )


def test_a_missing_array_is_damage(folder: Path, tmp_path: Path) -> None:
    other = Checkpoints(tmp_path / "other")
    other.write(2, state_after(2))
    own = {name for name in files(other.folder) if "/" in name}
    other.write(1, state_after(1))
    (model,) = own - set(files(other.folder))
    (folder / model).unlink()
    checkpoint = Checkpoints(folder).latest()
    assert check(checkpoint) == 1
    name = model.removeprefix("blobs/")[:12]
    assert checkpoint.notes == (
        f"checkpoint 2 is damaged ({name} of its arrays: No such file or directory); used 1",
    )


def test_without_any_usable_checkpoint_the_error_says_what_is_wrong_with_each(
    folder: Path,
) -> None:
    (folder / "00000002.checkpoint").write_bytes(b"daafl checkpoint 9\nx")
    (folder / "00000001.checkpoint").write_bytes(b"")
    with pytest.raises(
        StoreError,
        match=r"no checkpoint in .* can be used: checkpoint 2 is damaged \(it has format 9, and "
        r"this release reads format 1\); checkpoint 1 is damaged \(.*checksum.*\); start the run",
    ):
        Checkpoints(folder).latest()


def test_a_checkpoint_under_another_ones_name_is_damage(folder: Path) -> None:
    shutil.copy(folder / "00000001.checkpoint", folder / "00000007.checkpoint")
    checkpoint = Checkpoints(folder).latest()
    assert check(checkpoint) == 2
    assert "00000007.checkpoint is the checkpoint of step 1" in checkpoint.notes[0]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(change=st.data())
def test_no_bit_of_any_file_can_change_unnoticed(folder: Path, change: st.DataObject) -> None:
    names = files(folder)
    assert len(names) == 6
    path = folder / change.draw(st.sampled_from(names))
    good = path.read_bytes()
    damaged = bytearray(good)
    how = change.draw(st.sampled_from(["flip", "cut", "extend"]))
    place = change.draw(st.integers(0, len(good) - 1))
    if how == "flip":
        damaged[place] ^= 1 << change.draw(st.integers(0, 7))
    elif how == "cut":
        del damaged[place:]
    else:
        damaged += bytes([place % 256])
    path.write_bytes(damaged)
    try:
        found = Checkpoints(folder).latest()
        # Undamaged, or with a note; an array that only checkpoint 1 has is not even read.
        assert check(found) == (1 if found.notes else 2)
    except StoreError as error:
        assert "checkpoint 2 is damaged" in str(error)
        assert "checkpoint 1 is damaged" in str(error)
    path.write_bytes(good)


def test_a_write_repairs_what_it_needs_and_others_have_damaged(folder: Path) -> None:
    for name in files(folder):
        if name.startswith("blobs/"):
            (folder / name).write_bytes(b"\0" * (folder / name).stat().st_size)
    Checkpoints(folder).write(2, state_after(2))
    checkpoint = Checkpoints(folder).latest()
    assert check(checkpoint) == 2
    assert checkpoint.notes == ()


def test_a_small_model_takes_little_more_than_itself(tmp_path: Path) -> None:
    """Two checkpoints of a model of 10 KB, with what a loop and thirty nodes remember."""
    rng = np.random.default_rng(0)
    checkpoints = Checkpoints(tmp_path)
    model = rng.standard_normal(2_410).astype(np.float32)
    for step in range(1, 6):
        before, model = model, rng.standard_normal(2_410).astype(np.float32)
        state: dict[str, Tree] = {
            "packed": model.view(np.uint8),
            "points": {str(step): model.view(np.uint8), str(step - 1): before.view(np.uint8)},
            "nodes": [
                {"node": node, "losses": [float(x) for x in rng.random(8)], "seen": step}
                for node in range(30)
            ],
        }
        checkpoints.write(step, state)
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert total <= 5 * model.nbytes


def test_the_one_before_the_last_is_kept_where_it_shares_more(tmp_path: Path) -> None:
    """Checkpoints 1 and 3 hold the same array; 2 holds another one. 1 does not outlive a third."""
    checkpoints = Checkpoints(tmp_path)
    first, second = (np.full(1000, value, np.float64) for value in (1.0, 2.0))
    kept = []
    for step, array in enumerate((first, second, first, first, second), start=1):
        checkpoints.write(step, {"step": step, "array": array})
        kept.append(sorted(int(path.stem) for path in tmp_path.glob("*.checkpoint")))
    assert kept == [[1], [1, 2], [1, 3], [3, 4], [4, 5]]
