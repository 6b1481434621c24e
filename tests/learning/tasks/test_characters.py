"""The next-character task and the texts it reads."""

import numpy as np
import pytest
import torch

from daafl.data.partition import Dirichlet, Iid
from daafl.errors import ConfigError
from daafl.learning.tasks.characters import CONTEXT, CharacterTransformer, NextCharacter
from daafl.learning.tasks.stories import ALPHABET, story
from daafl.learning.trainer import LocalWork, TorchTrainer


def test_texts_are_small_repeatable_and_of_their_alphabet() -> None:
    texts = [story(author, 6000, seed=0) for author in range(10)]
    assert texts == [story(author, 6000, seed=0) for author in range(10)]
    assert len(set(texts)) == 10
    assert {character for text in texts for character in text} <= set(ALPHABET)
    assert sum(map(len, texts)) < 100_000 and len(ALPHABET) <= 64


def test_targets_are_the_characters_that_follow() -> None:
    task = NextCharacter(num_authors=2, characters_per_author=600)
    training = task.training_data()
    text = story(1, 600, seed=0)
    second = np.flatnonzero(training.groups == 1)
    for position, index in enumerate(second):
        start = 16 * position
        shown = "".join(ALPHABET[code] for code in training.inputs[index])
        wanted = "".join(ALPHABET[code] for code in training.targets[index])
        assert shown == text[start : start + CONTEXT]
        assert wanted == text[start + 1 : start + CONTEXT + 1]
    # 480 characters hold windows of 33 from 0, 16 ... 432: 28 of them.
    assert len(second) == 28


def test_evaluation_windows_come_from_the_end_of_each_text() -> None:
    task = NextCharacter(num_authors=1, characters_per_author=600)
    first = "".join(ALPHABET[code] for code in task.evaluation_data().inputs[0])
    assert first == story(0, 600, seed=0)[480 : 480 + CONTEXT]


def test_nodes_differ_in_authors() -> None:
    skewed, even = NextCharacter(partitioner=Dirichlet(0.1)), NextCharacter(partitioner=Iid())

    def authors_of(task: NextCharacter) -> float:
        return float(np.mean([len(np.unique(task.node_data(i, 20).groups)) for i in range(20)]))

    assert authors_of(even) > 9.5
    assert authors_of(skewed) < 6


def test_the_transformer_does_not_see_the_future() -> None:
    torch.manual_seed(0)
    model = CharacterTransformer(len(ALPHABET), width=16, num_layers=2)
    codes = torch.randint(0, len(ALPHABET), (3, CONTEXT))
    changed = codes.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % len(ALPHABET)
    before, after = model(codes), model(changed)
    assert before.shape == (3, CONTEXT, len(ALPHABET))
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert (before[:, 20:] - after[:, 20:]).abs().amin(-1).max() > 1e-3


def test_it_can_be_learned() -> None:
    task = NextCharacter()
    trainer = TorchTrainer(task)
    assert trainer.layout.num_parameters < 15_000
    work = LocalWork(lr=1.0, steps=300, batch_size=16)
    trained = trainer.train(trainer.initial(0), task.training_data(), work, key=0)
    assert trainer.evaluate(trained.packed, task.evaluation_data())["accuracy"] > 0.4


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 31},
        {"width": 0},
        {"num_authors": 0},
        {"num_layers": 0},
        {"characters_per_author": 10},
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, int]) -> None:
    key, value = next(iter(settings.items()))
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        NextCharacter(**settings)
