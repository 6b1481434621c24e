"""Federated averaging with FedJAX, on as many threads as JAX takes by itself."""

from __future__ import annotations

from typing import Any

import fedjax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from _job import job, stamp
from _work import LR, NUM_CLASSES, Floats, Work
from numpy.typing import NDArray


def forward(batch: dict[str, Any]) -> Any:
    """Return the outputs of the model of a work; images have their channel last."""
    if batch["x"].ndim == 2:
        return hk.Sequential([hk.Linear(64), jax.nn.relu, hk.Linear(NUM_CLASSES)])(batch["x"])
    layers = [
        hk.Conv2D(6, 5, padding="SAME"),
        jax.nn.relu,
        hk.MaxPool(2, 2, "VALID"),
        hk.Conv2D(16, 5, padding="VALID"),
        jax.nn.relu,
        hk.MaxPool(2, 2, "VALID"),
        hk.Flatten(),
        hk.Linear(120),
        jax.nn.relu,
        hk.Linear(84),
        jax.nn.relu,
        hk.Linear(NUM_CLASSES),
    ]
    return hk.Sequential(layers)(batch["x"])


def loss(batch: dict[str, Any], outputs: Any) -> Any:
    """Return the cross entropy of every example."""
    return -jnp.sum(jax.nn.one_hot(batch["y"], NUM_CLASSES) * jax.nn.log_softmax(outputs), -1)


def to_haiku(weights: list[Floats], names: list[str]) -> dict[str, dict[str, Any]]:
    """Return PyTorch's weights in Haiku's order of axes."""
    made = {}
    for position, name in enumerate(names):
        weight, bias = weights[2 * position : 2 * position + 2]
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)
        elif weight.shape[1] == 400:  # behind the convolutions: channels first there, last here
            weight = weight.reshape(-1, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, -1)
        else:
            weight = weight.T
        made[name] = {"w": jnp.asarray(weight), "b": jnp.asarray(bias)}
    return made


def to_torch(parameters: Any, names: list[str]) -> list[Floats]:
    """Return Haiku's weights in PyTorch's order of axes."""
    made = []
    for name in names:
        weight: NDArray[np.float32] = np.asarray(parameters[name]["w"])
        if weight.ndim == 4:
            weight = weight.transpose(3, 2, 0, 1)
        elif weight.shape[0] == 400:
            weight = weight.reshape(5, 5, 16, -1).transpose(3, 2, 0, 1).reshape(-1, 400)
        else:
            weight = weight.T
        made += [weight, np.asarray(parameters[name]["b"])]
    return made


def layers_of(work: Work) -> list[str]:
    """Return Haiku's names of the layers with weights."""
    if len(work.shape) == 1:
        return ["linear", "linear_1"]
    return ["conv2_d", "conv2_d_1", "linear", "linear_1", "linear_2"]


def main() -> None:
    """Do the job of the command line."""
    given = job()
    work, data = given.work, given.data
    inputs = np.moveaxis(data.inputs, 1, -1) if len(work.shape) == 3 else data.inputs
    pairs = zip(data.clients(inputs), data.clients(data.targets.astype(np.int32)), strict=True)
    federation = fedjax.InMemoryFederatedData(
        {f"{client}".encode(): {"x": x, "y": y} for client, (x, y) in enumerate(pairs)}
    )
    example = {"x": jnp.asarray(inputs[:1]), "y": jnp.zeros((1,), jnp.int32)}
    model = fedjax.create_model_from_haiku(hk.transform(forward), example, loss, {})
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        fedjax.model_grad(model),
        fedjax.optimizers.sgd(LR),
        fedjax.optimizers.sgd(1.0),
        fedjax.ShuffleRepeatBatchHParams(batch_size=work.batch, num_epochs=1),
    )
    names = layers_of(work)
    state = algorithm.init(to_haiku(data.weights, names))
    sampler = fedjax.client_samplers.UniformGetClientSampler(federation, work.cohort, given.seed)
    stamps = [stamp()]
    for _ in range(given.rounds):
        state, _ = algorithm.apply(state, sampler.sample())
        jax.block_until_ready(state.params)
        stamps.append(stamp())
    given.finish(stamps, to_torch(state.params, names))


if __name__ == "__main__":
    main()
