import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.learning.batches import batches, spread


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_every_epoch_uses_each_example_once(n: int, size: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = list(batches(n, batch_size=size, steps=steps, rng=rng))
    assert len(drawn) == steps
    per_epoch = -(-n // size)
    for first in range(0, steps - per_epoch + 1, per_epoch):
        epoch = drawn[first : first + per_epoch]
        assert sorted(np.concatenate(epoch)) == list(range(n))
        assert [len(batch) for batch in epoch[:-1]] == [size] * (per_epoch - 1)


def test_epochs_are_shuffled_differently_and_repeatably() -> None:
    first, again = (
        list(batches(50, batch_size=50, steps=2, rng=np.random.default_rng(3))) for _ in range(2)
    )
    assert first[0].tolist() != first[1].tolist()
    assert [b.tolist() for b in first] == [b.tolist() for b in again]


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(1, 600))
def test_spread_indices_rise_and_cover(n: int, limit: int) -> None:
    indices = spread(n, limit)
    assert len(indices) == min(n, limit)
    assert (np.diff(indices) > 0).all()
    if n:
        assert indices[0] == 0 and n - 1 - indices[-1] <= n / len(indices)
