"""Committees of scripted voters on a real grid: who is asked, who counts, and when it ends.

Devices have a latency of 1 s, so that a question and its answer take 2 virtual seconds.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from daafl.learning.layout import Layout
from daafl.messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    PACKED,
    STEPS,
    TELEMETRY,
    Assignment,
    Ballot,
    Hello,
)
from daafl.observability.events import Vote
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies import LocalTraining, Pacing, Settings
from daafl.strategies.collecting import Tally
from daafl.strategies.composing import Job, Parts, composed
from daafl.strategies.consensus import Committee
from daafl.strategies.design import designed
from daafl.strategies.selection import uniform

LAYOUT = Layout.of({"w": np.zeros(3, np.float32)})
CANDIDATE, ACCEPTED = (np.full(12, value, np.uint8) for value in (1, 2))

YES, NO = Ballot(True, 0.5, 1.0, 10).to_record(), Ballot(False, 1.0, 0.5, 10).to_record()
BALLOTS: dict[str, MetricRecord] = {
    "yes": YES,
    "no": NO,
    "slow": YES,
    "late": YES,
    "both": MetricRecord({**YES, "in-favour": 2}),
    "more": MetricRecord({**YES, "gossip": 1}),
    "nothing": MetricRecord({}),
    "dream": MetricRecord({**YES, "loss": math.inf}),
}
SECONDS = {"slow": 7.0, "late": 1e6, "busy": 50.0}


def scripted(votes: Mapping[int, str], asked: list[int]) -> ClientApp:
    """Return an app whose nodes vote as told; by default, they are in favour."""
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        greeting = Hello(node, 10, LAYOUT.digest, "test", 0)
        return Message(RecordDict({CONFIG: greeting.to_record()}), reply_to=message)

    @app.query("vote")
    def vote(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        asked.append(node)
        choice = votes.get(node, "yes")
        arrays = message.content[ARRAYS]
        assert list(arrays[PACKED].numpy()) == list(CANDIDATE)
        assert list(arrays["accepted"].numpy()) == list(ACCEPTED)
        assert Assignment.from_record(message.content[CONFIG]).branch == "main"
        if choice == "raise":
            raise ValueError("no data here")
        telemetry = ConfigRecord({STEPS: SECONDS.get(choice, 0.0)})
        content = RecordDict({METRICS: BALLOTS[choice], TELEMETRY: telemetry})
        if choice == "empty":
            del content[METRICS]
        return Message(content, reply_to=message)

    return app


BALLOTS["empty"] = YES


@dataclass
class Hall:
    """A federation to vote in."""

    parts: Parts
    asked: list[int]
    tally: Tally = field(default_factory=Tally)

    def vote(
        self, *, excluded: frozenset[int] = frozenset(), threshold: float = 0.5, **options: Any
    ) -> Vote | None:
        parts = self.parts
        parts.collector.tally = self.tally
        timeout_s = options.pop("timeout_s", 100.0)
        return Committee(parts.mailbox, parts.collector, **options).vote(
            parts.branch,
            CANDIDATE,
            ACCEPTED,
            accepted_version=3,
            excluded=excluded,
            threshold=threshold,
            tally=self.tally,
            reply_timeout_s=timeout_s,
        )

    @property
    def now_s(self) -> float:
        return self.parts.clock.now_s()


MakeHall = Callable[..., Any]


@contextmanager
def hall_of(
    votes: Mapping[int, str] | None = None, *, num_nodes: int = 30, seed: int = 0
) -> Iterator[Hall]:
    asked: list[int] = []
    devices = Devices.uniform(num_nodes, seconds_per_step=1.0, latency_s=1.0)
    app = scripted(votes or {}, asked)
    with InProcessGrid(app, num_nodes, fleet=devices, workers=0) as grid:
        design = designed(
            None,
            pacing=Pacing(),
            training=LocalTraining(),
            settings=Settings(seed=seed),
            loops=(),
            overrides=(),
            select=uniform,
        )
        packed = LAYOUT.pack({"w": np.zeros(3, np.float32)})
        job = Job(LAYOUT, packed, 1, 600.0, None, None)
        parts = composed(
            design, job, grid, grid, beliefs={}, record=lambda *_, **__: None, observers=()
        )
        parts.roster.gather()
        parts.branch.members = parts.roster.nodes
        parts.branch.version = 5
        yield Hall(parts, asked)


def everybody(choice: str, count: int = 30) -> dict[int, str]:
    return dict.fromkeys(range(count), choice)


def test_fifteen_are_seated_and_the_share_in_favour_decides() -> None:
    with hall_of() as hall:
        vote = hall.vote()
        assert vote == Vote(5, 3, 15, 15, 0, 0.5, "adopted")
        assert len(set(hall.asked)) == len(hall.asked) == 15
        assert hall.now_s == pytest.approx(2.0 + 2.0)  # two for the greetings
        assert hall.tally == Tally()
    with hall_of(everybody("no")) as hall:
        assert hall.vote() == Vote(5, 3, 15, 0, 15, 0.5, "rejected")


@pytest.mark.parametrize(
    ("num_against", "threshold", "outcome"),
    [
        (5, 2 / 3, "adopted"),  # 10 of 15 are two thirds
        (6, 2 / 3, "rejected"),
        (5, 0.65, "adopted"),
        (7, 0.5, "adopted"),
        (8, 0.5, "rejected"),
    ],
)
def test_the_threshold_is_a_share_of_those_who_vote(
    num_against: int, threshold: float, outcome: str
) -> None:
    with hall_of(everybody("no", num_against), num_nodes=15) as hall:
        vote = hall.vote(threshold=threshold)
        assert vote is not None
        assert (vote.in_favour, vote.against) == (15 - num_against, num_against)
        assert vote.outcome == outcome


def test_nobody_who_is_excluded_gets_a_seat() -> None:
    with hall_of() as hall:
        vote = hall.vote(excluded=frozenset(range(20)))
        assert sorted(hall.asked) == list(range(20, 30))
        assert vote is not None
        assert (vote.seated, vote.outcome) == (10, "adopted")


def test_fewer_than_three_voters_are_no_committee(caplog: pytest.LogCaptureFixture) -> None:
    with hall_of() as hall:
        assert hall.vote(excluded=frozenset(range(28))) is None
        assert hall.asked == []
        assert "2 nodes may vote, but 3 are needed" in caplog.text
        vote = hall.vote(excluded=frozenset(range(27)))
        assert vote is not None
        assert (vote.seated, vote.outcome) == (3, "adopted")


def test_seats_are_drawn_from_seed_and_ticket() -> None:
    def seated(seed: int, num_votes: int) -> list[list[int]]:
        with hall_of(seed=seed) as hall:
            for _ in range(num_votes):
                hall.vote()
            return [sorted(hall.asked[i : i + 15]) for i in range(0, len(hall.asked), 15)]

    first, second = seated(0, 2)
    assert first != second
    assert seated(0, 2) == [first, second]
    assert seated(1, 1) != [first]


def test_all_nodes_are_drawn_equally_often() -> None:
    with hall_of() as hall:
        for _ in range(80):
            hall.vote(size=10)
        counts = Counter(hall.asked)
    # 800 seats for 30 nodes: 26.7 each, with a deviation of sqrt(80 * 1/3 * 2/3) = 4.2.
    assert set(counts) == set(range(30))
    assert max(abs(count - 800 / 30) for count in counts.values()) < 4 * 4.2


@pytest.mark.parametrize("choice", ["raise", "both", "more", "nothing", "dream", "empty"])
def test_what_is_no_ballot_is_silence_and_counted_against_its_sender(choice: str) -> None:
    with hall_of({4: choice}, num_nodes=10) as hall:
        vote = hall.vote()
        assert vote == Vote(5, 3, 10, 9, 0, 0.5, "adopted")
        reason = {"raise": "client_app_raised", "dream": "plausibility"}.get(choice, "schema")
        assert hall.tally.rejected + hall.tally.failures == Counter({reason: 1})
        assert hall.now_s == pytest.approx(4.0)


def test_a_silent_voter_does_not_hold_up_a_vote_that_is_certain() -> None:
    # Nine of ten are in favour after 2 s; the last one is waited for as long again, and given up.
    with hall_of({4: "late"}, num_nodes=10) as hall:
        vote = hall.vote()
        assert vote == Vote(5, 3, 10, 9, 0, 0.5, "adopted")
        assert hall.now_s == pytest.approx(2.0 + 4.0)
        # It is late now, and is not asked again until it has answered or is forgotten.
        hall.asked.clear()
        assert hall.vote() == Vote(5, 3, 9, 9, 0, 0.5, "adopted")
        assert 4 not in hall.asked


def test_a_slow_vote_that_may_turn_the_outcome_is_waited_for() -> None:
    # Five against four at 2 s, a threshold of one half: the tenth, at 9 s, makes it a tie.
    votes = {**everybody("no", 5), 9: "slow"}
    with hall_of(votes, num_nodes=10) as hall:
        assert hall.vote() == Vote(5, 3, 10, 5, 5, 0.5, "adopted")
        assert hall.now_s == pytest.approx(2.0 + 9.0)


def test_silence_beyond_the_timeout_is_no_vote() -> None:
    votes = {**everybody("no", 5), 9: "late"}
    with hall_of(votes, num_nodes=10) as hall:
        assert hall.vote(timeout_s=30.0) == Vote(5, 3, 10, 4, 5, 0.5, "rejected")
        assert hall.now_s == pytest.approx(2.0 + 30.0)
        assert hall.tally.failures == {"timeout": 1}


def test_the_silent_are_replaced_once_if_too_few_vote() -> None:
    # Half of twelve nodes are silent, and with this seed four of the first nine: five votes, where
    # nine seats need six. Of the other three, asked after 30 s, one votes 2 s later, and the two
    # silent ones are given up after as long again.
    with hall_of(everybody("late", 6), num_nodes=12, seed=2) as hall:
        vote = hall.vote(size=9, timeout_s=30.0)
        assert sum(node < 6 for node in hall.asked[:9]) == 4
        assert len(set(hall.asked)) == len(hall.asked) == 12
        assert vote == Vote(5, 3, 9, 6, 0, 0.5, "adopted")
        assert hall.now_s == pytest.approx(2.0 + 30.0 + 4.0)
        assert hall.tally.failures == {"timeout": 4}


def test_without_a_quorum_there_is_no_outcome() -> None:
    with hall_of(everybody("raise", 4), num_nodes=9) as hall:
        assert hall.vote() == Vote(5, 3, 9, 5, 0, 0.5, "no_quorum")
        assert hall.tally.failures == {"client_app_raised": 4}
    with hall_of(everybody("raise", 1), num_nodes=3) as hall:
        assert hall.vote() == Vote(5, 3, 3, 2, 0, 0.5, "no_quorum")


def test_a_third_of_liars_decides_nothing() -> None:
    # With f = 1/3 liars among 15 and the threshold that belongs to it, (1 + f) / 2 = 2/3.
    for lie, truth, outcome in (("yes", "no", "rejected"), ("no", "yes", "adopted")):
        votes = {**everybody(truth, 15), **everybody(lie, 5)}
        with hall_of(votes, num_nodes=15) as hall:
            vote = hall.vote(threshold=2 / 3)
            assert vote is not None
            assert vote.outcome == outcome
