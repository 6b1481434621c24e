"""The ClientApp of a task: what it answers to daafl's coordinator and to Flower's strategies."""

import math
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from daafl import __version__
from daafl.clients import client_app
from daafl.errors import ConfigError, DataError, MessageError
from daafl.keyed_random import mixed
from daafl.learning import LocalWork, Task, TorchTrainer
from daafl.learning.tasks.digits import Digits
from daafl.messages import Assignment, Envelope, Hello

Build = Callable[..., Message]

ASSIGNMENT = Assignment(
    federation="toys",
    branch="trial",
    version=6,
    ticket=41,
    draw=2,
    seed=11,
    lr=0.3,
    local_steps=4,
    batch_size=8,
    plan_hash="beef",
    settings={"proximal-mu": 0.5},
)


def test_training_is_the_trainers_with_randomness_from_the_message(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    sent = trainer.initial(seed=1)
    reply = client_app(toy)(message("train", sent, ASSIGNMENT.to_record()), context)
    expected = trainer.train(
        sent,
        toy.node_data(2, 5),
        LocalWork(lr=0.3, steps=4, batch_size=8, proximal_mu=0.5),
        int(mixed(11, 2, 6, 2)),
    )
    assert list(reply.content["arrays"]) == ["packed"]
    assert np.array_equal(reply.content["arrays"]["packed"].numpy(), expected.packed)
    assert not np.array_equal(expected.packed, sent)
    assert reply.content["metrics"] == {"num-examples": 18, "train_loss": expected.loss_before}
    telemetry = reply.content["telemetry"]
    assert telemetry["steps"] == 4
    assert telemetry["seconds"] > 0
    envelope = Envelope.from_record(reply.content["envelope"])
    assert envelope == Envelope("toys", "trial", 6, node=2, sequence=1, plan_hash="beef")
    assert set(reply.content) == {"arrays", "metrics", "telemetry", "envelope"}


@pytest.mark.parametrize("changes", [{"seed": 12}, {"version": 7}, {"draw": 3}])
def test_seed_version_and_draw_each_change_the_batches(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context, changes: dict[str, int]
) -> None:
    app, sent = client_app(toy), trainer.initial(seed=1)
    config = ASSIGNMENT.to_record()
    first = app(message("train", sent, config), context)
    again = app(message("train", sent, config), context)
    other = app(message("train", sent, {**config, **changes}), context)
    arrays = [reply.content["arrays"]["packed"].numpy() for reply in (first, again, other)]
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_a_model_that_came_as_named_arrays_goes_back_as_named_arrays(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    app, sent = client_app(toy), trainer.initial(seed=1)
    config = ConfigRecord({"lr": 0.3, "local-steps": 4, "server-round": 7, "seed": 11})
    state = trainer._module.state_dict()
    named = {name: trainer.unpack(sent)[name] for name in state}
    packed_reply = app(message("train", sent, config), context)
    named_reply = app(message("train", named, config), context)
    record = named_reply.content["arrays"]
    assert list(record) == list(state)
    arrays = {name: array.numpy() for name, array in record.items()}
    assert {name: array.dtype for name, array in arrays.items()} == {
        name: tensor.numpy().dtype for name, tensor in state.items()
    }
    expected = packed_reply.content["arrays"]["packed"].numpy()
    assert np.array_equal(trainer.pack(arrays), expected)
    assert arrays["norm.num_batches_tracked"] == 4
    assert Envelope.from_record(named_reply.content["envelope"]).base_version == 6


def test_counters_that_a_strategy_averaged_into_floats_become_integers_again(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    app, sent = client_app(toy), trainer.initial(seed=1)
    named = dict(trainer.unpack(sent))
    averaged = {name: array.astype(np.float64) for name, array in named.items()}
    averaged["norm.num_batches_tracked"] = np.array(6.6)
    named["norm.num_batches_tracked"] = np.array(7)
    config = ConfigRecord({"server-round": 1})
    replies = [app(message("train", arrays, config), context) for arrays in (named, averaged)]
    left, right = (reply.content["arrays"] for reply in replies)
    assert all(np.array_equal(left[name].numpy(), right[name].numpy()) for name in named)
    assert right["norm.num_batches_tracked"].numpy() == 17
    assert right["norm.num_batches_tracked"].dtype == "int64"


def test_evaluation_is_on_the_nodes_own_data(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    sent = trainer.initial(seed=1)
    reply = client_app(toy)(message("evaluate", sent, ASSIGNMENT.to_record()), context)
    expected = trainer.evaluate(sent, toy.node_data(2, 5))
    assert reply.content["metrics"] == {**expected, "num-examples": 18}
    assert set(expected) == {"loss", "accuracy"}
    assert reply.content["telemetry"]["steps"] == 0


def test_a_probe_reports_log_losses_and_all_the_work_it_took(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    sent, rates = trainer.initial(seed=1), [0.01, 0.1, 1.0]
    config = {**ASSIGNMENT.to_record(), "learning-rates": rates}
    reply = client_app(toy)(message("query.probe", sent, config), context)
    expected = trainer.probe(
        sent,
        toy.node_data(2, 5),
        rates,
        LocalWork(lr=0.3, steps=4, batch_size=8, proximal_mu=0.5),
        int(mixed(11, 2, 6, 2)),
    )
    assert reply.content["metrics"] == {"log-losses": list(expected), "num-examples": 18}
    assert reply.content["telemetry"]["steps"] == 12
    assert "arrays" not in reply.content


def test_a_greeting_says_who_the_node_is(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    reply = client_app(toy)(message("query.hello", None, Assignment().to_record()), context)
    hello = Hello.from_record(reply.content["config"])
    assert hello == Hello(2, 18, trainer.layout.digest, f"daafl {__version__}", num_nodes=5)


def test_the_task_is_made_once_and_only_when_needed(
    toy: Task, message: Build, context: Context
) -> None:
    made = []

    def factory() -> Task:
        made.append(toy)
        return toy

    app = client_app(factory)
    assert made == []
    for _ in range(3):
        app(message("query.hello", None, {}), context)
    assert made == [toy]


def test_something_else_than_a_task_is_named(message: Build, context: Context) -> None:
    app = client_app(lambda: "digits")  # type: ignore[arg-type,return-value]  # the mistake
    with pytest.raises(ConfigError, match=r"returns a str; it must return a daafl\.Task"):
        app(message("query.hello", None, {}), context)


def test_updates_are_numbered_for_the_time_of_a_run(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    app, sent = client_app(toy), trainer.initial(seed=1)
    train = message("train", sent, ASSIGNMENT.to_record())
    numbers = [app(train, context).content["envelope"]["sequence"] for _ in range(3)]
    assert numbers == [1, 2, 3]
    context.state = RecordDict()
    assert app(train, context).content["envelope"]["sequence"] == 1


def test_with_a_node_store_updates_are_numbered_for_ever(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context, tmp_path: Path
) -> None:
    sent = trainer.initial(seed=1)
    numbers = []
    for federation in ("toys", "toys", "other", "toys"):
        app = client_app(toy, node_store=tmp_path)
        context.state = RecordDict()
        config = {**ASSIGNMENT.to_record(), "federation": federation}
        reply = app(message("train", sent, config), context)
        numbers.append(reply.content["envelope"]["sequence"])
    assert numbers == [1, 2, 1, 3]
    assert len(context.state) == 0


def test_the_app_can_be_sent_to_another_process(message: Build, context: Context) -> None:
    """Flower's Ray simulation pickles the app by value."""
    app = cloudpickle.loads(cloudpickle.dumps(client_app(Digits())))
    reply = app(message("query.hello", None, {}), context)
    assert Hello.from_record(reply.content["config"]).num_examples > 0


def test_mods_are_around_every_handler(toy: Task, message: Build, context: Context) -> None:
    seen = []

    def outer(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        seen.append("outer")
        return call_next(message, context)

    def inner(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        seen.append("inner")
        return call_next(message, context)

    client_app(toy, mods=(outer, inner))(message("query.hello", None, {}), context)
    assert seen == ["outer", "inner"]


def test_a_loss_that_is_no_number_is_reported_as_infinite(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context
) -> None:
    broken = trainer.initial(seed=1)
    broken.view(np.float32)[:] = np.nan
    app, config = client_app(toy), ASSIGNMENT.to_record()
    train = app(message("train", broken, config), context).content["metrics"]
    evaluate = app(message("evaluate", broken, config), context).content["metrics"]
    assert train["train_loss"] == math.inf
    assert evaluate["loss"] == math.inf


def bad_arrays(trainer: TorchTrainer) -> dict[str, RecordDict]:
    packed = trainer.initial(seed=1)
    named = {name: Array(array) for name, array in trainer.unpack(packed).items()}
    lying = Array(packed)
    lying.shape = (3,)
    config = ConfigRecord()
    records = {
        "no arrays": None,
        "metrics": MetricRecord({"packed": 1.0}),
        "short": ArrayRecord({"packed": Array(packed[:-1])}),
        "floats": ArrayRecord({"packed": Array(packed.view(np.float32))}),
        "garbage": ArrayRecord({"packed": Array("uint8", packed.shape, "numpy.ndarray", b"no")}),
        "lying": ArrayRecord({"packed": lying}),
        "pickled": ArrayRecord({"packed": Array("uint8", packed.shape, "pickle", b"x" * 99)}),
        "both": ArrayRecord({"packed": Array(packed), **named}),
        "missing": ArrayRecord({k: v for k, v in named.items() if k != "out.weight"}),
        "reshaped": ArrayRecord({**named, "out.weight": Array(np.zeros((9, 1), np.float32))}),
        "text": ArrayRecord({**named, "out.weight": Array(np.full((3, 3), "x"))}),
        "objects": ArrayRecord(
            {**named, "out.weight": Array("object", (3, 3), "numpy.ndarray", b"x" * 99)}
        ),
    }
    return {
        name: RecordDict({"config": config} | ({} if record is None else {"arrays": record}))
        for name, record in records.items()
    }


@pytest.mark.parametrize("message_type", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("case", "reason", "complaint"),
    [
        ("no arrays", "schema", "no record 'arrays'"),
        ("metrics", "schema", "no record 'arrays'"),
        ("short", "shape", "expected"),
        ("floats", "dtype", "expected uint8"),
        ("garbage", "schema", "not an .npy file"),
        ("lying", "shape", "expected"),
        ("pickled", "schema", "serialised as 'pickle'"),
        ("both", "schema", "has the unknown 'packed'"),
        ("missing", "schema", "lacks 'out.weight'"),
        ("reshaped", "shape", "expected"),
        ("text", "dtype", "expected numbers"),
        ("objects", "dtype", "expected numbers"),
    ],
)
def test_a_model_that_is_not_the_nodes_is_refused(
    toy: Task,
    trainer: TorchTrainer,
    message: Build,
    context: Context,
    message_type: str,
    case: str,
    reason: str,
    complaint: str,
) -> None:
    bad = message(message_type, None, {})
    bad.content = bad_arrays(trainer)[case]
    with pytest.raises(MessageError, match=complaint) as caught:
        client_app(toy)(bad, context)
    assert caught.value.reason == reason
    assert "daafl.node" not in context.state


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (None, "no record 'config'"),
        ({"lr": -1.0}, "field lr"),
        ({"local-steps": 0}, "field local-steps"),
        ({"proximal-mu": -0.1}, "proximal-mu is -0.1"),
        ({"proximal-mu": "much"}, "proximal-mu is 'much'"),
        ({"proximal-mu": math.nan}, "proximal-mu is nan"),
        ({"layout": "0123456789abcdef"}, "the coordinator's model has layout 0123456789abcdef"),
    ],
)
def test_a_bad_assignment_is_refused(
    toy: Task,
    trainer: TorchTrainer,
    message: Build,
    context: Context,
    config: dict[str, object] | None,
    complaint: str,
) -> None:
    with pytest.raises(MessageError, match=complaint):
        client_app(toy)(message("train", trainer.initial(seed=1), config), context)


@pytest.mark.parametrize(
    "rates", [None, [], [0.1] * 65, [0.0], [-1.0], [math.nan], [math.inf], [True], ["x"], 0.1]
)
def test_rates_that_nobody_can_try_are_refused(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context, rates: object
) -> None:
    config = {} if rates is None else {"learning-rates": rates}
    with pytest.raises(MessageError, match="learning-rates"):
        client_app(toy)(message("query.probe", trainer.initial(seed=1), config), context)


def test_a_node_without_examples_says_so(toy: Task, trainer: TorchTrainer, message: Build) -> None:
    crowded = Context(1, 5, {"partition-id": 95, "num-partitions": 100}, RecordDict(), {})
    with pytest.raises(DataError, match="100"):
        client_app(toy)(message("query.hello", None, {}), crowded)
