"""Who takes part, on a grid whose nodes come and go."""

from collections.abc import Callable
from typing import Any

import pytest
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.learning.layout import Layout
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies import Pacing, Settings
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.roster import Roster

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]
FIRST = 1000  # Flower's id of partition 0


class ComingAndGoing(InProcessGrid):
    """A grid of which only some nodes are here; ``schedule`` changes that at given times."""

    absent: frozenset[int] = frozenset()
    schedule: tuple[tuple[float, frozenset[int]], ...] = ()

    def get_node_ids(self) -> list[int]:
        absent = self.absent
        for from_s, partitions in self.schedule:
            absent = partitions if self.now_s() >= from_s else absent
        return [node for node in super().get_node_ids() if node - FIRST not in absent]


MakeRoster = Callable[..., tuple[Roster, ComingAndGoing]]


@pytest.fixture
def make_roster(request: pytest.FixtureRequest, make_app: MakeApp, layout: Layout) -> MakeRoster:
    """Return a maker of a roster and its grid."""

    def make(
        num_nodes: int = 4, *, min_nodes: int = 2, timeout_s: float = 60.0, **script: Any
    ) -> tuple[Roster, ComingAndGoing]:
        devices = Devices.uniform(num_nodes, seconds_per_step=0.1, latency_s=0.0)
        grid = ComingAndGoing(make_app(**script), num_nodes, fleet=devices, workers=0)
        request.addfinalizer(grid.close)
        roster = Roster(
            grid,
            Mailbox(grid, grid),
            layout=layout.digest,
            min_nodes=min_nodes,
            node_timeout_s=timeout_s,
            reply_timeout_s=5.0,
        )
        return roster, grid

    return make


def test_all_nodes_that_are_expected_are_waited_for(make_roster: MakeRoster) -> None:
    roster, grid = make_roster()
    grid.absent = frozenset({2, 3})
    grid.schedule = ((10.0, frozenset()),)
    roster.gather()
    assert roster.nodes == (0, 1, 2, 3)
    assert grid.now_s() == 10.0


def test_enough_nodes_will_do_when_the_others_do_not_come(make_roster: MakeRoster) -> None:
    roster, grid = make_roster(timeout_s=20.0)
    grid.absent = frozenset({3})
    roster.gather()
    assert roster.nodes == (0, 1, 2)
    assert grid.now_s() == 20.0


def test_too_few_nodes_are_reported_in_numbers_with_a_reason(make_roster: MakeRoster) -> None:
    roster, _ = make_roster(min_nodes=3, faults=dict.fromkeys((1, 2, 3), "hello raise"))
    with pytest.raises(
        FederationError,
        match=r"only 1 of at least 3 nodes answered within 60 s \(node 1001 did not answer: ",
    ):
        roster.gather()


def test_facts_come_from_the_greeting(make_roster: MakeRoster) -> None:
    roster, _ = make_roster(claims={1: {"num_examples": 77, "software": "toaster 2"}})
    roster.gather()
    (facts,) = roster.facts([1])
    assert (facts.node, facts.address) == (1, FIRST + 1)
    assert (facts.num_examples, facts.software) == (77, "toaster 2")
    assert roster.facts([99]) == []


def test_a_node_with_another_model_is_refused(make_roster: MakeRoster) -> None:
    roster, _ = make_roster(claims={2: {"layout": "feedfacefeedface"}}, timeout_s=3.0)
    roster.gather()
    assert roster.nodes == (0, 1, 3)
    assert "has layout feedfacefeedface, the coordinator's" in roster.refused[FIRST + 2]


def test_one_that_lies_about_the_size_of_the_federation_is_outvoted(
    make_roster: MakeRoster,
) -> None:
    roster, grid = make_roster(claims={0: {"num_nodes": 2**53}})
    roster.gather()
    assert roster.expected_nodes == 4
    assert grid.now_s() == 0.0


def test_a_broken_node_is_greeted_again(make_roster: MakeRoster) -> None:
    roster, grid = make_roster(timeout_s=3.0)
    grid.absent = frozenset({0})
    roster.gather()
    assert roster.nodes == (1, 2, 3)
    grid.absent = frozenset()
    roster.refresh()
    grid.wait(0.0)
    roster.gather()
    assert roster.nodes == (0, 1, 2, 3)


def test_a_node_that_fails_every_greeting_is_not_waited_for(make_roster: MakeRoster) -> None:
    roster, grid = make_roster(faults={0: "hello raise"})
    roster.gather()
    assert roster.nodes == (1, 2, 3)
    assert grid.now_s() == 1.0  # one pause between the two greetings
    roster.refresh()
    assert "did not answer" in roster.refused[FIRST]


def test_a_node_that_is_gone_takes_no_part_until_it_returns(make_roster: MakeRoster) -> None:
    roster, grid = make_roster(timeout_s=3.0)
    roster.gather()
    grid.absent = frozenset({1})
    roster.refresh()
    assert roster.nodes == (0, 2, 3)
    grid.absent = frozenset()
    roster.gather()
    assert roster.nodes == (0, 1, 2, 3)


def test_an_identity_belongs_to_who_came_first_for_as_long_as_it_is_here(
    make_roster: MakeRoster,
) -> None:
    # The node behind address 1003 says that it is node 1.
    roster, grid = make_roster(claims={3: {"node": 1}}, timeout_s=2.0)
    roster.gather()
    assert roster.facts([1])[0].address == FIRST + 1
    assert "already taken by 1001" in roster.refused[FIRST + 3]
    grid.absent = frozenset({1})
    roster.gather()
    assert roster.facts([1])[0].address == FIRST + 3
    grid.absent = frozenset()
    roster.gather()
    assert roster.facts([1])[0].address == FIRST + 3
    assert set(roster.refused) == {FIRST + 1}


def test_what_is_kept_about_nodes_that_are_gone_does_not_grow(make_roster: MakeRoster) -> None:
    roster, grid = make_roster(
        claims={2: {"layout": "feedfacefeedface"}, 3: {"node": 1}}, timeout_s=2.0
    )
    roster.gather()
    grid.absent = frozenset({1, 2, 3})
    with pytest.raises(FederationError, match="only 1 of at least 2"):
        roster.refresh()
    assert roster.refused == {}
    assert roster.nodes == (0,)
    assert roster.expected_nodes == 4


def test_nodes_that_appear_train_from_the_next_step_on(
    federate: Federate,
) -> None:
    class Late(ComingAndGoing):
        absent = frozenset({2, 3})
        schedule = ((63.5, frozenset()),)

    # Two nodes are expected in vain for 60 s. They appear during the fourth step, are greeted in
    # the fifth and asked in the sixth.
    federation = federate(make_grid=Late, num_rounds=7)
    assert [record.num_updates for record in federation.steps] == [2, 2, 2, 2, 2, 4, 4]
    assert federation.steps[0].clock_s == 61.0


def test_nodes_that_vanish_are_not_asked_any_more(federate: Federate) -> None:
    class Leaving(ComingAndGoing):
        schedule = ((1.5, frozenset({0})),)

    federation = federate(make_grid=Leaving, num_rounds=4)
    assert [record.num_updates for record in federation.steps] == [4, 4, 3, 3]


def test_a_run_waits_for_nodes_to_return_when_too_few_are_left(federate: Federate) -> None:
    class Outage(ComingAndGoing):
        schedule = ((1.5, frozenset({0, 1, 2, 3})), (31.5, frozenset()))

    federation = federate(make_grid=Outage, num_rounds=4)
    assert [record.num_updates for record in federation.steps] == [4, 4, 4, 4]
    assert [record.clock_s for record in federation.steps] == [1.0, 2.0, 33.0, 34.0]


def test_a_run_whose_nodes_do_not_return_fails_with_numbers(
    federate: Federate, watcher: Any
) -> None:
    class End(ComingAndGoing):
        schedule = ((1.5, frozenset({1, 2, 3})),)

    with pytest.raises(FederationError, match="only 1 of at least 2 nodes"):
        federate(
            make_grid=End,
            num_rounds=4,
            pacing=Pacing(concurrency=4, quorum=4),
            settings=Settings(node_timeout_s=30.0, evaluate_every=0),
        )
    assert watcher.summary.status == "failed"
    assert watcher.summary.rounds == 2
