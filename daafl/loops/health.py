"""The health loop: learned baselines, alarms when a metric leaves its own, and failing nodes.

Observes loss, accuracy, the duration of a step and the messages that were of no use. It raises
alerts, and may ask the learning-rate loop for a new probe, since a lasting rise of the loss usually
means that the data changed and that the old rate no longer fits. Its knobs say how failing nodes
are dealt with; `daafl.loops.node_failures` holds their law.

Baseline
    Per metric a local linear trend with the robust scale of its surprises (``Cusum``). The loss and
    the duration are followed as logarithms, the accuracy as the error ``1 - accuracy``, failures as
    the share of useless messages, so that smaller is better for all of them.
Alarm
    One-sided CUSUM on the standardised surprises after a warm-up of ten values. It stays silent
    on the ordinary decline of a loss and answers a change of the data within one or two steps. A
    metric that has just raised an alarm does not raise another before the first is judged.
States
    ``nominal`` without a recent alarm; ``degraded`` with one; ``failing`` with recent alarms of two
    metrics, with a second alarm of one, or after an alarm from which a metric did not recover.
Quarantine
    An alert names the nodes that were put into quarantine, and why.
Judgement
    An alert expects the metric back on its old trend at the horizon, so ``worse`` means that
    nothing has healed it. One about quarantine expects that no more messages fail than before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from daafl.autonomy.forecast import Cusum
from daafl.autonomy.guards import bounds, cooldown
from daafl.autonomy.plan import Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import ALERT, Decision, Effect, Insight, Request, judged, unchanged
from daafl.loops.node_failures import (
    FAILURE_KNOBS,
    QUARANTINE_STRIKES,
    REST,
    RETRIES,
    FailureTrend,
    adjustment,
    left_out,
)

NAME: Final = "health"
PROBE_AGAIN: Final = Request(
    "probe", "integrity", NAME, "the loss left its trend: the rate may no longer fit", low=1
)
"""Asks for new learning rates to be tried before the next step."""

LOG_LOSS: Final = "log_loss"
FLOOR_SHARE: Final = 0.05
_FLOORS: Final = {
    "log_loss": 0.02,
    "error": 0.005,
    "log_round_seconds": 0.01,
    "failure_share": 0.05,
}
"""Surprise per metric that never counts as more than one scale."""
ERROR: Final = "error"
LOG_SECONDS: Final = "log_round_seconds"
FAILURES: Final = "failure_share"

_WORDS: Final[Mapping[str, str]] = {
    LOG_LOSS: "loss",
    ERROR: "accuracy",
    LOG_SECONDS: "round time",
    FAILURES: "share of failing messages",
}

Label = Literal["nominal", "degraded", "failing"]


@dataclass(frozen=True)
class HealthObservation:
    """What the loop reads, ``None`` where unknown.

    Parameters
    ----------
    version
        Model version after the step.
    trimmed_loss, first_loss
        Loss nodes report for the model they received, without the extremes; and the first of the
        run, which sets the scale.
    accuracy
        Of the evaluated model, between 0 and 1.
    round_seconds
        Duration of the step.
    restored
        Whether the branch returned to an older model before the step.
    num_updates, num_rejected, num_failures
        Updates combined, replies that a check refused, messages that failed.
    troubled_nodes, troubles
        Nodes put into quarantine in the step, and the last fault of each in a word.
    """

    version: int = 0
    trimmed_loss: float | None = None
    first_loss: float | None = None
    accuracy: float | None = None
    round_seconds: float | None = None
    restored: bool = False
    num_updates: int = 0
    num_rejected: int = 0
    num_failures: int = 0
    troubled_nodes: tuple[int, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def num_useless(self) -> int:
        """Messages that were of no use."""
        return self.num_rejected + self.num_failures

    @property
    def metrics(self) -> dict[str, float]:
        """What could be measured, on the scale on which it is followed; smaller is better."""
        known = {}
        if self.trimmed_loss is not None:
            # Near zero a loss is all noise; a share of the first keeps its logarithm calm there.
            offset = FLOOR_SHARE * (self.first_loss or 0.0) + 1e-3
            known[LOG_LOSS] = math.log(max(self.trimmed_loss, 0.0) + offset)
        if self.accuracy is not None:
            known[ERROR] = 1.0 - self.accuracy
        if self.round_seconds is not None and self.round_seconds > 0:
            known[LOG_SECONDS] = math.log(self.round_seconds)
        if self.num_useless + self.num_updates > 0:
            known[FAILURES] = self.num_useless / (self.num_useless + self.num_updates)
        return known


@dataclass(frozen=True)
class Vital:
    """One metric's baseline and its alarms.

    Parameters
    ----------
    detector
        Trend, scale and cumulative sum.
    last_alarm
        Observation in which the last alarm was raised; ``None`` before the first.
    alarms
        Alarms in a row, each before the metric had time to calm down.
    """

    detector: Cusum = field(default_factory=Cusum)
    last_alarm: int | None = None
    alarms: int = 0


@dataclass(frozen=True)
class HealthState:
    """What the loop remembers.

    Parameters
    ----------
    seen
        Observations so far.
    vitals
        Baselines and alarms by metric.
    last_restore
        Observation that followed the last return to an older model; ``None`` before the first.
    unresolved
        Alerts in a row from which the metric did not recover.
    model_alarms
        Alarms of loss or accuracy so far.
    failures
        Smoothed share of failing messages.
    """

    seen: int = 0
    vitals: Mapping[str, Vital] = field(default_factory=dict)
    last_restore: int | None = None
    unresolved: int = 0
    model_alarms: int = 0
    failures: FailureTrend = field(default_factory=FailureTrend)


@dataclass(frozen=True)
class CusumAlarms:
    """The policy.

    Parameters
    ----------
    drift, threshold
        Slack per step and level of the alarm, in scales of the metric's surprises.
    warm_up
        Values of a metric before it can raise an alarm.
    patience
        Observations within which a metric should recover, and for which its next alarm is held.
    remedy
        Requested with an alarm of loss or accuracy, unless the branch has just returned to an
        older model, which is a remedy already; ``None`` only alerts.
    max_remedies
        Alarms of loss or accuracy for which the remedy is requested; later ones only alert.
    """

    drift: float = 0.75
    threshold: float = 5.0
    warm_up: int = 10
    patience: int = 5
    remedy: Request | None = None
    max_remedies: int = 2

    name = NAME
    observation = HealthObservation
    state = HealthState
    knobs: tuple[Knob, ...] = field(default=FAILURE_KNOBS, init=False)

    def init(self) -> HealthState:
        """Return the state before the first observation."""
        return HealthState()

    def observe(self, state: HealthState, observation: HealthObservation) -> HealthState:
        """Return the state with the baselines moved on, and alarms where they were left."""
        seen, model_alarms = state.seen + 1, state.model_alarms
        vitals = dict(state.vitals)
        for metric, value in observation.metrics.items():
            vital = vitals.get(metric) or Vital(
                Cusum(
                    drift=self.drift,
                    threshold=self.threshold,
                    warm_up=self.warm_up,
                    floor=_FLOORS[metric],
                )
            )
            vitals[metric] = self._followed(vital, value, seen)
            model_alarms += metric in (LOG_LOSS, ERROR) and vitals[metric].last_alarm == seen
        return replace(
            state,
            seen=seen,
            vitals=vitals,
            model_alarms=model_alarms,
            last_restore=seen if observation.restored else state.last_restore,
            failures=state.failures.after(observation.num_useless, observation.num_updates),
        )

    def reason(self, state: HealthState, observation: HealthObservation, plan: Plan) -> Decision:
        """Return an alert about metrics and nodes, a move of a knob, or nothing."""
        alarmed = [name for name, vital in state.vitals.items() if vital.last_alarm == state.seen]
        if alarmed:
            return self._alarm(state, observation, alarmed)
        if observation.troubled_nodes:
            return self._quarantine(state, observation)
        label, change = self.label(state), adjustment(state.failures, plan)
        if change is None:
            followed = ", ".join(_WORDS[name] for name in sorted(state.vitals)) or "nothing yet"
            return unchanged(NAME, label, f"on trend: {followed}")
        reason = (
            f"lately {state.failures.share:.0%} of the messages were of no use: {change.knob} "
            f"from {change.old} to {change.new}"
        )
        return Decision(NAME, f"adjust_{change.knob}", label, reason, (change,))

    def reflect(
        self, decision: Decision, before: HealthObservation, after: HealthObservation
    ) -> Insight | None:
        """Return whether the metric is back on the trend it had; ``None`` if it is not known."""
        if decision.expect is None or decision.expect.metric not in after.metrics:
            return None
        metric = decision.expect.metric
        insight = judged(decision, after.metrics[metric])
        if metric == FAILURES:
            sentence = (
                f"{after.metrics[metric]:.0%} of the messages were of no use, "
                f"{decision.expect.baseline:.0%} before (z {insight.z:.1f})"
            )
            return replace(insight, sentence=sentence)
        result = "is not back on" if insight.verdict == "worse" else "is back on or below"
        return replace(
            insight, sentence=f"{_WORDS[metric]} {result} its old trend (z {insight.z:.1f})"
        )

    def adapt(self, state: HealthState, insight: Insight) -> HealthState:
        """Return the state, failing for as long as alerts are not followed by recovery."""
        is_worse = insight.verdict == "worse"
        return replace(state, unresolved=state.unresolved + 1 if is_worse else 0)

    def label(self, state: HealthState) -> Label:
        """Return the situation in a word."""
        recent = [vital for vital in state.vitals.values() if self._is_recent(vital, state.seen)]
        if not recent:
            return "nominal"
        is_repeated = any(vital.alarms > 1 for vital in recent)
        return "failing" if len(recent) > 1 or is_repeated or state.unresolved else "degraded"

    def _alarm(
        self, state: HealthState, observation: HealthObservation, alarmed: list[str]
    ) -> Decision:
        worst = max(alarmed, key=lambda name: state.vitals[name].detector.z)
        detector = state.vitals[worst].detector
        # An alarm is raised on a value, so there is a forecast.
        baseline = detector.forecast(self.patience) or 0.0
        remedy = self._remedy(state, alarmed)
        what = " and ".join(
            f"{_WORDS[name]} left its trend (z {state.vitals[name].detector.z:.1f})"
            for name in alarmed
        )
        action = f"ask for {remedy.knob}" if remedy is not None else "watch it"
        also = (
            f"; {left_out(observation.troubled_nodes, observation.troubles)}"
            if observation.troubled_nodes
            else ""
        )
        return Decision(
            NAME,
            ALERT,
            self.label(state),
            f"{what}: {action}, it should be back within {self.patience} steps{also}",
            requests=() if remedy is None else (remedy,),
            expect=Effect(worst, baseline, 0.0, detector.sd, self.patience),
        )

    def _quarantine(self, state: HealthState, observation: HealthObservation) -> Decision:
        failures = state.failures
        return Decision(
            NAME,
            ALERT,
            self.label(state),
            f"{left_out(observation.troubled_nodes, observation.troubles)}; "
            f"lately {failures.share:.0%} of the messages were of no use",
            expect=Effect(FAILURES, failures.share, 0.0, failures.sd, self.patience),
        )

    def _followed(self, vital: Vital, value: float, seen: int) -> Vital:
        detector = vital.detector.update(value)
        last = vital.last_alarm
        if not detector.is_alarm or (last is not None and seen - last < self.patience):
            return replace(vital, detector=detector)
        is_again = last is not None and seen - last <= 2 * self.patience
        return Vital(detector, seen, vital.alarms + 1 if is_again else 1)

    def _is_recent(self, vital: Vital, seen: int) -> bool:
        return vital.last_alarm is not None and seen - vital.last_alarm < self.patience

    def _remedy(self, state: HealthState, alarmed: list[str]) -> Request | None:
        restore = state.last_restore
        was_restored = restore is not None and state.seen - restore < self.patience
        is_about_model = LOG_LOSS in alarmed or ERROR in alarmed
        if state.model_alarms > self.max_remedies:
            return None
        return self.remedy if is_about_model and not was_restored else None


def health(
    *,
    drift: float = 0.75,
    threshold: float = 5.0,
    warm_up: int = 10,
    patience: int = 5,
    remedy: Request | None = PROBE_AGAIN,
) -> Loop:
    """Return the health loop; parameters as in `CusumAlarms`.

    By default it asks for a new probe of learning rates when loss or accuracy leave their trend;
    ``remedy=None`` only alerts.
    """
    policy = CusumAlarms(
        drift=drift, threshold=threshold, warm_up=warm_up, patience=patience, remedy=remedy
    )
    return Loop(
        policy=policy,
        level="integrity",
        component="health",
        scope="branch",
        influences=("loss", "accuracy", *(() if remedy is None else (remedy.knob,))),
        guards=(
            bounds(),
            cooldown(RETRIES.name, REST),
            cooldown(QUARANTINE_STRIKES.name, REST),
        ),
    )
