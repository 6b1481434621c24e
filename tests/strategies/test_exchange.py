import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from daafl.errors import MessageError, StoreError
from daafl.learning.layout import Layout
from daafl.messages import (
    ARRAYS,
    CONFIG,
    ENVELOPE,
    METRICS,
    PACKED,
    STEPS,
    TELEMETRY,
    Assignment,
    Envelope,
)
from daafl.simulation import Devices
from daafl.strategies import Pacing
from daafl.strategies.exchange import Member, PlainExchange
from daafl.strategies.mailbox import Arrival, Ticket

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]
Spoil = Callable[[RecordDict, str], None]

ASSIGNMENT = Assignment(federation="federation", version=2, lr=0.25, plan_hash="plan")
TICKET = Ticket(5, "train", 3, "main", 2, 0, 0.0, 10.0, assignment=ASSIGNMENT, num_examples=10)
BASE = np.zeros(3, np.float32).view(np.uint8)

REASONS = {
    "no envelope": "schema",
    "other federation": "freshness",
    "other branch": "freshness",
    "old version": "freshness",
    "other node": "freshness",
    "other plan": "freshness",
    "signed": "signature",
    "private": "privacy_claim",
    "long text": "size",
    "unknown field": "schema",
    "future format": "schema",
    "secret codec": "schema",
    "wrong type": "schema",
    "no metrics": "schema",
    "negative examples": "sample_count",
    "no example": "sample_count",
    "too many examples": "sample_count",
    "nan examples": "sample_count",
    "huge integer": "sample_count",
    "boasted examples": "sample_count",
    "endless gain": "plausibility",
    "huge negative loss": "plausibility",
    "perfect and more": "plausibility",
    "more work": "plausibility",
    "less than no work": "plausibility",
    "work in words": "schema",
    "unknown record": "schema",
    "long list": "size",
    "hoard": "size",
    "many hoards": "size",
    "many metrics": "schema",
    "long name": "schema",
    "no arrays": "schema",
    "shape": "shape",
    "dtype": "dtype",
    "nan": "finiteness",
    "infinity": "finiteness",
    "largest": "norm",
    "named": "schema",
    "two arrays": "schema",
    "garbage": "schema",
}
HARMLESS = ("nan loss", "infinite loss", "huge loss", "huge integer loss", "no telemetry")


def good_content(sequence: int = 1) -> RecordDict:
    trained = np.array([1.0, 2.0, 3.0], np.float32)
    return RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(trained.view(np.uint8))}),
            METRICS: MetricRecord({"num-examples": 10, "train_loss": 0.5, "list": [1.0, 2.0]}),
            ENVELOPE: Envelope("federation", "main", 2, 3, sequence, "plan").to_record(),
            TELEMETRY: ConfigRecord({STEPS: 10, "seconds": 0.5}),
        }
    )


@pytest.fixture
def exchange(layout: Layout) -> PlainExchange:
    return PlainExchange("federation", layout)


def arrival(content: RecordDict | None, ticket: Ticket = TICKET) -> Arrival:
    return Arrival(ticket, content, "", 1.0)


def test_a_cohort_shares_one_copy_of_the_model(exchange: PlainExchange) -> None:
    first, second = exchange.begin(
        [Member(1003, TICKET, ASSIGNMENT), Member(1004, TICKET, ASSIGNMENT)], BASE
    )
    assert first.content[ARRAYS] is second.content[ARRAYS]
    assert first.content[ARRAYS][PACKED].numpy().tolist() == [0] * 12
    assert Assignment.from_record(first.content[CONFIG]).lr == 0.25
    assert (first.address, second.address, first.message_type) == (1003, 1004, "train")


def test_a_good_reply_is_one_update_against_the_model_that_was_sent(
    exchange: PlainExchange,
) -> None:
    base = np.array([0.5, 0.5, 0.5], np.float32).view(np.uint8)
    (update,) = exchange.receive(arrival(good_content()), base).updates
    assert update.delta.tolist() == [0.5, 1.5, 2.5]
    assert (update.num_examples, update.senders, update.version) == (10.0, (3,), 2)
    assert dict(update.metrics) == {"num-examples": 10.0, "train_loss": 0.5}
    assert update.damping == 1.0
    assert update.received is not None
    assert update.received.view(np.float32).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=list(REASONS))
def test_a_bad_reply_is_refused_with_its_reason(
    exchange: PlainExchange, spoil: Spoil, fault: str, reason: str
) -> None:
    content = good_content()
    spoil(content, fault)
    with pytest.raises(MessageError) as refusal:
        exchange.receive(arrival(content), BASE)
    assert refusal.value.reason == reason


def test_a_refused_reply_does_not_use_up_its_identity(
    exchange: PlainExchange, spoil: Spoil
) -> None:
    content = good_content()
    spoil(content, "nan")
    with pytest.raises(MessageError):
        exchange.receive(arrival(content), BASE)
    assert exchange.receive(arrival(good_content()), BASE).updates


def test_an_update_is_accepted_once(exchange: PlainExchange) -> None:
    exchange.receive(arrival(good_content(sequence=1)), BASE)
    exchange.receive(arrival(good_content(sequence=2)), BASE)
    with pytest.raises(MessageError, match="accepted before") as refusal:
        exchange.receive(arrival(good_content(sequence=2)), BASE)
    assert refusal.value.reason == "duplicate"


def test_within_a_version_a_sequence_only_grows(exchange: PlainExchange) -> None:
    exchange.receive(arrival(good_content(sequence=7)), BASE)
    with pytest.raises(MessageError, match="comes after update 7") as refusal:
        exchange.receive(arrival(good_content(sequence=6)), BASE)
    assert refusal.value.reason == "freshness"
    assert exchange.receive(arrival(good_content(sequence=9)), BASE).updates


def test_a_node_that_forgot_its_sequence_begins_anew_with_the_next_version(
    exchange: PlainExchange,
) -> None:
    exchange.receive(arrival(good_content(sequence=7)), BASE)
    content = good_content(sequence=1)
    content[ENVELOPE]["base-version"] = 3
    assert exchange.receive(arrival(content, replace(TICKET, version=3)), BASE).updates
    # What was sent for an older version does not come in any more, whatever the ticket says.
    with pytest.raises(MessageError, match="freshness"):
        exchange.receive(arrival(good_content(sequence=8)), BASE)
    with pytest.raises(MessageError, match="freshness"):
        exchange.receive(arrival(good_content(sequence=8), replace(TICKET, version=3)), BASE)


def test_what_is_remembered_of_accepted_updates_is_bounded(layout: Layout) -> None:
    exchange = PlainExchange("federation", layout, memory=3)

    def receive(node: int) -> None:
        content = good_content()
        content[ENVELOPE]["node"] = node
        exchange.receive(arrival(content, replace(TICKET, node=node)), BASE)

    for node in range(4):
        receive(node)
    receive(0)  # forgotten by now
    with pytest.raises(MessageError, match="accepted before"):
        receive(3)


def test_a_restarted_coordinator_still_accepts_an_update_once(layout: Layout) -> None:
    first, second = (PlainExchange("federation", layout) for _ in range(2))
    first.receive(arrival(good_content(sequence=4)), BASE)
    second.load(first.state())
    with pytest.raises(MessageError, match="accepted before"):
        second.receive(arrival(good_content(sequence=4)), BASE)
    assert second.state() == [["main", 3, 2, 4]]


@pytest.mark.parametrize("state", [None, [["main", 3, 2]], [["main", "3", 2, 4]], "main"])
def test_a_state_that_is_none_is_refused(exchange: PlainExchange, state: Any) -> None:
    with pytest.raises(StoreError, match="use another checkpoint"):
        exchange.load(state)


@pytest.mark.parametrize("fault", ["nan loss", "infinite loss", "huge integer loss"])
def test_a_loss_that_is_no_number_counts_as_infinite(
    exchange: PlainExchange, spoil: Spoil, fault: str
) -> None:
    content = good_content()
    spoil(content, fault)
    (update,) = exchange.receive(arrival(content), BASE).updates
    assert update.metrics["train_loss"] == math.inf


def test_records_of_the_wrong_kind_are_refused(exchange: PlainExchange) -> None:
    wrong: Mapping[str, Any] = {
        ARRAYS: ConfigRecord({PACKED: b"123"}),
        METRICS: ConfigRecord({"num-examples": 10}),
        ENVELOPE: MetricRecord({"node": 3}),
    }
    for name, record in wrong.items():
        content = good_content()
        content[name] = record
        with pytest.raises(MessageError, match="schema"):
            exchange.receive(arrival(content), BASE)
    with pytest.raises(MessageError, match="empty"):
        exchange.receive(arrival(None), BASE)


def test_every_bad_update_costs_its_sender_that_update_and_the_steps_go_on(
    federate: Federate, make_app: MakeApp
) -> None:
    """One node per fault beside three good ones: each reason is counted in every step."""
    faults = dict(enumerate([*REASONS, *HARMLESS, "raise"]))
    num_nodes = len(faults) + 3
    federation = federate(
        app=make_app(faults),
        num_nodes=num_nodes,
        num_rounds=2,
        pacing=Pacing(concurrency=num_nodes, quorum=num_nodes),
    )
    expected = {reason: list(REASONS.values()).count(reason) for reason in REASONS.values()}
    for record in federation.steps:
        assert record.rejected == expected
        assert record.failures == {"client_app_raised": 1}
        assert record.num_updates == 3 + len(HARMLESS)
        assert record.train_loss is not None and math.isfinite(record.train_loss)


def test_a_repeated_update_is_counted_once(federate: Federate, make_app: MakeApp) -> None:
    # Node 0 takes 1 s and numbers all its updates 1; node 1 takes 3 s. At 2 s node 0 sends its
    # second update from version 0, which is refused as the first one again; after a refusal nobody
    # is asked, so the step closes at 3 s with the update of node 1.
    pacing = Pacing(concurrency=2, quorum=2, max_staleness=9, refill="reply")
    federation = federate(
        app=make_app({0: "same sequence"}),
        num_nodes=2,
        num_rounds=1,
        pacing=pacing,
        fleet=Devices([0.1, 0.3], [0.0, 0.0]),
    )
    (step,) = federation.steps
    assert (step.rejected, step.num_updates, step.clock_s) == ({"duplicate": 1}, 2, 3.0)


def test_hanging_and_dying_nodes_cost_their_update(federate: Federate, make_app: MakeApp) -> None:
    app = make_app({(0, 0): "hang", (1, 0): "die"})
    federation = federate(app=app, workers=2, message_timeout_s=0.5, num_rounds=2)
    first, second = federation.steps
    assert first.failures == {"reply_unavailable": 1, "client_app_crashed": 1}
    assert (first.num_updates, second.num_updates) == (2, 4)
    assert federation.weights == [2.0] * 3
