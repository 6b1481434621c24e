import numpy as np

from daafl.learning.baseline import centralised
from daafl.learning.examples import Examples
from daafl.learning.tasks.digits import Digits


def test_digits_in_one_place() -> None:
    baseline = centralised(Digits(), num_nodes=10, steps=300, lrs=(0.001, 0.1))
    assert baseline.lr == 0.1
    assert baseline.metrics["accuracy"] > 0.93
    assert baseline == centralised(Digits(), num_nodes=10, steps=300, lrs=(0.001, 0.1))


class Blind(Digits):
    def evaluation(self) -> None:
        return None


def test_without_evaluation_data_a_fifth_is_held_out() -> None:
    assert centralised(Blind(), 5, steps=300, lrs=(0.1,)).metrics["accuracy"] > 0.9


class Diverging(Digits):
    def training(self) -> Examples:
        examples = super().training()
        return Examples(np.asarray(examples.inputs) * 1e20, examples.targets)


def test_a_rate_at_which_training_diverges_is_not_chosen() -> None:
    baseline = centralised(Diverging(), 2, steps=5, lrs=(0.3, 0.0))
    assert baseline.lr == 0.0
