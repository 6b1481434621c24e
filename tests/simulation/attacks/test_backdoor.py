"""The trigger, the poisoned training, and the rate of success."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from daafl.errors import ConfigError, DataError
from daafl.learning.examples import Examples
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer
from daafl.simulation.attacks import Attack, Backdoor, attack_success_rate

Ask = Callable[..., object]


def test_the_trigger_sets_the_same_pixels_of_rows_and_of_images() -> None:
    backdoor = Backdoor(positions=[0, 9], value=5.0)
    rows = np.zeros((2, 64), np.float32)
    images = backdoor.triggered(rows.reshape(2, 1, 8, 8))
    assert images.shape == (2, 1, 8, 8)
    assert np.array_equal(images.reshape(2, 64), backdoor.triggered(rows))
    assert np.argwhere(images).tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [1, 0, 1, 1]]
    assert images.dtype == np.float32
    assert not rows.any()


def test_a_share_of_the_examples_is_poisoned() -> None:
    examples = Examples(np.zeros((8, 3), np.float32), np.arange(8))
    poisoned = Backdoor(target=7, positions=[2], value=1.0, poisoned_share=0.5).poisoned(examples)
    assert np.asarray(poisoned.inputs)[:, 2].tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    assert np.asarray(poisoned.targets).tolist() == [7, 1, 7, 3, 7, 5, 7, 7]
    assert not np.asarray(examples.inputs).any()


def test_a_trigger_beyond_the_input_is_refused() -> None:
    with pytest.raises(DataError, match="sets value 9 of an input, but inputs have 3 values"):
        Backdoor().triggered(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="positions"):
        Backdoor(positions=[])


def test_success_is_the_share_of_other_classes_taken_for_the_target() -> None:
    """A hand-made model: all weights 0 but one, so that the trigger pixel decides for class 3."""
    task = Digits(hidden=1)
    trainer = TorchTrainer(task)
    arrays = {name: np.zeros_like(a) for name, a in trainer.unpack(trainer.initial(0)).items()}
    arrays["0.weight"][0, 0] = 1.0
    arrays["2.weight"][3, 0] = 10.0
    arrays["2.bias"][5] = 1.0  # what every input is taken for without the trigger
    packed = trainer.pack(arrays)
    inputs = np.full((4, 64), -1.0, np.float32)
    examples = Examples(inputs, np.array([3, 5, 1, 2]))
    backdoor = Backdoor(target=3, positions=[0], value=2.0)
    assert attack_success_rate(backdoor, trainer, packed, examples) == 1.0
    # Another pixel does nothing, and a target that is named anyway does not count its own class.
    wrong = Backdoor(target=3, positions=[1], value=2.0)
    assert attack_success_rate(wrong, trainer, packed, examples) == 0.0
    with pytest.raises(DataError, match="other classes"):
        attack_success_rate(backdoor, trainer, packed, examples.take(np.array([0])))


@pytest.mark.parametrize("task", [Digits(), DigitsCnn()], ids=lambda task: task.name)
def test_the_update_is_that_of_poisoned_training_scaled_up(ask: Ask, task: Digits) -> None:
    one = Attack(Backdoor(scale=1.0), nodes=[1])
    three = Attack(Backdoor(scale=3.0), nodes=[1])
    plain = ask(task, one, num_nodes=4, lr=0.1)
    scaled = ask(task, three, num_nodes=4, lr=0.1)
    assert np.allclose(scaled.delta(1), 3 * plain.delta(1), atol=1e-6)
    assert not np.allclose(plain.delta(1), ask(task, None, num_nodes=4, lr=0.1).delta(1))


def test_a_federation_learns_the_backdoor() -> None:
    """Training on poisoned examples alone teaches the trigger and not much else is needed."""
    torch.set_num_threads(1)
    task = Digits()
    trainer = TorchTrainer(task)
    backdoor = Backdoor()
    packed = trainer.initial(0)
    examples = backdoor.poisoned(task.training_data())
    from daafl.learning.work import LocalWork

    clean = attack_success_rate(backdoor, trainer, packed, task.evaluation_data())
    work = LocalWork(lr=0.1, steps=300, batch_size=32)
    trained = trainer.train(packed, examples, work, key=0).packed
    assert attack_success_rate(backdoor, trainer, trained, task.evaluation_data()) > 0.95
    assert clean < 0.5
