import numpy as np
import pytest
import torch

from daafl.errors import DataError
from daafl.learning.examples import Examples


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_take_keeps_order_and_groups(make) -> None:
    examples = Examples(make([[0], [1], [2]]), make([5, 6, 7]), make([1, 1, 2]))
    taken = examples.take(np.array([2, 0]))
    assert len(taken) == 2
    assert taken.inputs.tolist() == [[2], [0]]
    assert taken.targets.tolist() == [7, 5]
    assert taken.groups.tolist() == [2, 1]


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        Examples(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="1 groups and 2 targets"):
        Examples(np.zeros(2), np.zeros(2), np.zeros(1))
