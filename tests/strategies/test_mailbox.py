"""The mailbox on a real grid: a question costs a node as many seconds as it is asked for."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.payload import content_bytes
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies.mailbox import (
    Arrival,
    Mailbox,
    Outgoing,
    Purpose,
    Ticket,
)

NUM_NODES = 4


def sleepy_app() -> ClientApp:
    app = ClientApp()

    @app.query("sleep")
    def sleep(message: Message, context: Context) -> Message:
        seconds = float(message.content["config"]["seconds"])
        if seconds < 0:
            raise ValueError("nobody sleeps backwards")
        content = RecordDict({"telemetry": ConfigRecord({"steps": seconds})})
        return Message(content, reply_to=message)

    @app.query("strike")
    def strike(message: Message, context: Context) -> Message:
        # Anybody may write anything into an error: it must not pass for another reason.
        return Message(Error(4711, "timeout"), reply_to=message)

    return app


class LossyGrid(InProcessGrid):
    """A grid that, as a SuperLink, gives no id to messages for nodes it does not know."""

    lost: frozenset[int] = frozenset()
    max_messages = 100

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        if len(messages) > self.max_messages:
            return []
        return [
            "" if message.metadata.dst_node_id in self.lost else super_push(self, message)
            for message in messages
        ]


def super_push(grid: LossyGrid, message: Message) -> str:
    (message_id,) = InProcessGrid.push_messages(grid, [message])
    return message_id


@pytest.fixture
def grid() -> Iterator[LossyGrid]:
    devices = Devices.uniform(NUM_NODES, seconds_per_step=1.0, latency_s=0.0)
    with LossyGrid(sleepy_app(), NUM_NODES, fleet=devices, workers=0) as made:
        yield made


@pytest.fixture
def mailbox(grid: LossyGrid) -> Mailbox:
    return Mailbox(grid, grid)


Ask = Callable[..., Outgoing]


@pytest.fixture
def question(grid: LossyGrid, mailbox: Mailbox) -> Ask:
    """Return a maker of questions: `question(node, seconds)`."""

    def make(
        node: int,
        seconds: float,
        *,
        purpose: Purpose = "train",
        timeout_s: float = 50.0,
        kind: str = "sleep",
    ) -> Outgoing:
        now_s = grid.now_s()
        ticket = Ticket(mailbox.next_id(), purpose, node, "main", 0, 0, now_s, now_s + timeout_s)
        content = RecordDict({"config": ConfigRecord({"seconds": seconds})})
        return Outgoing(ticket, grid.get_node_ids()[node], f"query.{kind}", content)

    return make


def never() -> bool:
    return False


def test_answers_to_a_question_come_back_in_the_order_of_asking(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    arrivals = mailbox.ask([question(0, 3.0), question(1, 1.0), question(2, 2.0)])
    assert [arrival.ticket.node for arrival in arrivals] == [0, 1, 2]
    assert [arrival.at_s for arrival in arrivals] == [3.0, 1.0, 2.0]
    assert [arrival.error for arrival in arrivals] == ["", "", ""]
    assert grid.now_s() == 3.0
    assert mailbox.ask([]) == []


def test_what_is_settled_waits_as_long_again_for_the_others_and_gives_them_up(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    # Settled by the second answer, at 3 s; the third comes at 6 s, and the fourth too late.
    seconds = (1.0, 3.0, 6.0, 6.5)
    outgoing = [question(node, s, timeout_s=50.0) for node, s in enumerate(seconds)]
    arrivals = mailbox.ask(outgoing, is_settled=lambda so_far: len(so_far) >= 2)
    assert [arrival.ticket.node for arrival in arrivals] == [0, 1, 2]
    assert grid.now_s() == 6.0
    assert (mailbox.late_nodes(), mailbox.busy_nodes()) == ({3}, {3})
    # The late answer is nobody's any more; its node is free after it.
    (arrival,) = mailbox.ask([question(0, 2.0)])
    assert arrival.content is not None
    assert mailbox.busy_nodes() == set()


def test_what_is_never_settled_ends_with_the_last_answer(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    outgoing = [question(0, 1.0), question(1, 9.0, timeout_s=4.0)]
    arrivals = mailbox.ask(outgoing, is_settled=lambda so_far: False)
    assert [arrival.error for arrival in arrivals] == ["", "timeout"]
    assert grid.now_s() == 4.0


def test_silence_and_errors_are_told_apart_by_what_happened_not_by_what_is_said(
    mailbox: Mailbox, question: Ask
) -> None:
    arrivals = mailbox.ask(
        [
            question(0, 100.0, timeout_s=5.0),
            question(1, -1.0),
            question(2, 0.0, kind="strike"),
            question(3, 0.0, kind="unheard"),
        ]
    )
    assert [arrival.error for arrival in arrivals] == [
        "timeout",
        "client_app_raised",
        "unknown",
        "client_app_raised",
    ]
    assert [arrival.content for arrival in arrivals] == [None] * 4
    assert [arrival.at_s for arrival in arrivals] == [5.0, 0.0, 0.0, 0.0]


def test_what_comes_in_time_to_the_instant_counts(mailbox: Mailbox, question: Ask) -> None:
    (arrival,) = mailbox.ask([question(0, 5.0, timeout_s=5.0)])
    assert (arrival.error, arrival.at_s) == ("", 5.0)


def test_a_silent_node_is_busy_until_it_answers(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    mailbox.ask([question(0, 8.0, timeout_s=5.0)])
    assert mailbox.busy_nodes() == mailbox.late_nodes() == {0}
    assert mailbox.pump(lambda: not mailbox.busy_nodes(), math.inf)
    assert grid.now_s() == 8.0


def test_a_node_that_never_answers_is_given_up_after_three_timeouts(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    mailbox.ask([question(0, 1e9, timeout_s=5.0)])
    assert mailbox.pump(lambda: not mailbox.busy_nodes(), math.inf)
    assert grid.now_s() == 15.0
    # Nothing is out any more, so there is nothing to wait for.
    assert not mailbox.pump(never, math.inf)
    assert grid.now_s() == 15.0


def test_an_abandoned_ticket_counts_no_more_but_keeps_its_node_busy(
    mailbox: Mailbox, question: Ask
) -> None:
    arrivals: list[Arrival] = []
    mailbox.on("train", arrivals.append)
    mailbox.send([question(0, 2.0), question(1, 4.0)])
    assert mailbox.abandon(lambda ticket: ticket.node == 0) == 1
    assert [ticket.node for ticket in mailbox.live("train")] == [1]
    assert mailbox.busy_nodes() == {0, 1}
    assert mailbox.late_nodes() == {0}
    assert not mailbox.pump(never, math.inf)
    assert [arrival.ticket.node for arrival in arrivals] == [1]
    assert mailbox.busy_nodes() == set()


def test_pumping_stops_at_its_deadline(mailbox: Mailbox, question: Ask, grid: LossyGrid) -> None:
    mailbox.on("train", lambda arrival: None)
    mailbox.send([question(0, 9.0)])
    assert not mailbox.pump(lambda: not mailbox.live("train"), 4.0)
    assert grid.now_s() == 4.0
    assert mailbox.pump(lambda: not mailbox.live("train"), 20.0)
    assert grid.now_s() == 9.0


def test_training_that_answers_while_another_question_waits_is_filed(
    mailbox: Mailbox, question: Ask
) -> None:
    trained: list[tuple[int, float]] = []
    mailbox.on("train", lambda arrival: trained.append((arrival.ticket.node, arrival.at_s)))
    mailbox.send([question(0, 1.0), question(1, 6.0)])
    arrivals = mailbox.ask([question(2, 3.0, purpose="probe")])
    assert [arrival.ticket.node for arrival in arrivals] == [2]
    assert trained == [(0, 1.0)]
    assert [ticket.node for ticket in mailbox.live("train")] == [1]


def test_a_receiver_may_ask_and_nothing_is_counted_twice(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    # Both tickets are due at 2 s. The receiver of each timeout asks node 2 for 3 s of its time, the
    # second one while the first still waits.
    seen: list[tuple[int, str]] = []
    votes: list[tuple[int, float]] = []

    def receive(arrival: Arrival) -> None:
        seen.append((arrival.ticket.node, arrival.error))
        (answer,) = mailbox.ask([question(2, 3.0, purpose="probe")])
        votes.append((arrival.ticket.node, answer.at_s))

    mailbox.on("train", receive)
    mailbox.send([question(0, 50.0, timeout_s=2.0), question(1, 4.0, timeout_s=2.0)])
    mailbox.pump(lambda: not mailbox.live("train"), math.inf)
    assert votes == [(1, 8.0), (0, 5.0)]
    assert seen == [(0, "timeout"), (1, "timeout")]
    assert mailbox.busy_nodes() == set()  # node 1 answered at 4 s, node 0 was given up at 6 s


def test_a_message_the_grid_does_not_take_fails_at_once_and_is_not_tried_again_and_again(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    grid.lost = frozenset(grid.get_node_ids()[:1])
    arrivals = mailbox.ask([question(0, 1.0, timeout_s=5.0), question(1, 2.0, timeout_s=5.0)])
    assert [(a.error, a.at_s) for a in arrivals] == [("unsent", 0.0), ("", 2.0)]
    assert mailbox.busy_nodes() == {0}
    mailbox.pump(never, math.inf)
    assert mailbox.busy_nodes() == set()


def test_messages_that_are_too_large_for_the_grid_end_the_run_with_their_size(
    mailbox: Mailbox, question: Ask, grid: LossyGrid
) -> None:
    grid.max_messages = 1
    with pytest.raises(FederationError, match="took 0 of 2 messages of up to 8 bytes"):
        mailbox.send([question(0, 1.0), question(1, 1.0)])


def test_bytes_are_counted_both_ways_by_what_the_content_holds(
    mailbox: Mailbox, question: Ask
) -> None:
    mailbox.ask([question(0, 0.0), question(1, 0.0)])
    assert (mailbox.bytes_down, mailbox.bytes_up) == (16, 16)  # one number each


def test_the_size_of_a_content_cannot_be_hidden_in_texts_and_lists() -> None:
    array = Array(np.zeros(1000, np.uint8))
    content = RecordDict(
        {
            "arrays": ArrayRecord({"packed": array}),
            "metrics": MetricRecord({"losses": [1.0] * 50, "one": 1}),
            "config": ConfigRecord(
                {"text": "x" * 300, "none": "", "names": ["ab", "cde"], "empty": [], "flag": True}
            ),
        }
    )
    expected = len(array.data) + (400 + 8) + (300 + 0 + 5 + 0 + 8)
    assert content_bytes(content) == expected
