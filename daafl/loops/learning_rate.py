"""The learning-rate loop: measure a safe rate, follow the updates' agreement, undo explosions.

Observes the loss that nodes report for the model they *received*, and the cosine between this
step's mean update and the last one. Owns two knobs: ``lr``, and ``probe``, which asks the host to
try rates on throw-away copies before the next step.

Probe
    The rate with the lowest median log loss is the *cap*; training starts one grid step below.
Law
    ``lr <- lr * exp(kappa * pace * (cos + offset))``, within [lowest, min(cap, ceiling)]: the
    multiplicative hypergradient rule (Baydin et al. 2018, arXiv 1703.04782, eq. 8) on the mean
    update. Updates that agree raise the rate, updates that point back lower it. The offset makes up
    for the cosine that sampling few nodes with different data takes away. ``pace`` is the share of
    updates a step combines, so that buffered federations turn the knob as often per pass of data.
Guard
    A loss that explodes against its running mean and best, or stays far above the best for several
    steps, returns the branch to its last good model, at a fraction of that model's rate and under a
    ceiling below the rate that failed. Losses are keyed by model version: the loss of this step
    says how good the model *before* it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from daafl.autonomy.forecast import Cusum
from daafl.autonomy.guards import bounds, frozen_by_alarm
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Effect, Insight, judged, unchanged

NAME: Final = "learning_rate"
LR: Final = Knob(
    "lr", "1", 0.1, NAME, "branch", 1e-5, 30.0, description="learning rate of local training"
)
PROBE: Final = Knob(
    "probe", "", 0, NAME, "branch", 0, 1, description="1: try learning rates before the next step"
)

_PLATEAU_STEPS: Final = 8

Alarm = Literal["", "nonfinite", "exploded", "declining"]
Label = Literal[
    "fast_convergence", "slow_convergence", "oscillation", "plateau", "stable", "unstable"
]


@dataclass(frozen=True)
class LearningRateObservation:
    """What the loop reads; fields as in the host's step facts, ``None`` where unknown."""

    step: int = 0
    version: int = 0
    lr: float | None = None
    loss: float | None = None
    loss_version: int | None = None
    cosine: float | None = None
    pace: float = 1.0
    num_updates: int = 0
    nonfinite_fraction: float = 0.0
    restored: bool = False
    probe_rates: tuple[float, ...] | None = None
    probe_log_losses: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Point:
    """A model version with a healthy loss, and the rate it was trained at."""

    version: int
    lr: float


@dataclass(frozen=True)
class LearningRateState:
    """What the loop remembers.

    Parameters
    ----------
    is_probed, attempts
        Whether a probe was answered or given up, and how often one was asked for.
    start
        Rate to begin with, when the step before was a probe that was answered.
    cap
        Best probed rate; ``None`` without a probe.
    ceiling
        Highest rate allowed since one failed; relaxes step by step.
    mean, variance, best
        Running mean and variance of the loss, and the lowest running mean.
    num_losses
        Losses since the last restore.
    trail
        The last versions with a healthy loss, oldest first; the oldest is what a restore returns
        to, because a slow decline takes some steps to notice.
    streak
        Steps in a row with a loss far above the best.
    alarm
        Why the branch should return to an older model; empty if it should not.
    last_lr
        Rate under which the step before ran: the one that made the model this step's loss is about.
    rollbacks
        Steps at which the branch returned.
    quiet
        Steps in a row with hardly any agreement between updates and hardly any progress.
    last_cosine
        Last agreement between updates.
    log_loss
        Forecast of the log loss, by which the law is judged.
    """

    is_probed: bool = False
    attempts: int = 0
    start: float | None = None
    cap: float | None = None
    ceiling: float = 30.0
    mean: float | None = None
    variance: float = 0.0
    best: float | None = None
    num_losses: int = 0
    trail: tuple[Point, ...] = ()
    streak: int = 0
    alarm: Alarm = ""
    rollbacks: tuple[int, ...] = ()
    quiet: int = 0
    last_cosine: float | None = None
    last_lr: float | None = None
    log_loss: Cusum = field(default_factory=Cusum)


@dataclass(frozen=True)
class Hypergradient:
    """The policy; its parameters are the constants of the law and of the guard.

    Parameters
    ----------
    kappa, offset
        Log step of the rate at full agreement of two updates, and what is added to the cosine.
    use_probe, max_attempts
        Whether to measure a cap before the first step, and how often to ask for that.
    headroom
        Highest rate allowed, as a multiple of the probed cap.
    explosion, surprise, above_best
        A loss explodes when it is above ``explosion * mean + surprise * sd`` and above
        ``above_best * best``.
    decline, decline_floor, patience
        It declines when it is above ``decline * best + decline_floor`` ``patience`` times in a row.
    trail_length
        Healthy versions remembered.
    backoff, ceiling_share, relaxation
        After a restore: share of the restore point's rate to go on with, ceiling as a share of the
        rate that failed, and growth of that ceiling per step.
    max_rollbacks, rollback_window
        Restores allowed within so many steps; beyond them the rate stays where it is.
    judged_every
        Steps from one judged tick of the law to the next.
    """

    kappa: float = 0.6
    offset: float = 0.1
    use_probe: bool = True
    max_attempts: int = 2
    headroom: float = 1.0
    explosion: float = 1.5
    surprise: float = 4.0
    above_best: float = 1.3
    decline: float = 1.5
    decline_floor: float = 0.05
    patience: int = 3
    trail_length: int = 4
    backoff: float = 0.3
    ceiling_share: float = 0.5
    relaxation: float = 0.01
    max_rollbacks: int = 3
    rollback_window: int = 50
    judged_every: int = 10

    name = NAME
    observation = LearningRateObservation
    state = LearningRateState
    knobs = (LR, PROBE)

    def init(self) -> LearningRateState:
        """Return the state before the first step."""
        return LearningRateState(is_probed=not self.use_probe)

    def wanted_versions(self, state: LearningRateState) -> frozenset[int]:
        """Return the versions a restore may name."""
        return frozenset(point.version for point in state.trail)

    def observe(
        self, state: LearningRateState, observation: LearningRateObservation
    ) -> LearningRateState:
        """Return the state after a step, a probe, or the look at the federation before either."""
        state = replace(
            state,
            alarm="",
            start=None,
            last_cosine=observation.cosine,
            ceiling=min(state.ceiling * (1 + self.relaxation), float(LR.high or math.inf)),
        )
        if observation.probe_rates and observation.probe_log_losses:
            return self._probed(state, observation.probe_rates, observation.probe_log_losses)
        if not state.is_probed:
            attempts = state.attempts + 1
            return replace(state, attempts=attempts, is_probed=attempts > self.max_attempts)
        if observation.restored:
            rollbacks = (*state.rollbacks, observation.step)[-self.max_rollbacks :]
            state = replace(state, num_losses=0, streak=0, quiet=0, rollbacks=rollbacks)
        # Losses were reported, but most of them were infinite.
        is_infinite = observation.loss is None and observation.loss_version is not None
        if is_infinite or observation.nonfinite_fraction > 0.5:
            return self._alarmed(state, observation, "nonfinite")
        if observation.loss is None:
            return state
        return self._weighed(state, observation)

    def reason(
        self, state: LearningRateState, observation: LearningRateObservation, plan: Plan
    ) -> Decision:
        """Return the next rate, a probe, or a return to an older model."""
        if state.start is not None:
            return self._begun(state, plan)
        if not state.is_probed:
            change = Change("probe", plan["probe"], 1)
            return Decision(
                NAME,
                "probe",
                "stable",
                "no learning rate was measured yet: nodes try a few on throw-away copies",
                (change,) if plan["probe"] == 0 else (),
            )
        if state.alarm:
            return self._returned(state, observation, plan)
        label = self.label(state)
        if self._is_frozen(state, observation.step):
            return unchanged(
                NAME, label, f"{len(state.rollbacks)} restores are enough: the rate stays"
            )
        if observation.cosine is None:
            return unchanged(NAME, label, "no two updates to compare yet")
        return self._followed(state, observation, plan, label)

    def reflect(
        self,
        decision: Decision,
        before: LearningRateObservation,
        after: LearningRateObservation,
    ) -> Insight | None:
        """Judge by the log loss at the horizon; nothing to judge by without one."""
        return None if after.loss is None else judged(decision, _log(after.loss))

    def adapt(self, state: LearningRateState, insight: Insight) -> LearningRateState:
        """Return the state unchanged: the law adapts with every step, not with every verdict."""
        return state

    def label(self, state: LearningRateState) -> Label:
        """Return the situation in a word, from the statistics that the law and the guard use."""
        slope, agreement = state.log_loss.trend.trend, state.last_cosine or 0.0
        if state.alarm:
            return "unstable"
        if state.quiet >= _PLATEAU_STEPS:
            return "plateau"
        if agreement < -0.1:
            return "oscillation"
        if agreement > 0.2 and slope < -0.02:
            return "fast_convergence"
        if agreement > 0.0 and slope > -0.02:
            return "slow_convergence"
        return "stable"

    def _probed(
        self,
        state: LearningRateState,
        rates: tuple[float, ...],
        log_losses: tuple[float, ...],
    ) -> LearningRateState:
        """Take a probe in: the best rate caps, the one below it on the grid starts."""
        best = min(range(len(rates)), key=lambda index: log_losses[index])
        return replace(
            state,
            is_probed=True,
            cap=rates[best] * self.headroom,
            start=rates[max(best - 1, 0)],
            num_losses=0,
            streak=0,
            mean=None,
            best=None,
            trail=(),
        )

    def _weighed(
        self, state: LearningRateState, observation: LearningRateObservation
    ) -> LearningRateState:
        """Take a finite loss in: raise an alarm, or fold it into the baseline."""
        loss = float(observation.loss or 0.0)
        state = replace(state, log_loss=state.log_loss.update(_log(loss)))
        if self._has_exploded(state, loss):
            return self._alarmed(state, observation, "exploded")
        is_high = state.best is not None and (
            loss > self.decline * state.best + self.decline_floor
        )
        streak = state.streak + 1 if is_high else 0
        if streak >= self.patience:
            return self._alarmed(state, observation, "declining")
        state = self._folded(state, loss, streak)
        if not is_high and observation.loss_version is not None:
            point = Point(observation.loss_version, state.last_lr or observation.lr or 0.1)
            state = replace(state, trail=(*state.trail, point)[-self.trail_length :])
        slope, agreement = state.log_loss.trend.trend, abs(observation.cosine or 0.0)
        is_quiet = agreement < 0.1 and slope > -0.005
        return replace(
            state, quiet=state.quiet + 1 if is_quiet else 0, last_lr=observation.lr
        )

    def _alarmed(
        self, state: LearningRateState, observation: LearningRateObservation, alarm: Alarm
    ) -> LearningRateState:
        """Raise an alarm; the rate in force becomes one to stay well below."""
        lr = observation.lr if observation.lr is not None else state.ceiling
        return replace(
            state,
            alarm=alarm,
            streak=0,
            last_lr=observation.lr,
            ceiling=min(state.ceiling, self.ceiling_share * lr),
        )

    def _folded(self, state: LearningRateState, loss: float, streak: int) -> LearningRateState:
        """Move the running mean and variance (exponential, weight 0.3) by one loss."""
        if state.mean is None:
            mean, variance = loss, (0.2 * loss) ** 2
        else:
            surprise = loss - state.mean
            mean = state.mean + 0.3 * surprise
            variance = 0.7 * (state.variance + 0.3 * surprise**2)
        best = mean if state.best is None else min(state.best, mean)
        return replace(
            state,
            mean=mean,
            variance=variance,
            best=best,
            num_losses=state.num_losses + 1,
            streak=streak,
        )

    def _has_exploded(self, state: LearningRateState, loss: float) -> bool:
        if state.mean is None or state.best is None or state.num_losses < 1:
            return False
        limit = self.explosion * state.mean + self.surprise * math.sqrt(state.variance)
        return loss > limit and loss > self.above_best * state.best

    def _begun(self, state: LearningRateState, plan: Plan) -> Decision:
        new = LR.clipped(min(float(state.start or LR.default), state.ceiling))
        changes = [Change("probe", plan["probe"], 0)] if plan["probe"] else []
        if new != plan["lr"]:
            changes.append(Change("lr", plan["lr"], new))
        return Decision(
            NAME,
            "start_from_probe",
            self.label(state),
            f"nodes did best at lr {state.cap or 0.0:.3g}: start below it, at {float(new):.3g}",
            tuple(changes),
        )

    def _returned(
        self, state: LearningRateState, observation: LearningRateObservation, plan: Plan
    ) -> Decision:
        """Return to the last good model; without one, or too often, only lower the rate."""
        lr = float(plan["lr"])
        what = {
            "nonfinite": "updates held NaN or infinity",
            "exploded": f"loss {observation.loss or 0.0:.3g} exploded",
            "declining": f"loss {observation.loss or 0.0:.3g} stays far above the best",
        }[state.alarm or "exploded"]
        if self._is_frozen(state, observation.step) and state.alarm != "nonfinite":
            return unchanged(NAME, "unstable", f"{what}, but there were enough restores lately")
        if not state.trail or self._is_frozen(state, observation.step):
            new = LR.clipped(lr * self.backoff)
            return Decision(
                NAME, "back_off", "unstable", f"{what} at lr {lr:.3g}", (Change("lr", lr, new),)
            )
        point = state.trail[0]
        new = LR.clipped(min(point.lr, lr) * self.backoff)
        baseline = _log(observation.loss) if observation.loss is not None else _log(state.mean)
        return Decision(
            NAME,
            "restore",
            "unstable",
            f"{what} at lr {lr:.3g}: return to version {point.version} at lr {float(new):.3g}",
            (Change("lr", plan["lr"], new),) if new != lr else (),
            restore=point.version,
            expect=Effect("log_loss", baseline, max(baseline - _log(state.mean), 0.0), 0.3, 3),
        )

    def _followed(
        self,
        state: LearningRateState,
        observation: LearningRateObservation,
        plan: Plan,
        label: Label,
    ) -> Decision:
        lr, cosine = float(plan["lr"]), float(observation.cosine or 0.0)
        limit = min(state.ceiling, math.inf if state.cap is None else state.cap)
        wanted = lr * math.exp(self.kappa * observation.pace * (cosine + self.offset))
        new = float(LR.clipped(min(wanted, limit)))
        action = "increase" if new > lr else "decrease" if new < lr else "hold"
        held = " (at its cap)" if wanted > limit else ""
        is_judged = observation.step % self.judged_every == 0
        return Decision(
            NAME,
            action,
            label,
            f"successive updates agree by {cosine:+.2f}: lr {lr:.3g} -> {new:.3g}{held}",
            (Change("lr", plan["lr"], new),) if new != lr else (),
            expect=self._expected(state) if is_judged else None,
        )

    def _expected(self, state: LearningRateState) -> Effect | None:
        """Return the law's own claim: the log loss goes on as forecast."""
        horizon = max(self.judged_every // 2, 1)
        baseline = state.log_loss.forecast(horizon)
        return None if baseline is None else (
            Effect("log_loss", baseline, 0.0, state.log_loss.sd, horizon, state.log_loss.sd)
        )

    def _is_frozen(self, state: LearningRateState, step: int) -> bool:
        recent = [s for s in state.rollbacks if step - s < self.rollback_window]
        return len(recent) >= self.max_rollbacks


def learning_rate(
    *,
    kappa: float = 0.6,
    offset: float = 0.1,
    use_probe: bool = True,
    headroom: float = 1.0,
    backoff: float = 0.3,
    patience: int = 3,
    judged_every: int = 10,
) -> Loop:
    """Return the learning-rate loop; parameters as in `Hypergradient`."""
    policy = Hypergradient(
        kappa=kappa,
        offset=offset,
        use_probe=use_probe,
        headroom=headroom,
        backoff=backoff,
        patience=patience,
        judged_every=judged_every,
    )
    return Loop(
        policy=policy,
        level="learning",
        component="coordinator",
        scope="branch",
        depends_on=(),
        influences=("loss", "accuracy"),
        guards=(bounds(), frozen_by_alarm("lr")),
        laws=("increase", "decrease", "hold"),
    )


def _log(loss: float | None) -> float:
    """Return a log loss that stays finite near zero."""
    return math.log(max(loss or 0.0, 0.0) + 1e-3)
