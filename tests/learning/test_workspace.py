import numpy as np

from daafl.learning.workspace import Workspace


def test_memory_grows_with_what_is_asked_for_and_stays_apart_by_name() -> None:
    workspace = Workspace()
    small = workspace.array("a", (2,), np.float64)
    large = workspace.array("a", (3, 4), np.float64)
    other = workspace.array("b", (3, 4), np.float64)
    large[...], other[...] = 1.0, 2.0
    assert (small.shape, large.shape, large.dtype) == ((2,), (3, 4), np.dtype(np.float64))
    assert large.sum() == 12.0
    assert np.shares_memory(workspace.array("a", (5,), np.int8), large)
    assert not np.shares_memory(large, other)
