import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from daafl.autonomy.hub import Hub
from daafl.autonomy.knowledge import Knowledge
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Request
from daafl.loops.health import (
    PROBE_AGAIN,
    CusumAlarms,
    HealthObservation,
    HealthState,
    health,
)
from daafl.loops.node_failures import FAILURE_KNOBS

PROBE = Knob("probe", "", 0, "learning_rate", "branch", 0, 1)
KNOBS = {knob.name: knob for knob in (PROBE, *FAILURE_KNOBS)}


@dataclass
class Watch:
    """A branch hub with the health loop, and what came of it."""

    loop: Loop = field(default_factory=health)

    def __post_init__(self) -> None:
        self.hub = Hub((self.loop,), KNOBS)
        self.state = self.hub.init()
        self.plan = Plan.of(KNOBS.values())
        self.moves: list[tuple[int, str, object]] = []
        self.step = 0
        self.alerts: list[tuple[int, Decision]] = []
        self.insights = []
        self.labels: list[str] = []
        self.probed: list[int] = []

    def see(self, observation: HealthObservation) -> None:
        cycle = self.hub.cycle(self.state, {"health": observation}, self.plan)
        encoded = json.dumps(self.hub.encode(cycle.state), allow_nan=False)
        assert self.hub.decode(json.loads(encoded)) == cycle.state
        self.state, self.plan = cycle.state, cycle.plan
        own = cycle.decisions[0]
        self.labels.append(own.state)
        if own.action == "alert":
            self.alerts.append((self.step, own))
        self.moves += [(self.step, change.knob, change.new) for change in own.changes]
        if self.plan["probe"] == 1:
            self.probed.append(self.step)
        self.insights += cycle.insights
        self.step += 1


def ordinary(rng: np.random.Generator, step: int, **changes: object) -> HealthObservation:
    """What a healthy run shows: a falling loss, a rising accuracy, steady steps, all noisy."""
    noise = rng.standard_normal(3)
    fading = math.exp(-step / 12)
    seen = HealthObservation(
        version=step,
        trimmed_loss=(2.2 * fading + 0.15) * math.exp(0.05 * noise[0]),
        accuracy=min(0.95 - 0.85 * fading + 0.01 * noise[1], 1.0),
        round_seconds=2.0 * math.exp(0.1 * noise[2]),
    )
    return replace(seen, **changes)


@pytest.mark.parametrize("seed", range(10))
def test_an_ordinary_run_raises_no_alarm(seed: int) -> None:
    watch, rng = Watch(), np.random.default_rng(seed)
    for step in range(70):
        watch.see(ordinary(rng, step))
    assert watch.alerts == []
    assert set(watch.labels) == {"nominal"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("worse", "word"),
    [
        ({"trimmed_loss": 0.6}, "loss left its trend"),
        ({"accuracy": 0.6}, "accuracy left its trend"),
        ({"round_seconds": 6.0}, "round time left its trend"),
    ],
)
def test_a_lasting_change_is_answered_within_two_steps(worse, word: str, seed: int) -> None:
    watch, rng = Watch(), np.random.default_rng(seed)
    for step in range(60):
        watch.see(ordinary(rng, step, **(worse if step >= 40 else {})))
    step, alert = watch.alerts[0]
    assert 40 <= step <= 42
    assert word in alert.reason and "(z " in alert.reason
    assert watch.labels[step] == "degraded"
    assert alert.number is not None and alert.expect is not None


def test_an_alert_is_judged_by_whether_the_metric_recovers() -> None:
    for lasting, verdict, sentence in (
        (3, "confirmed", "loss is back on or below its old trend"),
        (30, "worse", "loss is not back on its old trend"),
    ):
        watch, rng = Watch(), np.random.default_rng(1)
        for step in range(60):
            bad = {"trimmed_loss": 3.0} if 40 <= step < 40 + lasting else {}
            watch.see(ordinary(rng, step, **bad))
        assert watch.insights[0].verdict == verdict
        assert watch.insights[0].sentence.startswith(sentence)
        assert watch.insights[0].decision == watch.alerts[0][1].number


def test_what_does_not_recover_is_failing_until_it_does() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(80):
        watch.see(ordinary(rng, step, **({"trimmed_loss": 3.0} if 40 <= step < 52 else {})))
    assert len(watch.alerts) >= 2
    assert watch.labels[watch.alerts[0][0]] == "degraded"
    assert watch.labels[watch.alerts[1][0]] == "failing"
    assert watch.labels[-1] == "nominal"
    # A metric is given time to recover before the next alarm.
    steps = [step for step, _ in watch.alerts]
    assert min(np.diff(steps)) >= 5


def test_two_metrics_at_once_are_failing() -> None:
    watch, rng = Watch(), np.random.default_rng(2)
    for step in range(43):
        watch.see(
            ordinary(rng, step, **({"trimmed_loss": 3.0, "accuracy": 0.1} if step >= 40 else {}))
        )
    words = " ".join(alert.reason for _, alert in watch.alerts)
    assert "loss left its trend" in words and "accuracy left its trend" in words
    assert watch.labels[-1] == "failing"


def test_a_loss_alarm_asks_for_a_probe_for_one_step() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(44):
        watch.see(ordinary(rng, step, **({"trimmed_loss": 3.0} if step >= 40 else {})))
    ((at, alert),) = watch.alerts
    assert [request.knob for request in alert.requests] == ["probe"]
    assert "ask for probe" in alert.reason
    assert watch.probed == [at]


def test_a_slow_step_asks_for_nothing() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(44):
        watch.see(ordinary(rng, step, **({"round_seconds": 60.0} if step >= 40 else {})))
    assert [alert.requests for _, alert in watch.alerts] == [()]
    assert watch.probed == []


def test_a_branch_that_just_went_back_is_not_probed_as_well() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(44):
        bad = {"trimmed_loss": 3.0, "restored": step == 41} if step >= 40 else {}
        watch.see(ordinary(rng, step, **bad))
    assert [alert.requests for _, alert in watch.alerts] == [()]


def test_the_remedy_can_be_another_or_none() -> None:
    for remedy in (None, replace(PROBE_AGAIN, level="learning", ticks=3)):
        watch, rng = Watch(health(remedy=remedy)), np.random.default_rng(1)
        for step in range(45):
            watch.see(ordinary(rng, step, **({"trimmed_loss": 3.0} if step >= 40 else {})))
        assert len(watch.alerts) == 1
        assert len(watch.probed) == (0 if remedy is None else 3)


def test_missing_metrics_are_waited_for() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    watch.see(HealthObservation())
    for step in range(60):
        gone = {"accuracy": None} if step % 3 else {}
        watch.see(ordinary(rng, step, **gone, **({"trimmed_loss": 3.0} if step >= 40 else {})))
        watch.see(HealthObservation(version=step))
    vitals = watch.state.loops["health"].memory.vitals
    assert vitals["error"].detector.num_values == 20
    assert watch.alerts


def test_an_alert_whose_metric_vanished_is_not_judged() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(60):
        bad = {"trimmed_loss": 3.0} if step < 42 else {"trimmed_loss": None}
        watch.see(ordinary(rng, step, **(bad if step >= 40 else {})))
    assert len(watch.alerts) == 1
    assert watch.insights == []


def test_warm_up_raises_nothing() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(10):
        watch.see(ordinary(rng, step, **({"trimmed_loss": 50.0} if step >= 8 else {})))
    assert watch.alerts == []


def test_metrics_are_on_the_scale_on_which_they_are_followed() -> None:
    metrics = HealthObservation(trimmed_loss=0.999, accuracy=0.75, round_seconds=math.e).metrics
    assert metrics == pytest.approx(
        {"log_loss": 0.0, "error": 0.25, "log_round_seconds": 1.0}, abs=1e-12
    )
    # A tenth of the first loss: log(0.1 * 2 + 0.05 * 2 + 0.001).
    scaled = HealthObservation(trimmed_loss=0.2, first_loss=2.0).metrics["log_loss"]
    assert scaled == pytest.approx(math.log(0.301))
    assert HealthObservation(trimmed_loss=0.0, round_seconds=0.0).metrics == pytest.approx(
        {"log_loss": math.log(1e-3)}
    )


def test_it_never_restarts_a_rate_by_itself() -> None:
    """It owns no knob of training, so a restart of the rate after drift is never fought over."""
    lr = Knob("lr", "1", 0.1, "operator", "branch", 1e-4, 3.0)
    hub = Hub((health(),), {**KNOBS, "lr": lr})
    state, plan, rng = hub.init(), Plan.of([*KNOBS.values(), lr]), np.random.default_rng(1)
    for step in range(50):
        seen = ordinary(rng, step, **({"trimmed_loss": 3.0} if step >= 40 else {}))
        cycle = hub.cycle(state, {"health": seen}, plan)
        state, plan = cycle.state, cycle.plan
        if step > 40:
            plan = plan.apply([Change("lr", plan["lr"], 0.1 + step / 100)])
            assert plan["lr"] == 0.1 + step / 100
    assert CusumAlarms().knobs == FAILURE_KNOBS


def test_alerts_can_be_learned_from() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(60):
        watch.see(ordinary(rng, step, **({"trimmed_loss": 3.0} if step >= 40 else {})))
    with Knowledge.open(":memory:") as knowledge:
        for insight in watch.insights:
            knowledge.learn("run", insight)
        assert knowledge.patterns()[0].worse >= 1
    assert isinstance(watch.state.loops["health"].memory, HealthState)
    assert isinstance(PROBE_AGAIN, Request)


def test_retries_follow_the_failures() -> None:
    # With 4 of 10 messages lost the smoothed share is 0.12 and then 0.204, above 0.15.
    watch = Watch()
    for step in range(60):
        lost = 4 if step < 30 else 0
        watch.see(HealthObservation(version=step, num_updates=10 - lost, num_failures=lost))
    raised = [(step, value) for step, knob, value in watch.moves if knob == "retries"]
    assert raised[:3] == [(1, 1), (6, 2), (11, 3)]
    strict = [(step, value) for step, knob, value in watch.moves if knob == "quarantine_strikes"]
    assert strict[:2] == [(12, 2.0), (17, 1.5)]
    # 0.4 * 0.7 ** n is below 0.03 from n = 8 on: the eighth quiet step is step 37.
    assert raised[3:] == [(37, 2), (42, 1), (47, 0)]
    assert strict[2:] == [(48, 2.0), (53, 2.5)]
    assert watch.plan["retries"] == 0 and watch.plan["quarantine_strikes"] == 2.5


def test_no_knob_moves_while_nothing_fails() -> None:
    watch, rng = Watch(), np.random.default_rng(3)
    for step in range(60):
        watch.see(ordinary(rng, step, num_updates=10))
    assert watch.moves == [] and watch.alerts == []


def test_quarantine_is_told_with_the_nodes_and_what_they_did() -> None:
    watch = Watch()
    for step in range(20):
        seen = HealthObservation(version=step, num_updates=9, num_rejected=1 if step < 5 else 0)
        if step == 4:
            seen = replace(seen, troubled_nodes=(3, 7), troubles=("finiteness", "timeout"))
        watch.see(seen)
    ((step, alert),) = watch.alerts
    assert step == 4
    # 0.1 * (1 - 0.7 ** 5) = 0.083
    assert alert.reason == (
        "quarantine for nodes 3 (finiteness), 7 (timeout); lately 8% of the messages were of no use"
    )
    (insight,) = watch.insights
    assert insight.decision == alert.number
    assert insight.sentence.startswith("0% of the messages were of no use, 8% before")
    assert insight.verdict == "better"


def test_a_quarantine_that_does_not_help_is_judged_as_worse() -> None:
    watch = Watch()
    for step in range(12):
        seen = HealthObservation(version=step, num_updates=9, num_rejected=1)
        if step == 4:
            seen = replace(seen, troubled_nodes=(3,), troubles=("shape",))
        if step > 4:
            seen = replace(seen, num_updates=5, num_rejected=5)
        watch.see(seen)
    assert watch.insights[0].verdict == "worse"
    assert watch.insights[0].sentence.startswith("50% of the messages were of no use, 8% before")


def test_a_burst_of_failures_is_an_alarm() -> None:
    watch, rng = Watch(), np.random.default_rng(1)
    for step in range(44):
        lost = {"num_updates": 5, "num_failures": 5} if step >= 40 else {"num_updates": 10}
        watch.see(ordinary(rng, step, **lost))
    step, alert = watch.alerts[0]
    assert 40 <= step <= 42
    assert "share of failing messages left its trend" in alert.reason
    assert alert.requests == ()  # a new rate would not help
