"""What attackers say about themselves."""

import math
from collections.abc import Callable

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from daafl.errors import ConfigError
from daafl.learning.task import Task
from daafl.messages import Ballot
from daafl.simulation import InProcessGrid
from daafl.simulation.attacks import Attack, FreeRider, Lies

Ask = Callable[..., object]


def liar(**lies: object) -> Attack:
    return Attack(FreeRider(0.0), nodes=[1], start=2, lies=Lies(**lies))


def test_reported_losses_are_multiplied(ask: Ask, means: Task) -> None:
    # The loss of w = 0 on four times (0, 4) is 4^2 / 2.
    lying = liar(loss_factor=10.0)
    assert ask(means, lying, rounds=[1]).metric(1, "train_loss") == 8.0
    asked = ask(means, lying, rounds=[2])
    assert asked.metric(1, "train_loss") == 80.0
    assert asked.metric(0, "train_loss") == 2.0
    evaluated = ask(means, lying, rounds=[2], kind="evaluate")
    assert (evaluated.metric(1, "loss"), evaluated.metric(0, "loss")) == (80.0, 2.0)


def test_numbers_of_examples_are_multiplied_and_stay_counts(ask: Ask, means: Task) -> None:
    asked = ask(means, liar(examples_factor=2.6), rounds=[2])
    assert asked.metric(1, "num-examples") == 10  # 4 * 2.6 = 10.4
    assert isinstance(asked.metric(1, "num-examples"), int)
    assert asked.metric(0, "num-examples") == 4
    few = ask(means, liar(examples_factor=1e-9), rounds=[2])
    assert few.metric(1, "num-examples") == 1


def test_the_greeting_lies_about_examples_too(ask: Ask, means: Task) -> None:
    lying = Attack(FreeRider(), nodes=[1], lies=Lies(examples_factor=100.0))
    greetings = ask(means, lying, kind="query.hello").replies
    assert [greetings[node]["config"]["num-examples"] for node in range(4)] == [4, 400, 4, 4]


def test_a_reversed_probe_praises_the_worst_rate(ask: Ask, means: Task) -> None:
    rates = {"learning-rates": [1e-3, 0.5, 1.5]}
    honest = ask(means, None, kind="query.probe", extra=rates).replies[1]["metrics"]["log-losses"]
    # One step from 0 leaves (1 - lr)^2 of the loss 8.
    assert honest == pytest.approx([math.log(8 * (1 - lr) ** 2) for lr in (1e-3, 0.5, 1.5)])
    lying = Attack(FreeRider(), nodes=[1], lies=Lies(reverses_probes=True))
    told = ask(means, lying, kind="query.probe", extra=rates).replies[1]["metrics"]["log-losses"]
    low, high = min(honest), max(honest)
    assert told == pytest.approx([low + high - loss for loss in honest])
    assert told.index(min(told)) == 0
    assert (min(told), max(told)) == pytest.approx((low, high))


def test_the_truth_is_the_default(ask: Ask, means: Task) -> None:
    asked = ask(means, Attack(FreeRider(0.0), nodes=[1]))
    assert asked.replies[1]["metrics"] == ask(means, None).replies[1]["metrics"]


@pytest.mark.parametrize("name", ["loss_factor", "examples_factor"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_factors_are_positive_numbers(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"lies.{name} is"):
        Lies(**{name: value})


def voted(is_in_favour: bool) -> tuple[Message, RecordDict]:
    """Return a question to vote and an honest answer to it."""
    message = Message(RecordDict(), 1001, "query.vote")
    ballot = Ballot(is_in_favour, loss=0.5, accepted_loss=0.75, num_examples=40)
    return message, RecordDict({"metrics": ballot.to_record()})


@pytest.mark.parametrize("is_in_favour", [True, False])
def test_an_inverted_vote_exchanges_the_losses(is_in_favour: bool) -> None:
    with InProcessGrid(ClientApp(), 1, workers=0):  # lets this process make messages
        message, content = voted(is_in_favour)
    told = Lies(inverts_votes=True).told(message, content)
    assert Ballot.from_record(told["metrics"]) == Ballot(not is_in_favour, 0.75, 0.5, 40)
    assert Lies().told(message, content) == content
    # Losses and counts that are lied about besides: ten times the losses, half the examples.
    both = Lies(loss_factor=10.0, examples_factor=0.5, inverts_votes=True).told(message, content)
    assert Ballot.from_record(both["metrics"]) == Ballot(not is_in_favour, 7.5, 5.0, 20)
