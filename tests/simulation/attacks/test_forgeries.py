"""Answers that break the protocol, and what the coordinator's own checks make of them."""

from collections.abc import Callable

import numpy as np
import pytest

from daafl.errors import ConfigError, MessageError
from daafl.learning.task import Task
from daafl.messages import Envelope
from daafl.simulation.attacks import (
    Attack,
    Behaviour,
    Duplicated,
    NotFinite,
    Oversized,
    Replayed,
    WrongShape,
)
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.mailbox import Arrival, Ticket

Ask = Callable[..., object]


def ticket(number: int, version: int) -> Ticket:
    return Ticket(number, "train", 1, "main", version, 0, 0.0, 10.0, num_examples=4)


def arrival(asked: object, version: int) -> Arrival:
    return Arrival(ticket(1, version), asked.replies[1], "", 0.0)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (NotFinite(), "finiteness"),
        (NotFinite(float("-inf")), "finiteness"),
        (WrongShape(is_short=True), "shape"),
        (WrongShape(is_short=False), "shape"),
        (Oversized(factor=16), "shape"),
        (Oversized(factor=10**9, only_claims=True), "shape"),
    ],
    ids=str,
)
def test_the_coordinator_refuses_it_by_name(
    does: Behaviour, reason: str, ask: Ask, means: Task
) -> None:
    asked = ask(means, Attack(does, nodes=[1]))
    exchange = PlainExchange("test", asked.trainer.layout)
    with pytest.raises(MessageError) as caught:
        exchange.receive(arrival(asked, 0), asked.base)
    assert caught.value.reason == reason


def test_oversized_models_are_that_large_or_say_so(ask: Ask, means: Task) -> None:
    true = len(ask(means, None).replies[1]["arrays"]["packed"].data)
    large = ask(means, Attack(Oversized(16), nodes=[1])).replies[1]["arrays"]["packed"]
    # Two float32 values are 8 bytes; the header stays as long.
    assert len(large.data) == true + 15 * 8
    claimed = ask(means, Attack(Oversized(16, only_claims=True), nodes=[1])).replies[1]
    assert len(claimed["arrays"]["packed"].data) == true
    assert tuple(claimed["arrays"]["packed"].shape) == (128,)
    with pytest.raises(ConfigError, match="factor is 1"):
        Oversized(1)


def test_a_replay_is_the_first_reply_again(ask: Ask, means: Task) -> None:
    attack = Attack(Replayed(), nodes=[1], start=2)
    first = ask(means, attack, rounds=[1, 2])
    again = ask(means, attack, rounds=[1, 2, 3, 4])
    assert Envelope.from_record(first.replies[1]["envelope"]).base_version == 1
    for record in ("arrays", "metrics", "envelope"):
        assert again.replies[1][record] == first.replies[1][record]
    exchange = PlainExchange("test", first.trainer.layout)
    with pytest.raises(MessageError) as caught:
        exchange.receive(arrival(again, 3), again.base)
    assert caught.value.reason == "freshness"


def test_a_duplicate_keeps_its_number(ask: Ask, means: Task) -> None:
    attack = Attack(Duplicated(), nodes=[1])
    first = ask(means, attack, rounds=[1])
    same_version = ask(means, attack, rounds=[1, 1])
    assert same_version.replies[1]["envelope"] == first.replies[1]["envelope"]
    assert same_version.replies[1]["arrays"] == first.replies[1]["arrays"]
    exchange = PlainExchange("test", first.trainer.layout)
    exchange.receive(arrival(first, 0), first.base)
    with pytest.raises(MessageError) as caught:
        exchange.receive(arrival(same_version, 0), first.base)
    assert caught.value.reason == "duplicate"
    later = Envelope.from_record(ask(means, attack, rounds=[1, 2]).replies[1]["envelope"])
    assert (later.base_version, later.sequence) == (1, 1)


def test_two_attackers_in_one_process_keep_their_own_replies(ask: Ask, means: Task) -> None:
    asked = ask(means, Attack(Replayed(), nodes=[1, 2]), rounds=[1, 2])
    assert np.array_equal(asked.delta(1), [0, 4])
    assert np.array_equal(asked.delta(2), [6, 2])
