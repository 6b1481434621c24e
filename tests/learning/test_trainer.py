"""Training and judging: one step by hand, whole trainings against torch, and odd models."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from daafl.errors import ConfigError, DataError
from daafl.learning.batches import batches, spread
from daafl.learning.examples import Examples
from daafl.learning.task import Task
from daafl.learning.trainer import LocalWork, TorchTrainer


class Given(Task):
    """A task around any model, without data."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self.make = make

    def model(self) -> nn.Module:
        return self.make()


class Squares(Given):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs.squeeze(-1), targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"error": (outputs.squeeze(-1) - targets).abs().mean().item()}


def classes(n: int = 37, width: int = 4, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.normal(size=(n, width)).astype(np.float32), rng.integers(0, 3, n))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


ONE_STEP = LocalWork(lr=0.1, steps=1, batch_size=8)


KEY = 7


def test_one_step_by_hand() -> None:
    # w = (1, 2), x = (3, 4), y = 10: output 11, loss (11 - 10)^2 = 1, gradient 2 * 1 * x = (6, 8),
    # so w - .1 * gradient = (.4, 1.2), with output 6 and loss 16.
    trainer = TorchTrainer(Squares(lambda: nn.Linear(2, 1, bias=False)))
    sent = trainer.pack({"weight": np.array([[1, 2]], np.float32)})
    examples = Examples(np.array([[3.0, 4.0]]), np.array([10.0]))
    trained = trainer.train(sent, examples, ONE_STEP, KEY)
    assert trained.loss_before == pytest.approx(1.0)
    assert (trained.num_examples, trained.steps) == (1, 1)
    np.testing.assert_allclose(trainer.unpack(trained.packed)["weight"], [[0.4, 1.2]], rtol=1e-6)
    assert trainer.evaluate(trained.packed, examples) == pytest.approx({"loss": 16.0, "error": 4.0})
    assert trainer.unpack(sent)["weight"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "work",
    [
        LocalWork(lr=0.2, steps=12, batch_size=8),
        LocalWork(lr=0.2, steps=12, batch_size=100),
        LocalWork(lr=0.1, steps=12, batch_size=8, momentum=0.9, weight_decay=0.01),
        LocalWork(lr=0.1, steps=12, batch_size=8, proximal_mu=0.5),
    ],
)
def test_a_training_is_that_of_torch(work: LocalWork) -> None:
    examples = classes()
    trainer = TorchTrainer(Given(perceptron))
    sent = trainer.initial(seed=3)
    trained = trainer.train(sent, examples, work, KEY)

    module = perceptron()
    state = {name: torch.from_numpy(a.copy()) for name, a in trainer.unpack(sent).items()}
    module.load_state_dict(state)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=work.lr, momentum=work.momentum, weight_decay=work.weight_decay
    )
    inputs, targets = torch.from_numpy(examples.inputs), torch.from_numpy(examples.targets)
    with torch.no_grad():
        loss_before = functional.cross_entropy(module(inputs), targets).item()
    for batch in batches(37, batch_size=work.batch_size, steps=12, key=KEY):
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(inputs[batch]), targets[batch])
        for name, parameter in module.named_parameters():
            loss = loss + work.proximal_mu / 2 * ((parameter - state[name]) ** 2).sum()
        loss.backward()
        optimizer.step()

    assert trained.loss_before == pytest.approx(loss_before, rel=1e-6)
    for name, array in trainer.unpack(trained.packed).items():
        np.testing.assert_allclose(array, module.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_batch_normalisation_travels_with_its_counter() -> None:
    trainer = TorchTrainer(Squares(lambda: nn.BatchNorm1d(1)))
    examples = Examples(np.array([[1.0], [3.0]]), np.zeros(2))
    work = LocalWork(lr=0.0, steps=2, batch_size=8)
    trained = trainer.train(trainer.initial(0), examples, work, KEY)
    arrays = trainer.unpack(trained.packed)
    # Batch mean 2 and unbiased variance 2; momentum .1 from mean 0 and variance 1, twice:
    # mean .2, then .38; variance .9 + .2 = 1.1, then .99 + .2 = 1.19. Judging adds no step.
    assert arrays["num_batches_tracked"] == 2
    assert arrays["running_mean"][0] == pytest.approx(0.38)
    assert arrays["running_var"][0] == pytest.approx(1.19)
    again = trainer.train(trained.packed, examples, work, KEY)
    assert trainer.unpack(again.packed)["num_batches_tracked"] == 4


def test_evaluation_uses_running_statistics_and_changes_nothing() -> None:
    trainer = TorchTrainer(Squares(lambda: nn.BatchNorm1d(1)))
    packed = trainer.initial(0)
    examples = Examples(np.array([[2.0], [4.0]]), np.zeros(2))
    # Running mean 0 and variance 1 leave inputs alone but for the 1e-5 in the denominator.
    assert trainer.evaluate(packed, examples)["loss"] == pytest.approx(10.0, rel=1e-4)
    assert trainer.evaluate(packed, examples) == trainer.evaluate(packed, examples)


def test_evaluation_weights_batches_by_their_size() -> None:
    examples = classes(1500)
    trainer = TorchTrainer(Given(perceptron))
    packed = trainer.initial(0)
    arrays = trainer.unpack(packed)
    hidden = np.maximum(examples.inputs @ arrays["0.weight"].T + arrays["0.bias"], 0)
    logits = (hidden @ arrays["2.weight"].T + arrays["2.bias"]).astype(np.float64)
    log_sums = np.log(np.exp(logits).sum(1))
    loss = (log_sums - logits[np.arange(1500), examples.targets]).mean()
    accuracy = (logits.argmax(1) == examples.targets).mean()
    figures = trainer.evaluate(packed, examples)
    assert figures == pytest.approx({"loss": loss, "accuracy": accuracy}, rel=1e-5)
    assert all(type(value) is float for value in figures.values())


def test_the_loss_before_is_measured_on_half_as_many_examples_as_are_trained_on() -> None:
    trainer = TorchTrainer(Squares(lambda: nn.Linear(1, 1, bias=False)))
    sent = trainer.pack({"weight": np.zeros((1, 1), np.float32)})
    # Sorted data: evenly spread over 1,024 squares are every second, every eighth, and so on.
    targets = np.arange(1024.0) // 2
    examples = Examples(np.ones((1024, 1)), targets)
    for steps, batch_size, every in ((64, 32, 2), (16, 16, 8), (1, 1, 32)):
        work = LocalWork(lr=0.0, steps=steps, batch_size=batch_size)
        trained = trainer.train(sent, examples, work, KEY)
        assert trained.loss_before == pytest.approx((targets[::every] ** 2).mean(), rel=1e-5)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_losses_are_those_of_single_examples() -> None:
    trainer = TorchTrainer(Given(perceptron))
    packed, examples = trainer.initial(seed=1), classes(n=700)
    losses = trainer.losses(packed, examples)
    chosen = [i * 700 // 512 for i in range(512)]  # at most 512, evenly spread
    single = [trainer.evaluate(packed, examples.take(np.array([i])))["loss"] for i in chosen]
    assert losses == pytest.approx(single, rel=1e-5)
    assert losses.dtype == np.float64


class Pair(nn.Module):
    """A model with two outputs in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": self.body(inputs), "twice": 2 * self.body(inputs)}


class FromPair(Given):
    def loss(self, outputs: dict[str, Tensor], targets: Tensor) -> Tensor:  # type: ignore[override]
        return functional.cross_entropy(outputs["logits"], targets)


def test_losses_of_models_with_other_outputs_than_a_tensor() -> None:
    trainer, plain = TorchTrainer(FromPair(Pair)), TorchTrainer(Given(lambda: nn.Linear(4, 3)))
    packed = trainer.initial(seed=1)
    expected = plain.losses(packed, classes())  # the same layers under other names
    assert trainer.losses(packed, classes()) == pytest.approx(expected, rel=1e-6)


def test_an_untrained_model_is_always_the_same() -> None:
    trainer = TorchTrainer(Given(perceptron))
    trainer.train(trainer.initial(3), classes(), ONE_STEP, KEY)
    assert np.array_equal(trainer.untrained, TorchTrainer(Given(perceptron)).untrained)


def test_a_training_depends_on_its_arguments_alone() -> None:
    trainer = TorchTrainer(Given(Noisy))
    sent = trainer.initial(0)
    work = LocalWork(lr=0.1, steps=5, batch_size=8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trainer.train(sent, classes(), work, KEY)
    assert torch.equal(torch.get_rng_state(), before)
    trainer.train(first.packed, classes(seed=1), work, key=1)
    torch.rand(10)
    again = trainer.train(sent, classes(), work, KEY)
    other = trainer.train(sent, classes(), work, key=8)
    assert again.packed.tobytes() == first.packed.tobytes()
    assert other.packed.tobytes() != first.packed.tobytes()
    # Dropout is off when the model that came in is judged.
    judged = classes().take(spread(37, work.judged_examples))
    assert first.loss_before == pytest.approx(trainer.evaluate(sent, judged)["loss"], rel=1e-6)


def test_initial_values_depend_on_the_seed_alone() -> None:
    trainer = TorchTrainer(Given(perceptron))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trainer.initial(0)
    assert torch.equal(torch.get_rng_state(), before)
    trainer.train(first, classes(), ONE_STEP, KEY)
    assert trainer.initial(0).tobytes() == first.tobytes()
    assert trainer.initial(1).tobytes() != first.tobytes()
    torch.manual_seed(0)
    expected = perceptron().state_dict()
    for name, array in trainer.unpack(first).items():
        np.testing.assert_array_equal(array, expected[name])


def test_probes_end_where_trainings_end() -> None:
    trainer = TorchTrainer(Given(perceptron))
    sent = trainer.initial(0)
    work = LocalWork(lr=0.5, steps=6, batch_size=8)
    expected = []
    for lr in (0.0, 0.01, 0.3):
        settings = LocalWork(lr=lr, steps=6, batch_size=8)
        trained = trainer.train(sent, classes(), settings, KEY)
        expected.append(math.log(trainer.evaluate(trained.packed, classes())["loss"]))
    before = sent.copy()
    probed = trainer.probe(sent, classes(), (0.0, 0.01, 0.3, 1e30), work, KEY)
    assert probed[:3] == pytest.approx(expected, rel=1e-5)
    assert probed[3] == math.log(1e3)
    np.testing.assert_array_equal(sent, before)


@pytest.mark.parametrize(("weight", "loss"), [(1e30, math.inf), (math.nan, math.nan)])
def test_a_loss_that_is_not_finite_is_reported(weight: float, loss: float) -> None:
    trainer = TorchTrainer(Squares(lambda: nn.Linear(1, 1, bias=False)))
    sent = trainer.pack({"weight": np.array([[weight]], np.float32)})
    examples = Examples(np.ones((4, 1)), np.zeros(4))
    trained = trainer.train(sent, examples, ONE_STEP, KEY)
    assert trained.loss_before == pytest.approx(loss, nan_ok=True)
    assert trainer.evaluate(sent, examples)["loss"] == pytest.approx(loss, nan_ok=True)
    assert trainer.probe(sent, examples, (0.0,), ONE_STEP, KEY) == (math.log(1e3),)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4, bias=False)
        self.down = nn.Linear(4, 4, bias=False)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(x)))


def test_tied_parameters_get_both_gradients() -> None:
    trainer = TorchTrainer(Given(Tied))
    sent = trainer.initial(0)
    weight = torch.from_numpy(trainer.unpack(sent)["up.weight"].copy()).requires_grad_()
    examples = classes(6)
    outputs = torch.tanh(torch.from_numpy(examples.inputs) @ weight.T) @ weight.T
    functional.cross_entropy(outputs, torch.from_numpy(examples.targets)).backward()
    arrays = trainer.unpack(trainer.train(sent, examples, ONE_STEP, KEY).packed)
    np.testing.assert_allclose(
        arrays["up.weight"], (weight - 0.1 * weight.grad).detach(), rtol=1e-5, atol=1e-6
    )
    assert arrays["down.weight"] is arrays["up.weight"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_models_of_other_float_types_train(dtype: torch.dtype) -> None:
    trainer = TorchTrainer(Given(lambda: perceptron().to(dtype)))
    sent = trainer.initial(0)
    work = LocalWork(lr=0.5, steps=30, batch_size=37)
    trained = trainer.train(sent, classes(), work, KEY)
    assert {entry.dtype for entry in trainer.layout.entries} == {str(dtype).split(".")[1]}
    assert trainer.evaluate(trained.packed, classes())["loss"] < trained.loss_before


class Partly(nn.Module):
    """A frozen layer, a used one, and one that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.used = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(self.frozen(x))


def test_parameters_without_gradient_stay() -> None:
    trainer = TorchTrainer(Given(Partly))
    sent = trainer.initial(0)
    work = LocalWork(lr=0.1, steps=3, batch_size=8, weight_decay=0.1, momentum=0.5)
    before = trainer.unpack(sent)
    after = trainer.unpack(trainer.train(sent, classes(), work, KEY).packed)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"used.weight", "used.bias"}


def test_sparse_gradients_train() -> None:
    trainer = TorchTrainer(
        Given(lambda: nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Flatten()))
    )
    sent = trainer.initial(0)
    work = LocalWork(lr=0.1, steps=2, batch_size=4, momentum=0.5, weight_decay=0.1, proximal_mu=0.1)
    examples = Examples(np.array([[0], [1]], np.int32), np.array([0, 1], np.uint8))
    trained = trainer.train(sent, examples, work, KEY)
    assert trainer.evaluate(trained.packed, examples)["loss"] < trained.loss_before


def test_inputs_of_any_kind_are_taken() -> None:
    trainer = TorchTrainer(Given(perceptron))
    sent = trainer.initial(0)
    examples = classes()
    frozen = examples.inputs.copy()
    frozen.flags.writeable = False
    kinds = [
        Examples(examples.inputs.astype(np.float64), examples.targets.astype(np.int32)),
        Examples(frozen, examples.targets.astype(np.uint8)),
        Examples(examples.inputs[::-1][::-1], examples.targets.tolist()),
        Examples(torch.from_numpy(examples.inputs), torch.from_numpy(examples.targets)),
    ]
    expected = trainer.train(sent, examples, ONE_STEP, KEY).packed.tobytes()
    for kind in kinds:
        assert trainer.train(sent, kind, ONE_STEP, KEY).packed.tobytes() == expected


@pytest.mark.parametrize(
    ("make", "examples", "sentence"),
    [
        (
            perceptron,
            Examples(np.zeros((2, 5)), np.zeros(2, int)),
            r"the model of task 'Given' failed on inputs float32\[2, 5\]: mat1 and mat2",
        ),
        (
            perceptron,
            Examples(np.zeros((2, 4)), np.full(2, 3)),
            r"loss\(\) of task 'Given' failed on outputs float32\[2, 3\] and targets int64\[2\]: "
            "Target 3 is out of bounds",
        ),
        (
            perceptron,
            Examples(np.zeros((2, 4)), np.zeros((2, 7), int)),
            r"failed on outputs float32\[2, 3\] and targets int64\[2, 7\]",
        ),
        (perceptron, Examples(np.zeros((0, 4)), np.zeros(0)), "got no examples"),
        (
            perceptron,
            Examples(np.array([["a"]]), np.zeros(1)),
            "inputs of task 'Given' have number type <U1",
        ),
        (
            lambda: nn.LSTM(4, 3, batch_first=True),
            Examples(np.zeros((2, 1, 4)), np.zeros(2, int)),
            "failed on outputs tuple",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(
    make: Callable[[], nn.Module], examples: Examples, sentence: str
) -> None:
    trainer = TorchTrainer(Given(make))
    sent = trainer.initial(0)
    with pytest.raises(DataError, match=sentence):
        trainer.train(sent, examples, ONE_STEP, KEY)
    with pytest.raises(DataError, match=sentence):
        trainer.evaluate(sent, examples)


class Unreduced(Given):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")


class Constant(Given):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.tensor(1.0)


class BadMetrics(Given):
    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"accuracy": outputs}  # type: ignore[dict-item]


def test_losses_and_metrics_of_wrong_kind_are_named() -> None:
    for task, sentence in (
        (Unreduced(perceptron), r"returned float32\[32\]; it must return a scalar"),
        (Constant(perceptron), "does not depend on the model's parameters"),
    ):
        trainer = TorchTrainer(task)
        with pytest.raises(DataError, match=sentence):
            trainer.train(trainer.initial(0), classes(), ONE_STEP, KEY)
    trainer = TorchTrainer(BadMetrics(perceptron))
    with pytest.raises(DataError, match=r"metrics\(\) of task 'BadMetrics' failed"):
        trainer.evaluate(trainer.initial(0), classes())


def test_models_that_cannot_be_trained_or_sent_are_named() -> None:
    with pytest.raises(ConfigError, match="returned str; it must return a torch"):
        TorchTrainer(Given(lambda: "model"))  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigError, match="no trainable parameter"):
        TorchTrainer(Given(nn.Flatten))
    shared = perceptron()
    with pytest.raises(ConfigError, match="returned the same model twice"):
        TorchTrainer(Given(lambda: shared)).initial(0)
    widths = iter((3, 4))
    with pytest.raises(ConfigError, match="different shapes"):
        TorchTrainer(Given(lambda: nn.Linear(next(widths), 1))).initial(0)


class Views(nn.Module):
    """Calls ``view`` on what a convolution returns, which asks for a certain order in memory."""

    def __init__(self, as_view: bool) -> None:
        super().__init__()
        self.as_view = as_view
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(4 * 3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.conv(x))), 2)
        return self.out(self.drop(x.view(x.size(0), -1) if self.as_view else x.flatten(1)))


def images(n: int = 37) -> Examples:
    rng = np.random.default_rng(3)
    return Examples(rng.normal(size=(n, 2, 6, 6)).astype(np.float32), rng.integers(0, 3, n))


def test_the_order_of_images_in_memory_is_the_models_choice() -> None:
    work = LocalWork(lr=0.1, steps=6, batch_size=8)
    seen, outcomes = [], []
    for as_view in (False, True):
        trainer = TorchTrainer(Given(lambda as_view=as_view: Views(as_view)))
        sent = trainer.initial(0)
        module = trainer.loaded(sent)
        hook = lambda _, given: seen.append(given[0].is_contiguous())  # noqa: E731
        handle = module.conv.register_forward_pre_hook(hook)
        trained = trainer.train(sent, images(), work, KEY)
        handle.remove()
        outcomes.append(trained)
        # Whatever was found out about the model on the way left no trace in it.
        assert trainer.train(sent, images(), work, KEY).packed.tobytes() == trained.packed.tobytes()
        assert trainer.unpack(trained.packed)["norm.num_batches_tracked"] == 6
    assert seen[-7:] == [True] * 7
    assert seen[:7] == [False] * 7
    first, second = (trainer.layout.vector(outcome.packed) for outcome in outcomes)
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert outcomes[0].loss_before == pytest.approx(outcomes[1].loss_before, rel=1e-6)


def test_a_training_of_images_is_that_of_torch() -> None:
    trainer = TorchTrainer(Given(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten())))
    sent = trainer.initial(0)
    examples = Examples(images().inputs[:, :, :3, :3], np.arange(37) % 4)
    trained = trainer.train(sent, examples, LocalWork(lr=0.2, steps=1, batch_size=37), KEY)
    arrays = {n: torch.from_numpy(a.copy()) for n, a in trainer.unpack(sent).items()}
    weight, bias = (arrays[name].requires_grad_() for name in ("0.weight", "0.bias"))
    inputs, targets = torch.from_numpy(examples.inputs), torch.from_numpy(examples.targets)
    outputs = functional.conv2d(inputs.contiguous(), weight, bias).flatten(1)
    functional.cross_entropy(outputs, targets).backward()
    after = trainer.unpack(trained.packed)
    for name, start in (("0.weight", weight), ("0.bias", bias)):
        expected = (start - 0.2 * start.grad).detach()
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)
