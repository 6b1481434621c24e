"""Whether an observer can tell who was trained on: less, the smaller epsilon is."""

import numpy as np
import pytest
from torch import nn

from daafl.learning.examples import Examples
from daafl.learning.member import Member
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.guarantee import SamplePrivacy
from daafl.privacy.keystream import Keystream

EXAMPLES, STEPS, BATCH = 60, 200, 30


class RandomLabels(Task):
    """Nothing but the examples themselves can be learned."""

    name = "random_labels"

    def model(self):
        return nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 2))

    def node_data(self, node, num_nodes, time_s=0.0):
        generator = np.random.default_rng(node)
        inputs = generator.normal(size=(EXAMPLES, 40)).astype(np.float32)
        return Examples(inputs, generator.integers(2, size=EXAMPLES))

    def test_data(self):
        return None


def advantage(epsilon):
    """Largest true positive less false positive rate of a threshold on the loss (Yeom 2018)."""
    task = RandomLabels()
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=0)
    privacy, noise = SamplePrivacy(epsilon=8.0), 0.0
    if epsilon is not None:
        privacy = SamplePrivacy(epsilon=epsilon, steps=STEPS)
        release = privacy.release(EXAMPLES, batch_size=BATCH, steps=STEPS)
        noise = release.noise_multiplier
    work = LocalWork(lr=1.0, steps=STEPS, batch_size=BATCH)
    members = [
        PrivateMember(
            Member(task.node_data(node, 8), work, node),
            SampleLevel(privacy.bound, noise),
            Keystream.seeded("membership", str(epsilon), node),
        )
        for node in range(8)
    ]
    rows = PrivateStack(trainer).train(sent, members)
    inside = [trainer.losses(row, task.node_data(node, 8)) for node, row in enumerate(rows)]
    outside = [trainer.losses(row, task.node_data(node + 100, 8)) for node, row in enumerate(rows)]
    trained, fresh = np.concatenate(inside), np.concatenate(outside)
    bars = np.quantile(np.concatenate([trained, fresh]), np.linspace(0.05, 0.95, 37))
    return max((trained <= bar).mean() - (fresh <= bar).mean() for bar in bars)


@pytest.mark.slow
def test_membership_is_harder_to_tell_with_a_smaller_epsilon():
    # Labels are random, so only what was trained on can be known; 480 examples on either side, so
    # that a share is known to about 0.03, and the best of 37 thresholds to a little more.
    clipped_only, weak, strong = advantage(None), advantage(8.0), advantage(1.0)
    assert clipped_only > 0.5
    assert weak < clipped_only - 0.1
    assert strong < weak
    assert strong < 0.15
