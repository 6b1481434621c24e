"""Pacing, told by hand: with equal devices a node takes 1 s for 10 steps, and adds 1."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.simulation import Devices
from daafl.strategies import Override, Pacing, Settings

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]

ROOT_HALF = math.sqrt(0.5)  # damping of an update that is one version behind


def speeds(*seconds: float) -> Devices:
    """Return devices that take so many seconds for 10 steps."""
    return Devices([s / 10 for s in seconds], [0.0] * len(seconds))


def updates(federation: Any) -> list[int]:
    return [record.num_updates for record in federation.steps]


def times(federation: Any) -> list[float]:
    return [round(record.clock_s, 6) for record in federation.steps]


def staleness(federation: Any) -> list[int]:
    return [record.staleness for record in federation.steps]


def test_a_synchronous_step_waits_for_the_slowest_and_combines_all(federate: Federate) -> None:
    pacing = Pacing(concurrency=4, quorum=4, reply_timeout_s=50.0)
    federation = federate(pacing=pacing, fleet=speeds(1, 1, 2, 5))
    assert updates(federation) == [4, 4, 4]
    assert times(federation) == [5.0, 10.0, 15.0]
    assert staleness(federation) == [0, 0, 0]
    assert federation.weights == [3.0, 3.0, 3.0]


def test_an_over_selected_step_closes_on_the_quorum_and_leaves_the_slow_behind(
    federate: Federate, make_app: MakeApp
) -> None:
    # 3 of 10 nodes take 100 s. Of 8 nodes that are asked, 5 are fast at least. The slow ones stay
    # busy, so that later steps ask others.
    app = make_app({0: "slow", 1: "slow", 2: "slow"})
    pacing = Pacing(concurrency=8, quorum=5, reply_timeout_s=500.0)
    federation = federate(app=app, num_nodes=10, num_rounds=5, pacing=pacing)
    assert updates(federation) == [5] * 5
    assert times(federation) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert federation.weights == [5.0] * 3


def test_what_arrives_with_the_quorum_is_surplus_and_counted(federate: Federate) -> None:
    federation = federate(num_nodes=8, pacing=Pacing(concurrency=8, quorum=5), num_rounds=2)
    assert updates(federation) == [5, 5]
    assert [record.rejected for record in federation.steps] == [{"surplus": 3}] * 2


def test_a_deadline_closes_a_step_with_what_is_in(federate: Federate) -> None:
    # Node 1 takes 7 s. It answers at 7 s what nobody waits for any more, and is asked again then.
    federation = federate(
        pacing=Pacing(concurrency=2, quorum=2, deadline_s=3.0, reply_timeout_s=500.0),
        num_nodes=2,
        num_rounds=6,
        fleet=speeds(1, 7),
    )
    assert times(federation) == [3.0, 4.0, 5.0, 6.0, 7.0, 10.0]
    assert updates(federation) == [1] * 6


def test_what_comes_at_the_deadline_itself_counts(federate: Federate) -> None:
    pacing = Pacing(concurrency=2, quorum=2, deadline_s=2.0)
    federation = federate(pacing=pacing, num_nodes=2, num_rounds=1, fleet=speeds(1, 2))
    assert (updates(federation), times(federation)) == ([2], [2.0])


def test_a_step_waits_for_nodes_that_are_all_busy_with_what_is_lost(federate: Federate) -> None:
    # Both nodes take 5 s and time out after 4 s. Step 2, which allows more, finds them busy until
    # 5 s, and then asks them.
    federation = federate(
        pacing=Pacing(concurrency=2, quorum=2, reply_timeout_s=4.0),
        num_nodes=2,
        num_rounds=3,
        fleet=speeds(5, 5),
        overrides=[Override(2, "reply_timeout_s", 12.0)],
    )
    assert updates(federation) == [0, 2, 2]
    assert times(federation) == [4.0, 10.0, 15.0]


def test_what_is_out_still_counts_while_there_is_no_newer_model(federate: Federate) -> None:
    # Work takes 5 s, so steps close empty at 2 and 4 s. The third takes what comes at 5 s.
    federation = federate(
        num_rounds=6,
        pacing=Pacing(concurrency=4, quorum=4, deadline_s=2.0, reply_timeout_s=500.0),
        fleet=speeds(5, 5, 5, 5),
    )
    assert updates(federation) == [0, 0, 4, 0, 0, 4]
    assert times(federation) == [2.0, 4.0, 5.0, 7.0, 9.0, 10.0]
    assert staleness(federation) == [0] * 6


def test_answers_to_abandoned_training_are_never_combined(
    federate: Federate, make_app: MakeApp
) -> None:
    # Node 1 answers the assignment of step 1 after 100 s, in the middle of a later step.
    app = make_app(steps={1: 1000})
    pacing = Pacing(concurrency=2, quorum=1, reply_timeout_s=500.0)
    federation = federate(app=app, num_nodes=2, num_rounds=101, pacing=pacing)
    assert updates(federation) == [1] * 101
    assert federation.weights == [101.0] * 3
    assert all(record.rejected == {} for record in federation.steps)


def test_a_ticket_that_times_out_frees_its_place_and_not_its_node(
    federate: Federate, make_app: MakeApp
) -> None:
    # Node 2 never answers and times out after 20 s, in step 1. After 3 timeouts, at 60 s, it may be
    # asked again: from 20 s on, steps take 1 s, so that is in step 42.
    app = make_app({2: "silent"})
    pacing = Pacing(concurrency=3, quorum=3, reply_timeout_s=20.0)
    federation = federate(app=app, num_nodes=3, num_rounds=43, pacing=pacing)
    assert updates(federation) == [2] * 43
    failed = [record.step for record in federation.steps if record.failures == {"timeout": 1}]
    assert failed == [1, 42]
    assert times(federation)[0] == 20.0
    assert times(federation)[40:] == [60.0, 80.0, 81.0]


def test_a_buffered_federation_step_by_step(federate: Federate) -> None:
    # Nodes 0..3 take 1, 2, 3, 10 s; K = 2 of M = 4. "0/v0" is an update of node 0 from version 0.
    #  t  arrives       buffer               step  then asked
    #  1  0/v0          0/v0                       0 at v0
    #  2  1/v0, 0/v0    0/v0, 1/v0 | 0/v0     1    0, 1 at v1
    #  3  2/v0, 0/v1    0/v0, 2/v0 | 0/v1     2    0, 2 at v2
    #  4  1/v1, 0/v2    0/v1, 1/v1 | 0/v2     3    0, 1 at v3
    #  5  0/v3          0/v2, 0/v3            4
    federation = federate(
        pacing=Pacing(concurrency=4, quorum=2, max_staleness=20, refill="reply"),
        fleet=speeds(1, 2, 3, 10),
        num_rounds=4,
    )
    assert times(federation) == [2.0, 3.0, 4.0, 5.0]
    assert updates(federation) == [2, 2, 2, 2]
    assert staleness(federation) == [0, 1, 1, 1]
    # Each update is 1, damped when it is late; the server takes K/M = half of the mean.
    mean = [1.0, ROOT_HALF, ROOT_HALF, (ROOT_HALF + 1.0) / 2]
    assert federation.weights == pytest.approx([0.5 * sum(mean)] * 3)


def test_updates_that_are_too_far_behind_are_dropped_and_counted(federate: Federate) -> None:
    # As above. Node 3 will answer at 10 s from version 0; with version 8, at 9 s, that is in vain.
    federation = federate(
        pacing=Pacing(concurrency=4, quorum=2, max_staleness=7, refill="reply"),
        fleet=speeds(1, 2, 3, 10),
        num_rounds=12,
    )
    assert times(federation)[7] == 9.0
    assert [record.rejected for record in federation.steps] == [{}] * 7 + [{"stale": 1}] + [{}] * 4
    assert max(staleness(federation)) < 8


def test_a_buffered_federation_of_failing_nodes_ends(federate: Federate, make_app: MakeApp) -> None:
    app = make_app(dict.fromkeys(range(4), "raise"))
    pacing = Pacing(concurrency=4, quorum=2, max_staleness=20, refill="reply")
    with pytest.raises(FederationError, match=r"an update for 3 steps .*client_app_raised: 4"):
        federate(app=app, pacing=pacing)


def test_failing_nodes_do_not_keep_the_others_from_training(
    federate: Federate, make_app: MakeApp
) -> None:
    app = make_app({0: "raise", 1: "nan"})
    pacing = Pacing(concurrency=4, quorum=2, max_staleness=20, refill="reply")
    federation = federate(app=app, pacing=pacing, num_rounds=6)
    assert updates(federation) == [2] * 6
    assert federation.steps[0].failures == {"client_app_raised": 1}
    assert federation.steps[0].rejected == {"finiteness": 1}


def test_more_places_than_nodes(federate: Federate) -> None:
    # K = 3 of M = 10, but there are only 4 nodes: a step combines 3/4 of what is out.
    federation = federate(
        pacing=Pacing(concurrency=10, quorum=3, max_staleness=20, refill="reply"), num_rounds=1
    )
    assert updates(federation) == [3]
    assert federation.weights == pytest.approx([0.75] * 3)
    everybody = federate(pacing=Pacing(concurrency=10, quorum=10), num_rounds=2)
    assert updates(everybody) == [4, 4]
    assert everybody.weights == [2.0] * 3


def test_a_run_of_one_node(federate: Federate) -> None:
    federation = federate(num_nodes=1, settings=Settings(min_nodes=1, evaluate_every=0))
    assert updates(federation) == [1, 1, 1]
    assert federation.weights == [3.0] * 3


def test_switching_from_synchronous_to_buffered_while_it_runs(federate: Federate) -> None:
    switch = [
        Override(3, "refill", "reply"),
        Override(3, "quorum", 1),
        Override(3, "max_staleness", 5),
    ]
    federation = federate(
        pacing=Pacing(concurrency=4, quorum=4),
        fleet=speeds(1, 1, 1, 4),
        num_rounds=6,
        overrides=switch,
    )
    assert updates(federation) == [4, 4, 1, 1, 1, 1]
    # Three nodes answer at 9 s; steps 3 to 5 take one update each, step 6 waits for 10 s.
    assert times(federation) == [4.0, 8.0, 9.0, 9.0, 9.0, 10.0]


def test_draws_of_nodes_follow_the_seed(federate: Federate, make_app: MakeApp) -> None:
    def asked(seed: int) -> list[float]:
        # Node n adds n: the mean tells who was drawn.
        app = make_app(learn=lambda weights, assignment, node: weights + float(node))
        settings = Settings(seed=seed, evaluate_every=0)
        pacing = Pacing(concurrency=2, quorum=2)
        return federate(app=app, num_nodes=20, pacing=pacing, settings=settings).weights

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
