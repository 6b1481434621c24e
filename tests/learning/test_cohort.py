"""Training of many members against training of each, and what makes it fall back."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from daafl.errors import ConfigError, DataError
from daafl.learning import Examples, LocalWork, Task
from daafl.learning.choice import Choice, Method
from daafl.learning.chunk import chunk
from daafl.learning.cohort import CohortTrainer, Member
from daafl.learning.computation import Computation
from daafl.learning.workspace import Workspace

BATCHED: tuple[Method, ...] = ("dense", "functional")


class Given(Task):
    """A task around any model."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self.make = make

    def model(self) -> nn.Module:
        return self.make()


class Squares(Given):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs[:, 0], targets.to(outputs.dtype))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh())


def member(node: int, n: int, width: int = 6, **settings: float) -> Member:
    rng = np.random.default_rng(node)
    examples = Examples(rng.normal(size=(n, width)).astype(np.float32), rng.integers(0, 5, n))
    work = {"lr": 0.3, "steps": 4, "batch_size": 4} | settings
    return Member(examples, LocalWork(**work), key=node)  # type: ignore[arg-type]


def ragged() -> list[Member]:
    """Members that differ in everything there is."""
    return [
        member(0, 7),
        member(1, 1, steps=2, lr=0.1),
        member(2, 23, steps=9, momentum=0.9, lr=0.05),
        member(3, 40, batch_size=16, weight_decay=0.01),
        member(4, 5, steps=6, proximal_mu=0.5),
        member(5, 12, steps=1, batch_size=3, momentum=0.5, proximal_mu=0.1, weight_decay=0.1),
        member(6, 600, batch_size=30, lr=0.0),
        member(7, 9, steps=30, batch_size=2),
    ]


def plain() -> list[Member]:
    return [member(node, 3 + 5 * node, steps=1 + node % 4, lr=0.1 * node) for node in range(9)]


def one_by_one(
    trainer: CohortTrainer, packed: np.ndarray, members: Sequence[Member]
) -> tuple[np.ndarray, np.ndarray]:
    done = [trainer.trainer.train(packed, m.examples, m.work, m.key) for m in members]
    vectors = np.stack([trainer.trainer.layout.vector(trained.packed) for trained in done])
    return vectors, np.array([trained.loss_before for trained in done])


def vectors(trainer: CohortTrainer, rows: np.ndarray) -> np.ndarray:
    return np.stack([trainer.trainer.layout.vector(row) for row in rows])


def averaged(trainer: CohortTrainer, models: np.ndarray, members: Sequence[Member]) -> np.ndarray:
    mean = np.average(models, axis=0, weights=[len(m.examples) for m in members])
    layout = trainer.trainer.layout
    return layout.packed(mean.astype(layout.dtype)).copy()


@pytest.mark.parametrize("method", BATCHED)
@pytest.mark.parametrize("members", [ragged(), plain()], ids=["ragged", "plain"])
def test_three_rounds_of_averaging_are_those_of_single_trainings(
    method: Method, members: list[Member]
) -> None:
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu")
    batched = single = trainer.trainer.initial(0)
    start = single.copy()
    for _ in range(3):
        trained = trainer.train(batched, members)
        expected, losses = one_by_one(trainer, single, members)
        np.testing.assert_allclose(vectors(trainer, trained.packed), expected, atol=1e-6)
        np.testing.assert_allclose(trained.loss_before, losses, rtol=1e-5)
        batched = averaged(trainer, vectors(trainer, trained.packed), members)
        single = averaged(trainer, expected, members)
    assert trained.num_examples.tolist() == [len(m.examples) for m in members]
    assert trained.steps.tolist() == [m.work.steps for m in members]
    moved = trainer.trainer.layout.vector(single) - trainer.trainer.layout.vector(start)
    assert np.abs(moved).max() > 0.02


@pytest.mark.parametrize("method", BATCHED)
def test_the_sent_model_stays_even_with_one_member(method: Method) -> None:
    # A stack of one that is a view of the sent model would be trained in place, and the model with
    # it; so the second training of the same message would start elsewhere.
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu")
    sent = trainer.trainer.initial(0)
    before = sent.copy()
    first = trainer.train(sent, [member(3, 10)])
    assert np.array_equal(sent, before)
    computation = Computation(trainer.trainer, torch.device("cpu"), torch.float32)
    weights = {
        name: value.detach() for name, value in trainer.trainer.loaded(sent).named_parameters()
    }
    work = chunk([member(3, 10)], trainer.trainer.judge, torch.device("cpu"), Workspace())
    stacks = computation.stack(method).train(weights, work)
    assert not np.array_equal(stacks["1.weight"][0].detach(), weights["1.weight"])
    assert np.array_equal(
        trainer.trainer.layout.pack({n: w.numpy() for n, w in weights.items()}), sent
    )
    again = trainer.train(sent, [member(3, 10)])
    assert np.array_equal(first.packed, again.packed)
    assert not np.array_equal(first.packed[0], before)
    delta = trainer.summed(sent, [member(3, 10)]).delta
    moved = vectors(trainer, first.packed)[0] - trainer.trainer.layout.vector(before)
    np.testing.assert_allclose(delta, moved, atol=1e-6)


class TwoBiases(nn.Module):
    """The two biases are added, so autograd hands out one gradient for both."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5, bias=False)
        self.left, self.right = nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + (self.left + self.right)


def test_gradients_that_are_one_tensor_are_not_written_to() -> None:
    # In place, weight decay and the proximal term of one bias would be added to the other's, too.
    settings = {"steps": 3, "weight_decay": 0.5, "proximal_mu": 0.5, "momentum": 0.5}
    members = [member(node, 8, **settings) for node in range(3)]
    trainer = CohortTrainer(Given(TwoBiases), method="functional", device="cpu")
    sent = trainer.trainer.initial(0)
    expected, _ = one_by_one(trainer, sent, members)
    trained = vectors(trainer, trainer.train(sent, members).packed)
    np.testing.assert_allclose(trained, expected, atol=1e-6)


@pytest.mark.parametrize("method", BATCHED)
def test_chunks_make_no_difference(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [member(node, 8 + node, steps=1 + node % 5) for node in range(20)]
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu")
    sent = trainer.trainer.initial(0)
    whole = trainer.train(sent, members).packed
    backwards = trainer.train(sent, members[::-1]).packed[::-1]
    monkeypatch.setattr("daafl.learning.computation.MOST_MEMBERS", 3)
    assert trainer.chunk_size == 3
    parts = trainer.train(sent, members).packed
    if method == "dense":
        assert np.array_equal(parts, whole)
        assert np.array_equal(backwards, whole)
    np.testing.assert_allclose(vectors(trainer, parts), vectors(trainer, whole), atol=1e-6)


@pytest.mark.parametrize("method", [*BATCHED, "eager"])
def test_a_sum_is_the_weighted_mean_of_the_rows(method: Method) -> None:
    members = ragged()
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu")
    sent = trainer.trainer.initial(0)
    trained = trainer.train(sent, members)
    weights = trained.num_examples / trained.num_examples.sum()
    mean = weights @ vectors(trainer, trained.packed).astype(np.float64)
    together = trainer.summed(sent, members)
    np.testing.assert_allclose(
        together.delta, mean - trainer.trainer.layout.vector(sent), atol=1e-6
    )
    assert together.delta.dtype == np.float32
    assert together.num_examples == 697
    assert together.loss == pytest.approx(float(weights @ trained.loss_before))
    assert together.steps.tolist() == trained.steps.tolist()


class Partly(nn.Module):
    """A frozen layer, a used one, one that takes no part, a buffer, and a number by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.used, self.unused = nn.Linear(6, 5), nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.full((5,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(self.frozen(x)) * self.scale + self.shift


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    module[2].weight = module[0].weight
    return module


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 5)
    )


@pytest.mark.parametrize(
    "task",
    [Given(Partly), Given(tied), Given(convolutional), Squares(perceptron)],
    ids=["partly", "tied", "convolutional", "own loss"],
)
def test_models_of_other_kinds_are_batched_too(task: Task) -> None:
    trainer = CohortTrainer(task, method="functional", device="cpu")
    sent = trainer.trainer.initial(0)
    expected, losses = one_by_one(trainer, sent, ragged())
    trained = trainer.train(sent, ragged())
    np.testing.assert_allclose(vectors(trainer, trained.packed), expected, atol=1e-6)
    np.testing.assert_allclose(trained.loss_before, losses, rtol=1e-5)
    delta = trainer.summed(sent, ragged()).delta
    mean = np.average(expected, axis=0, weights=[len(m.examples) for m in ragged()])
    np.testing.assert_allclose(delta, mean - trainer.trainer.layout.vector(sent), atol=1e-6)


def test_models_in_double_precision_stay_in_it() -> None:
    task = Given(lambda: perceptron().double())
    trainer = CohortTrainer(task, method="functional", device="cpu")
    sent = trainer.trainer.initial(0)
    expected, _ = one_by_one(trainer, sent, ragged())
    trained = vectors(trainer, trainer.train(sent, ragged()).packed)
    np.testing.assert_allclose(trained, expected, atol=1e-13)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if float(x.mean()) > 0 else self.body(-x)


class Counting(nn.Module):
    """Writes a buffer, which the batched computation does not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return self.body(x)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(x), x


class OfPairs(Given):
    def loss(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:  # type: ignore[override]
        return functional.cross_entropy(outputs[0], targets)


class Largest(Given):
    """Not a mean over examples: the largest loss of a batch."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none").max()


def with_(layer: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(6, 5), layer)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Given(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))), "statistics"),
        (Given(lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))), "random"),
        (Given(Branching), "functional cannot train it"),
        (Given(Counting), "writes to the buffer 'calls'"),
        (OfPairs(Pair), "its output is not one tensor"),
        (Largest(perceptron), "its models differ from those of single trainings"),
    ],
    ids=["batch norm", "dropout", "control flow", "buffer", "two outputs", "no mean"],
)
def test_what_cannot_be_batched_is_trained_one_by_one_and_says_why(task: Task, reason: str) -> None:
    members = [member(node, 8 + node) for node in range(5)]
    trainer = CohortTrainer(task, device="cpu")
    sent = trainer.trainer.initial(0)
    choice = trainer.choose(sent, members)
    assert choice.method == "eager"
    assert reason in choice.reason
    assert set(choice.seconds) == {"eager"}
    expected, losses = one_by_one(trainer, sent, members)
    trained = trainer.train(sent, members)
    np.testing.assert_array_equal(vectors(trainer, trained.packed), expected)
    np.testing.assert_array_equal(trained.loss_before, losses)


def test_the_fastest_of_the_right_ones_is_chosen_and_kept() -> None:
    members = [member(node, 20) for node in range(40)]
    trainer = CohortTrainer(Given(perceptron), device="cpu")
    sent = trainer.trainer.initial(0)
    trained = trainer.train(sent, members)  # chooses
    choice = trainer.choice
    assert choice is not None
    assert set(choice.seconds) == {"eager", "dense"}
    assert choice.method == min(choice.seconds, key=choice.seconds.__getitem__) == "dense"
    resumed = CohortTrainer(Given(perceptron), device="cpu")
    resumed.load(Choice.from_json(choice.to_json()))
    assert np.array_equal(resumed.train(sent, members).packed, trained.packed)


def test_amplified_rounding_is_tolerated_and_reported() -> None:
    # Steps far too large: the weights jump about, and differences of 1e-7 grow with every step.
    members = [member(node, 40, steps=60, lr=8.0) for node in range(4)]
    trainer = CohortTrainer(Given(perceptron), device="cpu")
    choice = trainer.choose(trainer.trainer.initial(0), members)
    assert "amplifies rounding" in choice.reason
    assert "dense" in choice.seconds


@pytest.mark.parametrize("method", BATCHED)
def test_members_that_do_not_go_together_are_trained_one_by_one(method: Method) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(1, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.mean(1, keepdim=True))

    make = perceptron if method == "dense" else Pooled
    widths = (6, 6) if method == "dense" else (6, 4)
    members = [member(node, 9, width) for node, width in enumerate(widths)]
    if method == "dense":  # cross entropy leaves examples of class -100 out
        np.asarray(members[1].examples.targets)[:3] = -100
    trainer = CohortTrainer(Given(make), method=method, device="cpu")
    sent = trainer.trainer.initial(0)
    expected, losses = one_by_one(trainer, sent, members)
    trained = trainer.train(sent, members)
    np.testing.assert_array_equal(vectors(trainer, trained.packed), expected)
    np.testing.assert_array_equal(trained.loss_before, losses)


def test_classes_are_checked_on_examples_that_no_loss_is_measured_on() -> None:
    long = member(0, 600)
    unjudged = sorted(set(range(600)) - {i * 600 // 512 for i in range(512)})
    np.asarray(long.examples.targets)[unjudged] = -100
    trainer = CohortTrainer(Given(perceptron), method="dense", device="cpu")
    sent = trainer.trainer.initial(0)
    expected, _ = one_by_one(trainer, sent, [long])
    trained = trainer.train(sent, [long])
    np.testing.assert_array_equal(vectors(trainer, trained.packed), expected)


@pytest.mark.parametrize("method", BATCHED)
def test_what_does_not_fit_is_said_as_for_one_node(method: Method) -> None:
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu")
    sent = trainer.trainer.initial(0)
    with pytest.raises(DataError, match="model of task 'Given' failed on inputs"):
        trainer.train(sent, [member(0, 5), member(1, 5, width=4)])
    empty = Member(Examples(np.zeros((0, 6)), np.zeros(0)), LocalWork(0.1, 1, 4), 0)
    with pytest.raises(DataError, match="got no examples"):
        trainer.train(sent, [member(0, 5), empty])
    with pytest.raises(DataError, match="no member"):
        trainer.summed(sent, [])


def test_methods_and_precisions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="'dense': it has a Dropout"):
        CohortTrainer(Given(lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout())), method="dense")
    with pytest.raises(ConfigError, match="precision is 'int8'"):
        CohortTrainer(Given(perceptron), precision="int8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="method is 'fast'"):
        CohortTrainer(Given(perceptron), method="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", BATCHED)
def test_products_in_bfloat16_come_close(method: Method) -> None:
    # Its 8 bits of mantissa give errors of some thousandths of what a product adds.
    members = plain()
    trainer = CohortTrainer(Given(perceptron), method=method, device="cpu", precision="bfloat16")
    sent = trainer.trainer.initial(0)
    start = trainer.trainer.layout.vector(sent)
    expected, losses = one_by_one(trainer, sent, members)
    trained = trainer.train(sent, members)
    errors = np.linalg.norm(vectors(trainer, trained.packed) - expected)
    assert 0 < errors < 0.05 * np.linalg.norm(expected - start)
    np.testing.assert_allclose(trained.loss_before, losses, rtol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", BATCHED)
def test_a_gpu_trains_the_same_models(method: Method) -> None:
    trainer = CohortTrainer(Given(perceptron), method=method)
    assert trainer.chunk_size > 1
    sent = trainer.trainer.initial(0)
    expected, losses = one_by_one(trainer, sent, ragged())
    trained = trainer.train(sent, ragged())
    np.testing.assert_allclose(vectors(trainer, trained.packed), expected, atol=1e-5)
    np.testing.assert_allclose(trained.loss_before, losses, rtol=1e-4)
    together = trainer.summed(sent, ragged()).delta
    mean = np.average(expected, axis=0, weights=trained.num_examples)
    np.testing.assert_allclose(together, mean - trainer.trainer.layout.vector(sent), atol=1e-5)
