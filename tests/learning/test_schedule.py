"""The batches of many members are those of each member alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.learning import schedule as module
from daafl.learning.batches import batches
from daafl.learning.schedule import schedule

MEMBERS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 30), st.integers(1, 9), st.integers(1, 12)),
    min_size=1,
    max_size=7,
)


def columns(members: list[tuple[int, int, int, int]]) -> dict[str, np.ndarray]:
    _, sizes, batch_sizes, steps = zip(*members, strict=True)
    return {
        "keys": np.array([member[0] for member in members], np.uint64),
        "sizes": np.array(sizes),
        "batch_sizes": np.array(batch_sizes),
        "steps": np.array(steps),
    }


def check(members: list[tuple[int, int, int, int]], least: int = 1) -> None:
    plan = schedule(**columns(members), least=least)
    for position, (key, size, batch_size, steps) in enumerate(members):
        drawn = list(batches(size, batch_size=batch_size, steps=steps, key=key, least=least))
        counts = plan.counts[:, position]
        assert counts[:steps].tolist() == [len(batch) for batch in drawn]
        assert not counts[steps:].any()
        for step, batch in enumerate(drawn):
            own = plan.indices[step, position]
            assert own[: len(batch)].tolist() == batch.tolist()
            assert set(own[len(batch) :].tolist()) <= {batch[0]}


@settings(deadline=None)
@given(MEMBERS, st.integers(1, 3))
def test_batches_are_those_of_each_member(
    members: list[tuple[int, int, int, int]], least: int
) -> None:
    check(members, least)


def test_sizes_may_differ_by_orders_of_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(5, 3, 2, 7), (6, 3000, 10, 2), (7, 90, 8, 25), (8, 2500, 900, 4), (9, 1, 1, 3)]
    check(members)
    monkeypatch.setattr(module, "_HASHED_AT_ONCE", 64)  # an epoch at a time
    check(members)


def test_shares_are_those_of_a_mean_over_each_batch() -> None:
    # 5 examples in batches of 2: two batches of 2 and one of 1, then none.
    one = np.ones(1, np.int64)
    pair = schedule(
        np.array([1, 2], np.uint64),
        sizes=np.array([5, 5]),
        batch_sizes=np.array([2, 2]),
        steps=np.array([3, 1]),
    )
    assert pair.shares[:, 0].tolist() == [[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]
    assert pair.shares[:, 1].tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]
    alone = schedule(one.astype(np.uint64), sizes=5 * one, batch_sizes=2 * one, steps=3 * one)
    assert np.array_equal(alone.indices[:, 0], pair.indices[:, 0])
