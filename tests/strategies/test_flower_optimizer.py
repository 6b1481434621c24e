"""A Flower strategy behind `FlowerOptimizer` computes what it computes in Flower's own rounds."""

import gc
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)
from flwr.supercore.task_identity import TaskIdentity

from daafl import flower
from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.simulation import InProcessGrid
from daafl.strategies import flower_optimizer
from daafl.strategies.calling import StubGrid
from daafl.strategies.capabilities import CAPABILITIES
from daafl.strategies.flower_optimizer import FlowerOptimizer, named_arrays
from daafl.strategies.optimizer import copied

Arrays = Mapping[str, npt.NDArray[Any]]

NUM_NODES = 8
ROUNDS = 5
QUIET: dict[str, Any] = {"fraction_evaluate": 0.0}


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> Iterator[None]:
    """Flower's rounds collect garbage for each reply: leave what other tests hold out of that."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: FedAvg(**QUIET),
    "FedAvgM": lambda: FedAvgM(server_learning_rate=0.5, server_momentum=0.9, **QUIET),
    "FedAdam": lambda: FedAdam(eta=0.03, **QUIET),
    "FedYogi": lambda: FedYogi(eta=0.03, **QUIET),
    "FedAdagrad": lambda: FedAdagrad(eta=0.03, **QUIET),
    "FedProx": lambda: FedProx(proximal_mu=0.1, **QUIET),
    "FedMedian": lambda: FedMedian(**QUIET),
    "FedTrimmedAvg": lambda: FedTrimmedAvg(beta=0.2, **QUIET),
    "Krum": lambda: Krum(num_malicious_nodes=1, **QUIET),
    "MultiKrum": lambda: MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3, **QUIET),
    "Bulyan": lambda: Bulyan(num_malicious_nodes=1, **QUIET),
    "QFedAvg": lambda: QFedAvg(client_learning_rate=0.1, q=0.2, **QUIET),
}
MEAN = ["FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedProx"]
WITH_MEMORY = ["FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"]

FLOATS: Arrays = {
    "weight": np.linspace(-0.5, 0.5, 15, dtype=np.float32).reshape(5, 3),
    "bias": np.zeros(3, np.float32),
}
COUNTED: Arrays = {**FLOATS, "batches": np.array(7)}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for field in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, field, None)
    flower.adopt_task_identity(run_id=7)
    yield


# ---- a small federation: least squares on data that differ between nodes ----------------------


def trained(arrays: Arrays, node: int, mu: float) -> tuple[Arrays, int, float]:
    """Return a node's arrays after three gradient steps, its examples and its loss before."""
    rng = np.random.default_rng([3, node])
    num_examples = 4 + 3 * node
    inputs = rng.normal(size=(num_examples, 5)).astype(np.float32)
    targets = rng.normal(size=(num_examples, 3)).astype(np.float32) + np.float32(node / 4)
    weight, bias = arrays["weight"], arrays["bias"]
    loss = float(np.square(inputs @ weight + bias - targets).mean())
    for _ in range(3):
        error = (inputs @ weight + bias - targets) / np.float32(num_examples)
        pull = np.float32(mu) * (weight - arrays["weight"])
        weight = weight - np.float32(0.1) * (inputs.T @ error + pull)
        bias = bias - np.float32(0.1) * error.sum(axis=0)
    new: dict[str, npt.NDArray[Any]] = {"weight": weight, "bias": bias}
    if "batches" in arrays:
        new["batches"] = arrays["batches"] + node
    return new, num_examples, loss


def in_model_types(layout: Layout, arrays: Arrays) -> Packed:
    return layout.packed(np.concatenate([arrays[e.name].reshape(-1) for e in layout.entries]))


class OrderedGrid(InProcessGrid):
    """Sends messages, and so returns replies, in the order of the nodes; Flower shuffles them."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        ordered = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        return super().send_and_receive(ordered, timeout=timeout)


def flowers_own(strategy: Strategy, initial: Arrays) -> ArrayRecord:
    """Return what Flower's own rounds make of the initial arrays."""
    layout = Layout.of(initial)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        sent = {name: array.numpy() for name, array in message.content["arrays"].items()}
        mu = float(message.content["config"].get("proximal-mu", 0.0))
        arrays = layout.unpack(in_model_types(layout, sent))
        new, num_examples, loss = trained(arrays, int(context.node_config["partition-id"]), mu)
        content = RecordDict(
            {
                "arrays": named_arrays(layout, layout.pack(new)),
                "metrics": MetricRecord({"num-examples": num_examples, "train_loss": loss}),
            }
        )
        return Message(content, reply_to=message)

    start = named_arrays(layout, layout.pack(initial))
    with OrderedGrid(app, NUM_NODES, workers=0) as grid:
        return strategy.start(grid, start, num_rounds=ROUNDS).arrays


def round_of_updates(
    layout: Layout, packed: Packed, mu: float = 0.0, *, nodes: Iterable[int] = range(NUM_NODES)
) -> list[Update]:
    updates = []
    for node in nodes:
        new, num_examples, loss = trained(layout.unpack(packed), node, mu)
        received = layout.pack(new)
        delta = layout.vector(received) - layout.vector(packed)
        metrics = {"num-examples": float(num_examples), "train_loss": loss}
        updates.append(Update(delta, num_examples, (node,), 0, metrics, received=received))
    return updates


def rounds(optimizer: FlowerOptimizer, layout: Layout, packed: Packed, count: int) -> Packed:
    for _ in range(count):
        mu = float(optimizer.node_config().get("proximal-mu", 0.0))
        packed = optimizer.combine(packed, round_of_updates(layout, packed, mu))
    return packed


def opened(strategy: Strategy, initial: Arrays = FLOATS) -> tuple[FlowerOptimizer, Layout, Packed]:
    layout = Layout.of(initial)
    packed = layout.pack(initial)
    optimizer = FlowerOptimizer(strategy)
    optimizer.init(layout, packed)
    return optimizer, layout, packed


# ---- equality with Flower's own rounds ---------------------------------------------------------


def test_every_listed_strategy_is_compared() -> None:
    assert {kind.__name__ for kind in CAPABILITIES} == set(STRATEGIES)


@pytest.mark.parametrize(
    ("name", "initial"),
    # Flower's QFedAvg cannot compute on integers; the test below is about that.
    [(name, FLOATS) for name in STRATEGIES]
    + [(name, COUNTED) for name in STRATEGIES if name != "QFedAvg"],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} arrays",
)
def test_five_rounds_are_bit_equal_to_flowers_own(name: str, initial: Arrays) -> None:
    expected = {k: v.numpy() for k, v in flowers_own(STRATEGIES[name](), initial).items()}
    optimizer, layout, packed = opened(STRATEGIES[name](), initial)
    packed = rounds(optimizer, layout, packed, ROUNDS)
    assert np.array_equal(packed, in_model_types(layout, expected))
    assert not np.array_equal(packed, layout.pack(initial))
    assert optimizer.step == ROUNDS


def test_qfedavg_computes_on_integer_entries_too() -> None:
    optimizer, layout, packed = opened(QFedAvg(client_learning_rate=1.0, q=0.0), COUNTED)
    new = layout.unpack(optimizer.combine(packed, round_of_updates(layout, packed)))
    # With q = 0 it is the plain mean: counters are 7 + node, over nodes 0 to 7.
    assert new["batches"] == 10  # 10.5 rounds half to even
    assert new["batches"].dtype == np.int64


def test_the_model_keeps_its_number_types() -> None:
    optimizer, layout, packed = opened(STRATEGIES["FedAdam"](), COUNTED)
    packed = rounds(optimizer, layout, packed, 2)
    assert [a.dtype.name for a in layout.unpack(packed).values()] == ["float32"] * 2 + ["int64"]


# ---- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [FLOATS, COUNTED], ids=["floats", "counted"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_earlier_state_with_its_arrays_undoes_what_came_after(
    name: str, initial: Arrays
) -> None:
    optimizer, layout, packed = opened(STRATEGIES[name](), initial)
    early = rounds(optimizer, layout, packed, 2)
    state = optimizer.state()
    first = rounds(optimizer, layout, early, 3)
    optimizer.load(state)
    assert optimizer.step == 2
    assert np.array_equal(rounds(optimizer, layout, early, 3), first)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_arrays_alone_undo_nothing_in_a_strategy_with_memory(name: str) -> None:
    optimizer, layout, packed = opened(STRATEGIES[name]())
    early = rounds(optimizer, layout, packed, 2)
    first = rounds(optimizer, layout, early, 3)
    assert not np.array_equal(rounds(optimizer, layout, early, 3), first)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_state_carries_over_to_another_process(name: str) -> None:
    optimizer, layout, packed = opened(STRATEGIES[name](), COUNTED)
    early = rounds(optimizer, layout, packed, 2)
    state = copied(optimizer.state())  # plain data, or it raises
    expected = rounds(optimizer, layout, early, 2)
    resumed, _, _ = opened(STRATEGIES[name](), COUNTED)
    resumed.load(state)
    assert np.array_equal(rounds(resumed, layout, early, 2), expected)


def test_a_held_state_does_not_change_when_training_goes_on() -> None:
    optimizer, layout, packed = opened(STRATEGIES["FedAdam"]())
    packed = rounds(optimizer, layout, packed, 1)
    state = optimizer.state()
    before = copied(state)
    optimizer.load(state)
    rounds(optimizer, layout, packed, 2)
    np.testing.assert_equal(state, before)


def test_a_fork_and_its_origin_do_not_touch_each_other() -> None:
    optimizer, layout, packed = opened(STRATEGIES["FedAvgM"]())
    packed = rounds(optimizer, layout, packed, 2)
    other = optimizer.fork()
    expected = rounds(other, layout, packed, 2)
    assert other.strategy is not optimizer.strategy
    assert np.array_equal(rounds(optimizer, layout, packed, 2), expected)


def test_init_starts_over() -> None:
    optimizer, layout, packed = opened(STRATEGIES["FedAvgM"]())
    expected = rounds(optimizer, layout, packed, 2)
    optimizer.scale(0.5)
    optimizer.init(layout, packed)
    assert np.array_equal(rounds(optimizer, layout, packed, 2), expected)


def test_a_foreign_model_is_not_mixed_with_unrounded_values_of_the_last_one() -> None:
    optimizer, layout, packed = opened(STRATEGIES["FedAdam"]())
    rounds(optimizer, layout, packed, 1)
    other = layout.pack({name: array + np.float32(1) for name, array in FLOATS.items()})
    still = [Update(np.zeros(18, np.float32), 1, (0,), 0, {}, received=other)]
    moved = layout.vector(optimizer.combine(other, still)) - layout.vector(other)
    # Only the momentum of the first round is left: at most eta * correction, far below 1.
    assert 0 < np.abs(moved).max() < 0.1


class Remembering(FedAvg):
    """Keeps what strategies of users keep."""

    def __init__(self) -> None:
        super().__init__(**QUIET)
        self.by_node: dict[int, float] = {1: 0.5}
        self.last = np.float64(2.0)
        self.inner = FedAvgM(server_momentum=0.5)
        self.seen = {1, 2}
        self.hook = lambda: None

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        self.by_node[2] = 9.0
        self.last = np.float64(3.0)
        self.inner.server_momentum = 0.9
        self.lazily = "made"
        return super().aggregate_train(server_round, replies)


def test_what_a_users_strategy_remembers_is_restored() -> None:
    strategy = Remembering()
    optimizer, layout, packed = opened(strategy)
    state = copied(optimizer.state())
    rounds(optimizer, layout, packed, 1)
    assert strategy.by_node == {1: 0.5, 2: 9.0}
    optimizer.load(state)
    assert strategy.by_node == {1: 0.5}
    assert type(strategy.last) is np.float64 and strategy.last == 2.0
    assert strategy.inner.server_momentum == 0.5
    assert not hasattr(strategy, "lazily")
    assert optimizer.unsaved == ("seen",)


# ---- settings for nodes ------------------------------------------------------------------------


class Counting(FedProx):
    calls = 0

    def configure_train(self, *args: Any) -> Iterable[Message]:
        self.calls += 1
        return super().configure_train(*args)


def test_training_is_configured_once_per_version() -> None:
    strategy = Counting(proximal_mu=0.25, **QUIET)
    optimizer, layout, packed = opened(strategy)
    assert optimizer.node_config() == {"proximal-mu": 0.25}
    optimizer.node_config()
    assert strategy.calls == 1
    packed = optimizer.combine(packed, round_of_updates(layout, packed))
    assert strategy.calls == 1
    optimizer.combine(packed, round_of_updates(layout, packed))  # nobody asked in between
    assert strategy.calls == 2


def test_the_settings_returned_are_the_callers_own() -> None:
    optimizer, _, _ = opened(FedProx(proximal_mu=0.25))
    dict_of = optimizer.node_config()
    assert isinstance(dict_of, dict)
    dict_of["proximal-mu"] = 9.0
    assert optimizer.node_config() == {"proximal-mu": 0.25}


def test_neither_the_global_generator_nor_many_wanted_nodes_matter() -> None:
    optimizer, _, _ = opened(FedAvg(min_train_nodes=100, min_available_nodes=500))
    before = random.getstate()
    assert optimizer.node_config() == {}
    assert random.getstate() == before


def test_a_strategy_that_skips_training_has_no_settings() -> None:
    optimizer, layout, packed = opened(FedAvg(fraction_train=0.0, **QUIET))
    assert optimizer.node_config() == {}
    assert not np.array_equal(rounds(optimizer, layout, packed, 1), packed)


class Configuring(FedAvg):
    def __init__(self, configs: list[ConfigRecord]) -> None:
        super().__init__(**QUIET)
        self.configs = configs

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return [
            grid.create_message(RecordDict({"arrays": arrays, "config": c}), "train", node, "")
            for node, c in enumerate(self.configs)
        ]


def test_settings_that_differ_between_nodes_are_refused() -> None:
    configs = [ConfigRecord({"lr": 0.1}), ConfigRecord({"lr": 0.2})]
    optimizer, _, _ = opened(Configuring(configs))
    with pytest.raises(ConfigError, match="configures nodes differently"):
        optimizer.node_config()


def test_settings_that_are_no_scalars_are_refused() -> None:
    optimizer, _, _ = opened(Configuring([ConfigRecord({"layers": [1, 2]})]))
    with pytest.raises(ConfigError, match="'layers' of type list"):
        optimizer.node_config()


@pytest.mark.parametrize("method", ["push_messages", "pull_messages", "send_and_receive"])
def test_imaginary_nodes_cannot_be_reached(method: str) -> None:
    with pytest.raises(FederationError, match="only the exchange talks to nodes"):
        getattr(StubGrid(3), method)([])


def test_flowers_narration_is_silenced_and_its_warnings_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("flwr")
    optimizer, layout, packed = opened(STRATEGIES["Bulyan"]())
    logger.addHandler(caplog.handler)
    level = logger.level
    try:
        optimizer.combine(packed, round_of_updates(layout, packed, nodes=range(3)))
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert logger.level == level


# ---- what a strategy is given ------------------------------------------------------------------


class Recording(FedAvg):
    """Keeps the replies that it was given; linear, and says so."""

    daafl_needs = "mean"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**QUIET, **settings)
        self.train_loss_key = "my_loss"
        self.replies: tuple[Message, ...] = ()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        self.replies = tuple(replies)
        return super().aggregate_train(server_round, self.replies)


def recorded(updates: list[Update], **settings: Any) -> tuple[Message, ...]:
    strategy = Recording(**settings)
    optimizer, _, packed = opened(strategy)
    optimizer.combine(packed, updates)
    return strategy.replies


def test_replies_carry_sender_weight_and_common_metrics_under_the_strategys_keys() -> None:
    layout = Layout.of(FLOATS)
    updates = round_of_updates(layout, layout.pack(FLOATS), nodes=[5, 2])
    updates[0].metrics["only-here"] = 1.0  # type: ignore[index]  # it is a dict here
    replies = recorded(updates, weighted_by_key="weight", arrayrecord_key="model")
    assert [reply.metadata.src_node_id for reply in replies] == [5, 2]
    for reply, update in zip(replies, updates, strict=True):
        assert dict(reply.content["metrics"]) == {
            "my_loss": update.metrics["train_loss"],
            "weight": update.num_examples,
        }
        assert np.array_equal(
            reply.content["model"]["weight"].numpy(), layout.unpack(update.received)["weight"]
        )


def test_stale_updates_are_rebased_and_damped() -> None:
    # FedMedian ignores weights, so that damping must act on the delta: 1 + 0.5 * 2.
    optimizer, layout, packed = opened(FedMedian(), {"w": np.ones(3, np.float32)})
    update = Update(np.full(3, 2.0, np.float32), 10, (4,), 0, {}, damping=0.5)
    assert layout.vector(optimizer.combine(packed, [update])).tolist() == [2.0, 2.0, 2.0]


def test_damping_acts_with_a_single_update_where_weights_are_normalised() -> None:
    optimizer, layout, packed = opened(FedAvg(), {"w": np.ones(2, np.float32)})
    received = layout.pack({"w": np.array([3.0, 5.0], np.float32)})
    update = Update(np.array([2.0, 4.0], np.float32), 99, (4,), 0, {}, 0.25, received)
    assert layout.vector(optimizer.combine(packed, [update])).tolist() == [1.5, 2.0]


@pytest.mark.parametrize("name", MEAN)
def test_a_mean_gives_the_same_model_as_its_parts(name: str) -> None:
    optimizer, layout, packed = opened(STRATEGIES[name]())
    other = optimizer.fork()
    updates = round_of_updates(layout, packed)
    apart = layout.vector(optimizer.combine(packed, updates))
    cohort = [
        Update(u.delta, u.num_examples, (u.senders[0], 99), u.version, u.metrics) for u in updates
    ]
    together = layout.vector(other.combine(packed, cohort))
    np.testing.assert_allclose(together, apart, rtol=2e-6, atol=2e-6)


def test_cohorts_and_large_steps_are_handed_over_as_one_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout.of(FLOATS)
    packed = layout.pack(FLOATS)
    updates = round_of_updates(layout, packed)
    assert len(recorded(updates)) == NUM_NODES
    stale = Update(updates[0].delta, 4, (0,), 0, updates[0].metrics, damping=0.5)
    (reply,) = recorded([stale, *updates[1:]])
    total = sum(update.num_examples for update in updates)
    losses = sum(u.num_examples * u.metrics["train_loss"] for u in updates)
    assert reply.content["metrics"]["num-examples"] == total
    assert reply.content["metrics"]["my_loss"] == pytest.approx(losses / total, rel=1e-12)
    monkeypatch.setattr(flower_optimizer, "MAX_INDIVIDUAL_BYTES", NUM_NODES * packed.nbytes - 1)
    assert len(recorded(updates)) == 1


def test_inputs_are_never_written_to() -> None:
    for make in STRATEGIES.values():
        optimizer, layout, packed = opened(make(), FLOATS)
        updates = round_of_updates(layout, packed)
        packed.flags.writeable = False
        for update in updates:
            update.delta.flags.writeable = False
            assert update.received is not None
            update.received.flags.writeable = False
        optimizer.combine(packed, updates)


# ---- scaling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaled", "expected"),
    [
        (
            FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
            FedAvgM(server_learning_rate=0.5 * 0.3, server_momentum=0.9),
        ),
        (FedAdam(eta=0.1), FedAdam(eta=0.1 * 0.3)),
        (FedYogi(eta=0.1), FedYogi(eta=0.1 * 0.3)),
        (FedAdagrad(eta=0.1), FedAdagrad(eta=0.1 * 0.3)),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_scaling_multiplies_the_servers_learning_rate(scaled: Strategy, expected: Strategy) -> None:
    optimizer, layout, packed = opened(scaled)
    optimizer.scale(0.3)
    other, _, _ = opened(expected)
    assert np.array_equal(rounds(optimizer, layout, packed, 3), rounds(other, layout, packed, 3))


@pytest.mark.parametrize("strategy", [FedAvg(), FedMedian(), FedAvgM()])
def test_without_a_learning_rate_the_step_is_scaled(strategy: Strategy) -> None:
    # FedAvgM with rate 1 and no momentum is FedAvg and never looks at its rate.
    optimizer, layout, packed = opened(strategy, {"w": np.ones(2, np.float32)})
    received = layout.pack({"w": np.array([3.0, 5.0], np.float32)})
    update = Update(np.array([2.0, 4.0], np.float32), 9, (4,), 0, {}, received=received)
    optimizer.scale(0.5)
    optimizer.scale(0.5)
    assert layout.vector(optimizer.combine(packed, [update])).tolist() == [1.5, 2.0]


def test_loading_a_state_leaves_the_scale_alone() -> None:
    strategy = FedAdam(eta=0.1)
    optimizer, _, _ = opened(strategy)
    state = optimizer.state()
    optimizer.scale(0.25)
    optimizer.load(state)
    assert strategy.eta == 0.025
    optimizer.scale(4.0)
    assert strategy.eta == 0.1


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_that_is_no_step_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="cannot be scaled"):
        opened(FedAvg())[0].scale(factor)


# ---- strategies that make no model, or the wrong one -------------------------------------------


def test_a_strategy_that_makes_no_model_leaves_it_as_it_is_and_says_so() -> None:
    optimizer, layout, packed = opened(STRATEGIES["Bulyan"]())  # needs 4 * 1 + 3 replies
    few = round_of_updates(layout, packed, nodes=range(3))
    assert optimizer.combine(packed, few) is packed
    assert optimizer.skipped == "Bulyan made no model of 3 updates"
    assert optimizer.step == 1  # a round of Flower's that failed counts as well
    optimizer.combine(packed, round_of_updates(layout, packed))
    assert optimizer.skipped is None


def test_without_updates_nothing_happens() -> None:
    optimizer, _, packed = opened(FedAvg())
    assert optimizer.combine(packed, []) is packed
    assert optimizer.skipped == "there was no update to combine"
    assert optimizer.step == 0


class Returning(FedAvg):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__(**QUIET)
        self.returned = arrays

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        return ArrayRecord({name: Array(a) for name, a in self.returned.items()}), None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weight": FLOATS["weight"]}, "without 'bias'"),
        ({**FLOATS, "bias": np.zeros(4)}, r"'bias' with shape \(4,\)"),
        ({**FLOATS, "more": np.zeros(1)}, "'more', which the model does not have"),
    ],
)
def test_a_model_of_another_form_is_refused(arrays: Arrays, message: str) -> None:
    optimizer, layout, packed = opened(Returning(arrays))
    with pytest.raises(FederationError, match=message):
        optimizer.combine(packed, round_of_updates(layout, packed))


def test_before_init_there_is_nothing_to_combine() -> None:
    packed = Layout.of(FLOATS).pack(FLOATS)
    with pytest.raises(FederationError, match="call init first"):
        FlowerOptimizer(FedAvg()).combine(packed, [])
    with pytest.raises(FederationError, match="call init first"):
        FlowerOptimizer(FedAvg()).node_config()


# ---- which strategies may be used --------------------------------------------------------------


class OwnBagging(FedXgbBagging):
    pass


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 2), "selects its own"),
        (FedXgbBagging(), "combines trees"),
        (OwnBagging(), "OwnBagging cannot be used"),
    ],
)
def test_strategies_that_would_be_wrong_here_are_refused(strategy: Strategy, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        FlowerOptimizer(strategy)


def test_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a str"):
        FlowerOptimizer("FedAvg")  # type: ignore[arg-type]  # the point of the test


class Own(FedAdam):
    pass


class Linear(FedAdam):
    daafl_needs = "mean"


class Unclear(FedAdam):
    daafl_needs = "sum"


def test_an_unlisted_strategy_needs_individuals_unless_it_says_otherwise() -> None:
    assert FlowerOptimizer(Own()).needs == "individuals"
    assert FlowerOptimizer(Linear()).needs == "mean"
    with pytest.raises(ConfigError, match="'mean' or 'individuals'"):
        FlowerOptimizer(Unclear())


def test_an_unlisted_strategy_inherits_its_learning_rate() -> None:
    strategy = Own(eta=0.1)
    optimizer, _, _ = opened(strategy)
    optimizer.scale(0.5)
    assert strategy.eta == 0.05
