"""Nodes that a grid vouches for: nobody greets them, and their number costs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.simulation import InProcessGrid
from daafl.store.checkpoint import Checkpoints
from daafl.strategies import Pacing
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.registered import RegisteredRoster

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]
FIRST = 1000  # Flower's id of partition 0


class Nodes:
    """A registry of nodes that are all online, unless ``is_online`` says otherwise."""

    def __init__(self, num_nodes: int) -> None:
        self.num_nodes = num_nodes
        self.is_online: Callable[[np.ndarray], np.ndarray] = lambda nodes: np.ones(len(nodes), bool)
        self.num_seen = 0

    def address(self, nodes: np.ndarray) -> np.ndarray:
        self.num_seen += len(nodes)
        return nodes + FIRST

    def num_examples(self, nodes: np.ndarray) -> np.ndarray:
        return np.full(len(nodes), 10)

    def online(self, nodes: np.ndarray) -> np.ndarray:
        return self.is_online(nodes)


class Registering(InProcessGrid):
    """A grid that vouches for its nodes."""

    def __init__(self, app: ClientApp, num_nodes: int, **options: Any) -> None:
        super().__init__(app, num_nodes, **options)
        self.registered = Nodes(num_nodes)  # type: ignore[assignment]  # another registry


@pytest.fixture
def grid(request: pytest.FixtureRequest, make_app: MakeApp) -> InProcessGrid:
    grid = InProcessGrid(make_app(), 4, workers=0)
    request.addfinalizer(grid.close)
    return grid


def test_a_run_is_that_of_a_federation_that_was_greeted(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    faults = {3: "raise", 5: "nan"}
    greeted, registered = (
        federate(
            app=make_app(faults, approach),
            make_grid=make_grid,
            num_nodes=9,
            num_rounds=6,
            pacing=Pacing(concurrency=4, quorum=3),
        )
        for make_grid in (InProcessGrid, Registering)
    )
    assert registered.weights == greeted.weights
    assert [step.num_updates for step in registered.steps] == [
        step.num_updates for step in greeted.steps
    ]
    assert registered.summary.nodes == 9


def test_a_million_nodes_are_a_range(grid: InProcessGrid) -> None:
    nodes, mailbox = Nodes(1_000_000), Mailbox(grid, grid)
    roster = RegisteredRoster(nodes, mailbox, min_nodes=2, node_timeout_s=5.0)
    roster.gather()
    assert mailbox.last_id == 1_000_000  # as many as greetings would have taken
    roster.refresh()
    assert mailbox.last_id == 1_000_000
    pool = roster.pool(roster.nodes, {0, 7})
    chosen = pool.drawn(1000, np.random.default_rng(0))
    facts = roster.facts(chosen)
    assert [known.address for known in facts] == [FIRST + node for node in chosen]
    assert roster.num_examples(chosen) == 10_000
    assert roster.facts([-1, 1_000_000]) == []
    assert nodes.num_seen == 1000
    assert len(json.dumps(roster.state().__dict__)) < 200


def test_a_later_coordinator_counts_no_node_twice(grid: InProcessGrid) -> None:
    mailbox = Mailbox(grid, grid)
    roster = RegisteredRoster(Nodes(10), mailbox, min_nodes=2, node_timeout_s=5.0)
    roster.gather()
    later = RegisteredRoster(Nodes(10), mailbox, min_nodes=2, node_timeout_s=5.0)
    later.load(roster.state(), is_same_run=False)
    later.gather()
    assert mailbox.last_id == 10


def test_nodes_that_are_not_online_are_waited_for(grid: InProcessGrid) -> None:
    nodes = Nodes(10_000)
    nodes.is_online = lambda ids: (ids == 9_999) | (grid.now_s() >= 3.0)
    roster = RegisteredRoster(nodes, Mailbox(grid, grid), min_nodes=2, node_timeout_s=5.0)
    roster.gather()
    assert grid.now_s() == 3.0
    nodes.is_online = lambda ids: ids == 9_999
    with pytest.raises(FederationError, match="only 1 of at least 2 nodes were online within 5 s"):
        roster.refresh()
    assert grid.now_s() == 8.0


def test_a_checkpoint_is_of_the_same_size_for_any_number_of_nodes(
    federate: Federate, tmp_path: Path
) -> None:
    def size(num_nodes: int) -> int:
        folder = tmp_path / str(num_nodes)
        with pytest.raises(KeyboardInterrupt):
            federate(
                make_grid=Registering,
                num_nodes=num_nodes,
                num_rounds=4,
                pacing=Pacing(concurrency=3, quorum=3),
                checkpoints=folder,
                observers=[_Interrupting()],
            )
        checkpoint = Checkpoints(folder).latest()
        assert checkpoint is not None
        state: Any = checkpoint.state
        state["parts"].pop("grid")  # not the coordinator's
        return len(repr(state))

    assert abs(size(20_000) - size(2_000)) < 100  # digits of ids


class _Interrupting:
    def started(self, info: Any) -> None: ...

    def stepped(self, record: Any) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    def finished(self, summary: Any) -> None: ...
