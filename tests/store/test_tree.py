"""Copies of plain data are deep, equal, and of nothing else."""

import numpy as np
import pytest

from daafl.store.tree import Tree, copied


def test_a_copy_is_equal_and_shares_nothing() -> None:
    array = np.arange(3.0)
    tree: Tree = {"moments": [array, (1, None)], "rate": 0.1, "name": "adam", "raw": b"x"}
    other = copied(tree)
    array[:] = 9.0
    np.testing.assert_equal(
        other,
        {
            "moments": [np.array([0.0, 1.0, 2.0]), (1, None)],
            "rate": 0.1,
            "name": "adam",
            "raw": b"x",
        },
    )


def test_what_would_need_pickle_is_refused() -> None:
    with pytest.raises(TypeError, match="a set, which is not plain data"):
        copied({"seen": {1, 2}})  # type: ignore[type-var]  # the point of the test
