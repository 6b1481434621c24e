import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from daafl.errors import ConfigError, DataError
from daafl.privacy.clipping import AdaptiveClip, clipped
from daafl.privacy.dpsgd import (
    PrivateGradients,
    SampleLevel,
    check_supported,
    with_group_norm,
)
from daafl.privacy.ghost import DenseStack, clipped_sums
from daafl.privacy.keystream import Keystream
from daafl.privacy.local import LocalRandomiser
from daafl.privacy.per_example import clipped_sums as clipped_by_vmap
from daafl.privacy.release import Release

LOSS = functional.cross_entropy


def by_hand(module, inputs, targets, bound):
    """Clipped sums from one backward pass per example."""
    parameters = list(module.parameters())
    sums = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for index in range(len(inputs)):
        loss = LOSS(module(inputs[index : index + 1]), targets[index : index + 1])
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum(g.double().square().sum() for g in gradients))
        factor = min(1.0, bound / (float(norm) + 1e-6))
        for total, gradient in zip(sums, gradients, strict=True):
            total += factor * gradient.double()
    return sums


def batch(generator, *shape, classes=3):
    inputs = torch.randn(*shape, generator=generator)
    return inputs, torch.randint(classes, shape[:2], generator=generator)


@pytest.mark.parametrize("bound", [0.1, 1.0, 1e3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_ghost_clipping_equals_one_backward_pass_per_example(bound, has_bias):
    generator = torch.Generator().manual_seed(0)
    modules = [
        nn.Sequential(nn.Linear(5, 7, bias=has_bias), nn.Tanh(), nn.Linear(7, 3, bias=has_bias))
        for _ in range(4)
    ]
    inputs, targets = batch(generator, 4, 6, 5)
    present = torch.rand(4, 6, generator=generator) < 0.7
    layers = [[module[index] for module in modules] for index in (0, 2)]
    stack = DenseStack(
        [torch.stack([layer.weight.detach() for layer in row]) for row in layers],
        [
            torch.stack([layer.bias.detach() for layer in row]) if has_bias else None
            for row in layers
        ],
        [torch.tanh, None],
    )
    sums = clipped_sums(stack, inputs, targets, loss=LOSS, bound=bound, present=present)
    for node, module in enumerate(modules):
        kept = present[node]
        expected = by_hand(module, inputs[node][kept], targets[node][kept], bound)
        ours = [sums.weights[0][node], sums.weights[1][node]]
        if has_bias:
            ours = [ours[0], sums.biases[0][node], ours[1], sums.biases[1][node]]
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-6)
        other = clipped_by_vmap(
            module, inputs[node][kept], targets[node][kept], loss=LOSS, bound=bound, at_once=4
        )
        for one, two in zip(other, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_an_example_without_a_finite_gradient_counts_for_nothing():
    module = nn.Linear(2, 3)
    inputs = torch.tensor([[1.0, 2.0], [float("inf"), 0.0]])
    targets = torch.tensor([0, 1])
    alone = clipped_by_vmap(module, inputs[:1], targets[:1], loss=LOSS, bound=1.0)
    both = clipped_by_vmap(module, inputs, targets, loss=LOSS, bound=1.0)
    stack = DenseStack([module.weight.detach()[None]], [module.bias.detach()[None]], [None])
    ghost = clipped_sums(stack, inputs[None], targets[None], loss=LOSS, bound=1.0)
    for one, two in zip(alone, both, strict=True):
        assert torch.equal(one, two)
    torch.testing.assert_close(ghost.weights[0][0].double(), alone[0], rtol=1e-6, atol=1e-6)


# Opacus's hooks on the first layer, whose inputs need no gradients.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_gradients_without_noise_equal_those_of_opacus():
    opacus = pytest.importorskip("opacus")
    from opacus.optimizers import DPOptimizer

    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 1, 6, 6, generator=generator)
    targets = torch.randint(3, (8,), generator=generator)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    private = PrivateGradients(module, LOSS, SampleLevel(0.5, 0.0), Keystream.seeded(0))
    ours = private.step(inputs, targets, batch_size=8)
    theirs = opacus.GradSampleModule(module)
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        expected_batch_size=8,
    )
    LOSS(theirs(inputs), targets).backward()
    optimizer.pre_step()
    for one, parameter in zip(ours, theirs.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=0, atol=1e-6)


def test_a_step_without_examples_is_noise_of_the_stated_size():
    module = nn.Linear(100, 100)
    private = PrivateGradients(module, LOSS, SampleLevel(2.0, 1.5), Keystream.seeded(4))
    inputs, targets = torch.zeros(1000, 100), torch.zeros(1000, dtype=torch.int64)
    # A rate of 1/1000: this seed draws at most a few, whose sum has a norm of at most 2 each.
    flat = torch.cat([part.flatten() for part in private.step(inputs, targets, 1)])
    # Noise 1.5 * 2 over an expected batch of 1.
    assert flat.std().item() == pytest.approx(3.0, rel=0.03)
    release = SampleLevel(2.0, 1.5).release(1000, batch_size=1, steps=7)
    assert release == Release(1.5, 7, 0.001, "poisson")


@pytest.mark.parametrize(
    ("layer", "name"),
    [(nn.BatchNorm1d(4), "BatchNorm1d"), (nn.LSTM(4, 4), "LSTM")],
)
def test_layers_that_cannot_be_private_are_named(layer, name):
    with pytest.raises(ConfigError, match=rf"layer '1' \({name}\)"):
        check_supported(nn.Sequential(nn.Linear(4, 4), layer))


def test_batch_norm_can_be_replaced():
    module = with_group_norm(nn.Sequential(nn.Conv2d(1, 48, 3), nn.BatchNorm2d(48)))
    assert module[1].num_groups == 16  # gcd(48, 32)
    check_supported(module)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1), st.floats(1e-3, 1e3))
def test_a_clipped_update_is_within_its_bound(values, bound):
    update = np.array(values, np.float32)
    short, is_within = clipped(update, bound)
    assert np.linalg.norm(short.astype(np.float64)) <= bound
    assert not is_within or short is update


def test_updates_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="NaN"):
        clipped(np.array([np.nan]), 1.0)


def test_an_adaptive_bound_finds_the_quantile():
    # Norms uniform on (0, 10): the 0.7 quantile is 7.
    norms = np.linspace(0, 10, 1001)
    law = AdaptiveClip(quantile=0.7, bit_noise=5.0)
    stream, bound = Keystream.seeded("quantile"), 0.1
    for _ in range(150):
        within = int((norms <= bound).sum())
        share = law.share_within(within, 1001, expected=1001.0, keystream=stream)
        bound = law.next_bound(bound, share)
    assert bound == pytest.approx(7.0, rel=0.03)


def test_bits_and_updates_together_cost_what_was_asked():
    law = AdaptiveClip(bit_noise=3.0)
    z = law.update_noise_multiplier(1.2)
    assert z**-2 + (2 * 3.0) ** -2 == pytest.approx(1.2**-2)
    with pytest.raises(ConfigError, match="too little"):
        law.update_noise_multiplier(6.0)


def test_local_noise_is_scaled_to_twice_the_bound():
    randomiser = LocalRandomiser(bound=0.5, noise_multiplier=3.0)
    update = np.zeros(100_000)
    released = randomiser.randomised(update, Keystream.seeded("local"))
    assert released.std() == pytest.approx(3.0, rel=0.02)
    assert randomiser.release == Release(3.0)
