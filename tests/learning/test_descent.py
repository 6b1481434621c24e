"""Steps of gradient descent against numbers by hand and against torch's own optimiser."""

import pytest
import torch

from daafl.learning.descent import Descent
from daafl.learning.work import LocalWork


def test_proximal_term_pulls_back_to_what_was_sent() -> None:
    # w0 = 1, gradient 2 always, lr .1, mu 1: w1 = 1 - .1 * 2 = .8;
    # w2 = .8 - .1 * (2 + 1 * (.8 - 1)) = .62.
    weight = torch.ones(1)
    descent = Descent([weight], LocalWork(lr=0.1, steps=2, batch_size=1, proximal_mu=1.0))
    descent.step([torch.tensor([2.0])])
    assert weight.item() == pytest.approx(0.8)
    descent.step([torch.tensor([2.0])])
    assert weight.item() == pytest.approx(0.62)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.9, 0.1)])
def test_steps_are_those_of_torch(momentum: float, decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, generator=generator), torch.randn(2, 2, generator=generator)]
    theirs = [weight.clone().requires_grad_() for weight in ours]
    descent = Descent(
        ours, LocalWork(lr=0.3, steps=5, batch_size=1, momentum=momentum, weight_decay=decay)
    )
    optimizer = torch.optim.SGD(theirs, lr=0.3, momentum=momentum, weight_decay=decay)
    for _ in range(5):
        gradients = [torch.randn(weight.shape, generator=generator) for weight in ours]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        descent.step(gradients)
        optimizer.step()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their.detach(), rtol=1e-6, atol=1e-6)


def test_one_gradient_for_two_parameters_is_not_written_to() -> None:
    shared = torch.ones(1)
    weights = [torch.ones(1), torch.ones(1)]
    work = LocalWork(lr=1.0, steps=2, batch_size=1, momentum=0.5, weight_decay=0.5, proximal_mu=1.0)
    descent = Descent(weights, work)
    for _ in range(2):
        descent.step([shared, shared])
    # v1 = 1 + .5 = 1.5, w = -.5; v2 = .75 + 1 - .25 - 1.5 = 0, w = -.5.
    assert [weight.item() for weight in weights] == [-0.5, -0.5]
    assert shared.item() == 1.0


def test_a_parameter_without_gradient_stays() -> None:
    weight = torch.ones(1)
    work = LocalWork(lr=1.0, steps=1, batch_size=1, weight_decay=0.5)
    Descent([weight], work).step([None])
    assert weight.item() == 1.0
