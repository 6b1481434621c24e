import gc
from pathlib import Path

import numpy as np
import pytest

from daafl.errors import StoreError
from daafl.learning.update import Update
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.spool import Spool, is_in_file

PAGE = 4096


def vector(value: float, size: int = 1000) -> np.ndarray:
    return np.full(size, value, np.float32)


def test_little_stays_in_memory() -> None:
    spool = Spool(limit_bytes=8000)
    vectors = [vector(1.0), vector(2.0)]
    assert [spool.held(v) is v for v in vectors] == [True, True]
    assert spool.file_bytes == 0


def test_what_is_more_goes_to_a_file_and_reads_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=4000)
    first, second = vector(1.0), np.arange(1000, dtype=np.float32)
    assert spool.held(first) is first
    held = spool.held(second)
    assert is_in_file(held)
    assert not is_in_file(first)
    np.testing.assert_array_equal(held, second)
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1.0
    assert list(tmp_path.iterdir()) == []  # the file has no name
    assert spool.file_bytes == PAGE


def test_room_in_memory_comes_back() -> None:
    spool = Spool(limit_bytes=4000)
    first = spool.held(vector(1.0))
    assert is_in_file(spool.held(vector(2.0)))
    del first
    gc.collect()
    assert not is_in_file(spool.held(vector(3.0)))


def test_a_place_in_the_file_is_used_again_once_nobody_holds_it() -> None:
    spool = Spool(limit_bytes=0)
    held = [spool.held(vector(value)) for value in (1.0, 2.0, 3.0)]
    assert spool.file_bytes == 3 * PAGE
    part = held.pop(1)[10:20]  # a part of a vector keeps its place
    gc.collect()
    held.append(spool.held(vector(4.0)))
    assert spool.file_bytes == 4 * PAGE
    assert part.tolist() == [2.0] * 10
    del part
    gc.collect()
    held.append(spool.held(vector(5.0)))
    assert spool.file_bytes == 4 * PAGE
    assert [v[0] for v in held] == [1.0, 3.0, 4.0, 5.0]


def test_vectors_of_several_sizes_and_types() -> None:
    spool = Spool(limit_bytes=0)
    rng = np.random.default_rng(0)
    originals = [
        rng.normal(size=size).astype(dtype)
        for size, dtype in [(1, np.float32), (5000, np.float64), (1024, np.float32)]
    ]
    held = [spool.held(original) for original in originals]
    for one, other in zip(held, originals, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_updates_pass_unchanged_and_stay_readable() -> None:
    spool = Spool(limit_bytes=20_000)
    rng = np.random.default_rng(0)
    originals = [rng.normal(size=1000).astype(np.float32) for _ in range(40)]
    updates = [
        Update(spool.held(original), 1.0 + node, (node,), 0, {})
        for node, original in enumerate(originals)
    ]
    assert sum(is_in_file(update.delta) for update in updates) == 35
    expected = weighted_mean(
        Update(original, 1.0 + node, (node,), 0, {}) for node, original in enumerate(originals)
    )
    for _ in range(2):  # pages that were let go of are read again
        mean, total = weighted_mean(spool.passing(updates))
        np.testing.assert_array_equal(mean, expected[0])
        assert total == expected[1]


def test_pages_behind_are_let_go_of() -> None:
    """One hundred vectors of 4 MB pass, and the process never maps more than 128 MB of them."""
    spool = Spool(limit_bytes=0)
    original = np.ones(1_000_000, np.float32)
    updates = [Update(spool.held(original), 1.0, (node,), 0, {}) for node in range(100)]
    mapped = []
    for update in spool.passing(updates):
        update.delta.sum()
        mapped.append(_mapped_mib())
    assert max(mapped) - mapped[0] < 128
    assert spool.file_bytes >= 400_000_000


def _mapped_mib() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("memory is read from Linux's /proc")
    (line,) = (x for x in status.read_text().splitlines() if x.startswith("RssFile:"))
    return int(line.split()[1]) / 1024


def test_a_file_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing", limit_bytes=0)
    with pytest.raises(StoreError, match=r"cannot be written to .*missing.*; free space there"):
        spool.held(vector(1.0))
