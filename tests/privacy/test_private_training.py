"""Private training of nodes: alone, together, and beside Opacus."""

import numpy as np
import pytest
import torch
from torch import nn

from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.member import Member, NotBatched
from daafl.learning.private import check_private, trained_privately
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.task import Task
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.keystream import Keystream, poisson_sample

NODES = 6


def alone(trainer, sent, member, privacy, seed):
    return trained_privately(
        trainer,
        sent,
        member.examples,
        member.work,
        member.key,
        privacy=privacy,
        keystream=Keystream.seeded(seed),
    ).packed.view("f4")


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.6}, {"momentum": 0.5, "proximal_mu": 0.1, "weight_decay": 0.01}],
)
def test_nodes_train_together_as_they_do_alone(settings):
    task = Digits()
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=1)
    # Different steps, batches and noise; the last node's batch is all it has.
    members = [
        Member(
            task.node_data(node, 30),
            LocalWork(lr=0.2, steps=2 + node % 3, batch_size=4 + 60 * (node == 5), **settings),
            key=node,
        )
        for node in range(NODES)
    ]
    levels = [SampleLevel(0.7, 1.0 + 0.1 * node) for node in range(NODES)]
    together = PrivateStack(trainer).train(
        sent,
        [
            PrivateMember(member, level, Keystream.seeded(node))
            for node, (member, level) in enumerate(zip(members, levels, strict=True))
        ],
    )
    for node, (member, level) in enumerate(zip(members, levels, strict=True)):
        expected = alone(trainer, sent, member, level, node)
        assert np.abs(together[node].view("f4") - expected).max() <= 1e-6
        assert np.abs(expected - sent.view("f4")).max() > 0.01


def test_a_convolutional_network_trains_privately_and_not_as_a_dense_stack():
    task = DigitsCnn()
    trainer = TorchTrainer(task)
    check_private(trainer)
    with pytest.raises(NotBatched):
        PrivateStack(trainer)
    sent = trainer.initial(seed=0)
    work = LocalWork(lr=0.5, steps=40, batch_size=32)
    quiet = SampleLevel(1.0, 0.01)
    data = task.node_data(0, 5)
    trained = trained_privately(
        trainer, sent, data, work, 0, privacy=quiet, keystream=Keystream.fresh()
    )
    before, after = (trainer.evaluate(model, data) for model in (sent, trained.packed))
    assert after["loss"] < 0.6 * before["loss"]


class OneStep(Task):
    """A model and data of which a step can be worked out by another library."""

    name = "one_step"

    def __init__(self, convolves):
        self.convolves = convolves
        generator = np.random.default_rng(3)
        self.inputs = generator.normal(size=(12, 1, 6, 6)).astype(np.float32)
        self.targets = generator.integers(3, size=12)

    def model(self):
        first = [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()] if self.convolves else []
        return nn.Sequential(*first, nn.Flatten(), nn.Linear(64 if self.convolves else 36, 3))

    def node_data(self, node, num_nodes, time_s=0.0):
        return Examples(self.inputs, self.targets)

    def test_data(self):
        return None


# Opacus's hooks on the first layer, whose inputs need no gradients.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("convolves", [True, False])
def test_a_step_without_noise_is_that_of_opacus(convolves):
    opacus = pytest.importorskip("opacus")
    from opacus.optimizers import DPOptimizer

    task = OneStep(convolves)
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=2)
    member = Member(task.node_data(0, 1), LocalWork(lr=0.5, steps=1, batch_size=5), key=0)
    ours = alone(trainer, sent, member, SampleLevel(0.3, 0.0), 9)

    chosen = poisson_sample(12, 5 / 12, Keystream.seeded(9))
    assert 0 < len(chosen) < 12
    module = task.model()
    arrays = trainer.unpack(sent)
    module.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in arrays.items()})
    theirs = opacus.GradSampleModule(module)
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=0.5),
        noise_multiplier=0.0,
        max_grad_norm=0.3,
        expected_batch_size=5,
    )
    inputs, targets = torch.from_numpy(task.inputs[chosen]), torch.from_numpy(task.targets[chosen])
    nn.functional.cross_entropy(theirs(inputs), targets).backward()
    optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in module.parameters()]).numpy()
    assert np.abs(ours - expected).max() <= 1e-6
    if not convolves:
        stacked = PrivateStack(trainer).train(
            sent, [PrivateMember(member, SampleLevel(0.3, 0.0), Keystream.seeded(9))]
        )
        assert np.abs(stacked[0].view("f4") - expected).max() <= 1e-6


def test_noise_in_a_trained_model_has_the_stated_variance():
    # Inputs of zero and a bias-free layer: gradients are zero, so the model moves by noise alone.
    class Silent(OneStep):
        def model(self):
            return nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False))

    task = Silent(False)
    task.inputs = np.zeros((1000, 1, 6, 6), np.float32)
    task.targets = np.zeros(1000, np.int64)
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=0)
    work = LocalWork(lr=2.0, steps=50, batch_size=100)
    members = [
        PrivateMember(
            Member(task.node_data(0, 1), work, key=node),
            SampleLevel(0.5, 1.5),
            Keystream.seeded("variance", node),
        )
        for node in range(20)
    ]
    moved = PrivateStack(trainer).train(sent, members).view("f4") - sent.view("f4")
    # 50 steps of lr / 100 * N(0, (1.5 * 0.5)^2): variance 50 * (2 / 100 * 0.75)^2.
    squares = (moved.astype(np.float64) ** 2).sum() / (50 * (0.02 * 0.75) ** 2)
    # Chi-square with 20 * 108 degrees of freedom: mean 2160, deviation sqrt(2 * 2160) = 65.7.
    assert abs(squares - 2160) < 5 * 65.7


def test_a_model_that_mixes_examples_is_refused_with_what_to_do():
    class Mixing(OneStep):
        def model(self):
            return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3))

    with pytest.raises(ConfigError, match="GroupNorm"):
        check_private(TorchTrainer(Mixing(False)))
