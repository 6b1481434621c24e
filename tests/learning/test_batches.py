import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.keyed_random import mixed
from daafl.learning.batches import batches, batches_per_epoch, spread


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_every_epoch_uses_each_example_once(n: int, size: int, steps: int, key: int) -> None:
    drawn = list(batches(n, batch_size=size, steps=steps, key=key))
    assert len(drawn) == steps
    per_epoch = -(-n // size)
    assert batches_per_epoch(n, size) == per_epoch
    for first in range(0, steps - per_epoch + 1, per_epoch):
        epoch = drawn[first : first + per_epoch]
        assert sorted(np.concatenate(epoch)) == list(range(n))
        assert [len(batch) for batch in epoch[:-1]] == [size] * (per_epoch - 1)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4))
def test_no_batch_is_smaller_than_the_least_unless_there_is_but_one(
    n: int, size: int, least: int
) -> None:
    per_epoch = batches_per_epoch(n, size, least)
    epoch = list(batches(n, batch_size=size, steps=per_epoch, key=0, least=least))
    assert sorted(np.concatenate(epoch)) == list(range(n))
    assert len(epoch[-1]) >= min(least, n)
    assert {len(batch) for batch in epoch[:-1]} <= {size}


def test_an_epoch_is_in_the_order_of_its_hashes() -> None:
    drawn = list(batches(50, batch_size=50, steps=2, key=3))
    for epoch, batch in enumerate(drawn):
        hashes = [int(mixed(3, epoch, example)) for example in range(50)]
        assert batch.tolist() == sorted(range(50), key=hashes.__getitem__)
    assert drawn[0].tolist() != drawn[1].tolist()


def test_many_epochs_are_those_of_few() -> None:
    # 40,000 examples are ordered one epoch at a time, 3 of them many epochs at a time.
    long, short = (list(batches(40_000, batch_size=9_999, steps=s, key=5)) for s in (12, 6))
    assert all(np.array_equal(a, b) for a, b in zip(long[:6], short, strict=True))
    assert len(list(batches(3, batch_size=2, steps=100_001, key=5))) == 100_001


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(1, 600))
def test_spread_indices_rise_and_cover(n: int, limit: int) -> None:
    indices = spread(n, limit)
    assert len(indices) == min(n, limit)
    assert (np.diff(indices) > 0).all()
    if n:
        assert indices[0] == 0 and n - 1 - indices[-1] <= n / len(indices)
