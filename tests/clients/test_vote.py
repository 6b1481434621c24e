"""How a node answers when it is asked to vote."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from daafl.clients import client_app
from daafl.errors import MessageError
from daafl.learning import Examples, LocalWork, Task, TorchTrainer
from daafl.learning.ballot import ballot
from daafl.messages import Assignment, Ballot

Build = Callable[..., Message]


def question(message: Build, **models: np.ndarray) -> Message:
    asked = message("query.vote", None, Assignment(layout="").to_record())
    asked.content["arrays"] = ArrayRecord({name: Array(model) for name, model in models.items()})
    return asked


def cast(app: Callable[[Message, Context], Message], asked: Message, context: Context) -> Ballot:
    reply = app(asked, context)
    assert set(reply.content) == {"metrics", "telemetry"}
    assert reply.content["telemetry"]["steps"] == 0
    return Ballot.from_record(reply.content["metrics"])


@pytest.fixture
def better(toy: Task, trainer: TorchTrainer) -> np.ndarray:
    """Return a model that knows the task."""
    work = LocalWork(lr=0.3, steps=200, batch_size=16)
    packed = trainer.initial(seed=1)
    return trainer.train(packed, toy.node_data(2, 5), work, key=0).packed


def test_a_ballot_is_that_of_the_nodes_own_losses(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context, better: np.ndarray
) -> None:
    untrained, worse = trainer.initial(seed=0), trainer.initial(seed=1)
    own = toy.node_data(2, 5)
    losses = [trainer.losses(model, own) for model in (worse, better, untrained)]
    app = client_app(toy)
    got = cast(app, question(message, packed=worse, accepted=better), context)
    assert got == ballot(*losses)
    assert (got.is_in_favour, got.num_examples) == (False, len(own))
    assert got.loss == pytest.approx(trainer.evaluate(worse, own)["loss"], rel=1e-5)
    assert cast(app, question(message, packed=better, accepted=worse), context).is_in_favour
    assert cast(app, question(message, packed=better, accepted=better), context).is_in_favour


def test_a_model_of_no_finite_loss_is_voted_down(
    toy: Task, trainer: TorchTrainer, message: Build, context: Context, better: np.ndarray
) -> None:
    broken = trainer.layout.packed(np.full_like(trainer.layout.vector(better), np.nan))
    got = cast(client_app(toy), question(message, packed=broken, accepted=better), context)
    assert (got.is_in_favour, got.loss) == (False, math.inf)


def test_a_vote_is_on_validation_data_where_a_task_has_it(
    toy: Task, message: Build, context: Context, better: np.ndarray
) -> None:
    class Careful(type(toy)):  # type: ignore[misc]
        def validation(self, node: int, num_nodes: int) -> Examples:
            return self.node_data(4, num_nodes).take(np.arange(7))

    asked = question(message, packed=better, accepted=better)
    assert cast(client_app(Careful()), asked, context).num_examples == 7


def test_a_vote_changes_nothing_at_the_node(
    toy: Task, message: Build, context: Context, better: np.ndarray
) -> None:
    app = client_app(toy)
    asked = question(message, packed=better, accepted=better)
    first = cast(app, asked, context)
    assert cast(app, asked, context) == first
    assert context.state == RecordDict()


def test_a_question_without_two_models_of_the_right_size_is_refused(
    toy: Task, message: Build, context: Context, better: np.ndarray
) -> None:
    app = client_app(toy)
    for models in ({"packed": better}, {"packed": better, "accepted": better, "third": better}):
        with pytest.raises(MessageError, match="two arrays, packed and accepted"):
            app(question(message, **models), context)
    with pytest.raises(MessageError, match="shape"):
        app(question(message, packed=better, accepted=better[:-1]), context)
    with pytest.raises(MessageError, match="two arrays, packed and accepted"):
        app(message("query.vote", None, Assignment().to_record()), context)
