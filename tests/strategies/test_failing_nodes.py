"""Quarantine, parole and replacements in whole federations whose nodes add one to the weights."""

from collections.abc import Callable
from typing import Any

import pytest
from flwr.clientapp import ClientApp

from daafl.errors import FederationError
from daafl.loops import health
from daafl.strategies import Override, Pacing, Settings

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]

ALL = Pacing(concurrency=8, quorum=8)


def run(federate: Federate, app: ClientApp, **options: Any) -> Any:
    settings = {"num_nodes": 8, "num_rounds": 12, "pacing": ALL, "loops": [health(remedy=None)]}
    return federate(app=app, **{**settings, **options})


def alerts(federation: Any) -> list[tuple[int, str]]:
    return [
        (record.step, decision.reason)
        for record in federation.steps
        for decision in record.decisions
        if decision.action == "alert" and "quarantine" in decision.reason
    ]


def test_a_node_that_only_sends_rubbish_is_left_out_and_tried_again(
    federate: Federate, make_app: MakeApp
) -> None:
    # Its third strike comes in step 3. It is out for steps 4 to 8, fails its trial in step 9, and
    # is out for twice as long.
    federation = run(federate, make_app({2: "nan"}), num_rounds=21)
    rejected = [record.step for record in federation.steps if record.rejected]
    assert rejected == [1, 2, 3, 9, 20]
    quarantined = [record.step for record in federation.steps if record.quarantined == (2,)]
    assert quarantined == [*range(4, 9), *range(10, 20), 21][: len(quarantined)]
    assert [record.num_updates for record in federation.steps] == [7] * 21
    assert alerts(federation)[0][1].startswith("quarantine for node 2 (finiteness); lately")
    assert [step for step, _ in alerts(federation)] == [3, 9, 20]


def test_a_node_that_recovers_comes_back(federate: Federate, make_app: MakeApp) -> None:
    # Rubbish in the first three versions, good updates from then on.
    faults = {(2, version): "shape" for version in range(3)}
    federation = run(federate, make_app(faults))
    updates = [record.num_updates for record in federation.steps]
    assert updates == [7] * 3 + [7] * 5 + [8] * 4
    assert [step for step, _ in alerts(federation)] == [3]


def test_half_of_the_nodes_stay_in_play(federate: Federate, make_app: MakeApp) -> None:
    app = make_app(dict.fromkeys(range(6), "nan"))
    federation = run(federate, app, num_rounds=5)
    assert federation.steps[3].quarantined == (0, 1, 2, 3)
    assert federation.steps[3].rejected == {"finiteness": 2}


def test_without_the_health_loop_nobody_is_left_out(federate: Federate, make_app: MakeApp) -> None:
    federation = run(federate, make_app({2: "nan"}), loops=())
    assert [record.rejected for record in federation.steps] == [{"finiteness": 1}] * 12
    assert all(record.quarantined == () for record in federation.steps)


def test_bad_answers_to_other_questions_count_too(federate: Federate, make_app: MakeApp) -> None:
    # One strike in each evaluation; from step 4 on the node neither trains nor evaluates.
    settings = Settings(evaluate_every=1)
    federation = run(federate, make_app({2: "evaluate nothing"}), settings=settings, num_rounds=5)
    assert [record.num_updates for record in federation.steps] == [8, 8, 8, 7, 7]
    assert alerts(federation)[0][1].startswith("quarantine for node 2 (sample_count)")


def retries(number: int) -> list[Override]:
    return [Override(1, "retries", number), Override(1, "quarantine_strikes", 20.0)]


def test_another_node_takes_the_place_of_one_that_fails(
    federate: Federate, make_app: MakeApp
) -> None:
    # 3 of 8 nodes are asked and half of the nodes fail: replacements fill every cohort. At once, as
    # failures cost no time.
    faults = dict.fromkeys(range(4), "nan")
    pacing = Pacing(concurrency=3, quorum=3)
    short = run(federate, make_app(faults), pacing=pacing, overrides=retries(0), num_rounds=6)
    full = run(federate, make_app(faults), pacing=pacing, overrides=retries(3), num_rounds=6)
    assert sum(record.num_updates for record in short.steps) < 15
    assert [record.num_updates for record in full.steps] == [3] * 6


@pytest.mark.parametrize(
    ("pacing", "number", "tried"),
    [
        (Pacing(concurrency=2, quorum=2), 1, 4),  # two are asked, and 1 * 2 in their place
        (ALL, 3, 8),  # a node that failed in a step is not asked again in it
    ],
)
def test_replacements_end_with_their_number_and_with_the_nodes(
    federate: Federate,
    make_app: MakeApp,
    watcher: Any,
    pacing: Pacing,
    number: int,
    tried: int,
) -> None:
    app = make_app({**dict.fromkeys(range(7), "nan"), 7: "raise"})
    with pytest.raises(FederationError, match="no update could be used"):
        run(federate, app, pacing=pacing, overrides=retries(number), num_rounds=1)
    (record,) = watcher.steps
    assert sum(record.rejected.values()) + sum(record.failures.values()) == tried


def test_retries_rise_by_themselves(federate: Federate, make_app: MakeApp) -> None:
    # Every other version is rubbish at half of the nodes: too rarely in a row for quarantine at 20.
    app = make_app({(node, v): "nan" for node in range(4) for v in range(0, 60, 2)})
    overrides = [Override(1, "quarantine_strikes", 20.0)]
    pacing = Pacing(concurrency=4, quorum=4)
    federation = run(federate, app, pacing=pacing, overrides=overrides, num_rounds=30)
    knobs = [record.knobs["retries"] for record in federation.steps]
    assert knobs[0] == 0 and max(knobs) >= 1
    assert [r.num_updates for r in federation.steps if r.knobs["retries"] >= 1][:5] == [4] * 5
