"""One way to set examples aside for evaluation."""

import numpy as np

from daafl.learning.examples import Examples

EVALUATION_FRACTION = 0.2


def train_test(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """Return the examples shuffled and cut into four fifths and one fifth."""
    order = np.random.default_rng(seed).permutation(len(examples))
    num_held_out = int(len(examples) * EVALUATION_FRACTION)
    return examples.take(order[num_held_out:]), examples.take(order[:num_held_out])
