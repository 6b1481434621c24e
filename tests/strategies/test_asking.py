"""Evaluation on the nodes: node n reports the first weight plus n, on n + 1 examples."""

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ArrayRecord, MetricRecord
from flwr.clientapp import ClientApp

from daafl.simulation import Devices
from daafl.strategies import Pacing, Settings

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]

EVERY_STEP = Settings(evaluate_every=1)


def metrics(federation: Any, name: str = "weight") -> list[float | None]:
    return [record.metrics.get(name) for record in federation.steps]


def test_nodes_evaluate_and_examples_weigh(federate: Federate) -> None:
    # Weight 1 after step 1; (1*1 + 2*2 + 3*3 + 4*4) / 10 = 3.
    federation = federate(settings=EVERY_STEP, num_rounds=2)
    assert metrics(federation) == pytest.approx([3.0, 4.0])
    assert federation.summary.final_loss == pytest.approx(metrics(federation, "loss")[-1])


def test_what_nodes_measure_is_reported_as_theirs(federate: Federate) -> None:
    federation = federate(settings=EVERY_STEP, num_rounds=1)
    reported = federation.result.evaluate_metrics_clientapp
    assert reported[1]["weight"] == pytest.approx(3.0)
    assert dict(federation.result.evaluate_metrics_serverapp) == {}


def test_bad_reports_are_counted_and_left_out(federate: Federate, make_app: MakeApp) -> None:
    app = make_app({0: "evaluate raise", 3: "evaluate nothing"})
    federation = federate(app=app, settings=EVERY_STEP, num_rounds=1)
    (step,) = federation.steps
    assert step.failures == {"client_app_raised": 1}
    assert step.rejected == {"sample_count": 1}
    assert step.metrics["weight"] == pytest.approx((2 * 2 + 3 * 3) / 5)  # of nodes 1 and 2


def test_metrics_that_only_a_few_report_are_not_shown(
    federate: Federate, make_app: MakeApp
) -> None:
    few = make_app({0: "evaluate rumour", 1: "evaluate rumour"})
    assert metrics(federate(app=few, settings=EVERY_STEP), "rumour") == [None] * 3
    most = make_app(dict.fromkeys(range(3), "evaluate rumour"))
    assert metrics(federate(app=most, settings=EVERY_STEP), "rumour") == pytest.approx([1.0] * 3)


def test_boasting_cannot_make_a_mean_overflow(federate: Federate, make_app: MakeApp) -> None:
    claims = {node: {"num_examples": 2**53} for node in range(4)}
    app = make_app(dict.fromkeys(range(4), "evaluate boast"), claims=claims)
    federation = federate(app=app, settings=EVERY_STEP, num_rounds=1)
    assert federation.steps[0].metrics["weight"] == pytest.approx(1e308)


def test_reports_on_more_examples_than_a_node_has_are_refused(
    federate: Federate, make_app: MakeApp
) -> None:
    # Nodes say in their greeting that they hold 10 examples.
    app = make_app({3: "evaluate boast"})
    (step,) = federate(app=app, settings=EVERY_STEP, num_rounds=1).steps
    assert step.rejected == {"sample_count": 1}
    assert step.metrics["weight"] == pytest.approx((1 * 1 + 2 * 2 + 3 * 3) / 6)


def test_nobody_to_report_leaves_a_step_without_metrics(
    federate: Federate, make_app: MakeApp
) -> None:
    app = make_app(dict.fromkeys(range(4), "evaluate raise"))
    federation = federate(app=app, settings=EVERY_STEP, num_rounds=2)
    assert [record.metrics for record in federation.steps] == [{}, {}]
    assert federation.summary.status == "completed"
    assert federation.summary.final_loss is None


def test_evaluation_does_not_wait_for_nodes_that_are_late_already(
    federate: Federate, make_app: MakeApp
) -> None:
    # Node 3 needs 100 s; the deadline leaves it behind, and with it what it would report.
    app = make_app({3: "slow"})
    pacing = Pacing(concurrency=4, quorum=4, deadline_s=2.0, reply_timeout_s=500.0)
    federation = federate(app=app, settings=EVERY_STEP, pacing=pacing, num_rounds=2)
    assert [record.clock_s for record in federation.steps] == [2.0, 3.0]
    assert metrics(federation)[0] == pytest.approx(1 + (0 * 1 + 1 * 2 + 2 * 3) / 6)


def test_evaluation_while_buffered_training_stays_out_loses_and_hoards_nothing(
    federate: Federate,
) -> None:
    # Questions queue behind training, so all of it is back when step 1 has been evaluated, at 3 s:
    # four updates, two that were out and two that replaced others meanwhile. Steps 2 and 3 use them
    # up before anybody is asked again.
    federation = federate(
        pacing=Pacing(concurrency=4, quorum=2, max_staleness=20, refill="reply"),
        fleet=Devices([0.1, 0.1, 0.2, 0.3], [0.0] * 4),
        settings=EVERY_STEP,
        num_rounds=6,
    )
    assert [record.num_updates for record in federation.steps] == [2] * 6
    assert all(record.rejected == {} for record in federation.steps)
    assert [record.clock_s for record in federation.steps] == [1.0, 3.0, 3.0, 4.0, 6.0, 6.0]
    assert [record.staleness for record in federation.steps] == [0, 1, 2, 0, 1, 2]


def test_every_so_many_steps_and_at_the_end(federate: Federate) -> None:
    federation = federate(settings=Settings(evaluate_every=2), num_rounds=5)
    evaluated = [record.step for record in federation.steps if record.metrics]
    assert evaluated == [2, 4, 5]


def test_a_function_on_the_server_evaluates_instead(federate: Federate) -> None:
    seen: list[int] = []

    def evaluate(step: int, arrays: ArrayRecord) -> MetricRecord | None:
        seen.append(step)
        if step == 2:
            return None
        weight = float(arrays["w"].numpy()[0])
        return MetricRecord(
            {"accuracy": weight / 10, "loss": float("nan"), "count": 3, "per_class": [1.0, 2.0]}
        )

    federation = federate(settings=EVERY_STEP, num_rounds=3, start={"evaluate_fn": evaluate})
    assert seen == [1, 2, 3]
    assert [dict(record.metrics) for record in federation.steps] == [
        {"accuracy": pytest.approx(0.1), "count": 3.0},
        {},
        {"accuracy": pytest.approx(0.3), "count": 3.0},
    ]
    assert set(federation.result.evaluate_metrics_serverapp) == {1, 3}
    assert federation.summary.best_accuracy == pytest.approx(0.3)
