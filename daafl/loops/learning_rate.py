"""The learning-rate loop: measure a safe rate, follow the updates' agreement, undo explosions.

Observes the loss that nodes report for the model they *received*, and the cosine and length of the
mean update. Owns two knobs: ``lr``, and ``probe``, which asks the host to try rates on throw-away
copies before the next step.

Probe
    The rate with the lowest median log loss is the *cap*; training starts one grid step below.
Law
    ``lr <- lr * exp(kappa * pace * (cos - setpoint))``, within the cap and the ceiling: the
    multiplicative hypergradient rule (Baydin et al. 2018, arXiv 1703.04782, section 2) on the mean
    update. Updates that agree raise the rate, updates that point back lower it. At good rates the
    cosine settles slightly below zero, because few nodes with different data are sampled each
    time, hence the setpoint. ``pace`` is the share of updates that a step combines, so that
    buffered federations turn the knob as often per pass over the data. While updates agree at the
    cap, the cap itself grows, up to one grid step; when nothing improves any more far from a good
    loss, it is cut.
Guard
    `daafl.loops.loss_guard` finds fault with a step. The branch then returns to its last good
    model, at a fraction of the rate and under a ceiling below the rate that failed. If the good
    model turns out to be bad as well, the data has moved: rate and ceiling come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from daafl.autonomy.forecast import Cusum
from daafl.autonomy.guards import bounds, frozen_by_alarm
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import CONTINUE, Decision, Effect, Insight, judged, unchanged
from daafl.errors import ConfigError
from daafl.loops.loss_guard import Fault, LossGuard, Point

NAME: Final = "learning_rate"
LR: Final = Knob(
    "lr", "1", 0.1, NAME, "branch", 1e-5, 30.0, description="learning rate of local training"
)
PROBE: Final = Knob(
    "probe", "", 0, NAME, "branch", 0, 1, description="1: try learning rates before the next step"
)
LOWEST, HIGHEST = 1e-4, 3.0

Label = Literal[
    "fast_convergence", "slow_convergence", "oscillation", "plateau", "stable", "unstable"
]

_FAULTS: Final[dict[Fault, str]] = {
    "nonfinite": "losses or updates were not finite",
    "jump": "the loss jumped",
    "decline": "the loss has been rising",
    "sunk": "the loss stays above its best and nothing improves",
    "surge": "the mean update is far longer than any lately",
}


@dataclass(frozen=True)
class LearningRateObservation:
    """What the loop reads; fields as in the host's step facts, ``None`` where unknown."""

    step: int = 0
    version: int = 0
    lr: float | None = None
    loss: float | None = None
    loss_version: int | None = None
    cosine: float | None = None
    update_norm: float | None = None
    pace: float = 1.0
    nonfinite_fraction: float = 0.0
    probe_rates: tuple[float, ...] | None = None
    probe_log_losses: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What the last observation calls for.

    Parameters
    ----------
    action
        Name of the decision; ``continue`` for nothing.
    reason
        Why, in words.
    lr
        Next rate; ``None`` to leave it.
    restore
        Version to return to; ``None`` to go on.
    """

    action: str = CONTINUE
    reason: str = "nothing was observed yet"
    lr: float | None = None
    restore: int | None = None


@dataclass(frozen=True)
class LearningRateState:
    """What the loop remembers.

    Parameters
    ----------
    guard
        Statistics of the loss.
    is_probed, attempts
        Whether a probe was answered or given up, and how often one was asked for.
    probed, cap, ceiling
        Best probed rate, highest rate for now, and highest rate since one failed.
    spared
        Rate and ceiling before a restore whose model has not reported yet.
    rollbacks
        Steps at which the branch was returned.
    barrier
        Reports about this version or older ones are of an abandoned model.
    cosine, flat
        Running mean of the agreement between updates, and reports in a row without agreement or
        progress; for the label.
    log_loss
        Forecast of the log loss, by which decisions are judged.
    verdict
        What the last observation calls for.
    """

    guard: LossGuard
    is_probed: bool = False
    attempts: int = 0
    probed: float = HIGHEST
    cap: float = HIGHEST
    ceiling: float = HIGHEST
    spared: tuple[float, float] | None = None
    rollbacks: tuple[int, ...] = ()
    barrier: int = -1
    cosine: float = 0.0
    flat: int = 0
    log_loss: Cusum = field(default_factory=Cusum)
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True)
class Hypergradient:
    """The policy; its parameters are the constants of the law.

    Parameters
    ----------
    kappa, setpoint
        Log step of the rate per unit of cosine, and the cosine at which the rate stays.
    cap_growth, cap_limit
        Log growth of the cap per unit of positive cosine, and how far above the probed rate.
    patience, plateau_cut
        Reports without improvement after which the cap is cut, and to which share.
    cut, ceiling_share, relaxation
        After a restore: share of the rate to go on with, ceiling as a share of the rate that
        failed, and growth of that ceiling per step.
    max_rollbacks, rollback_window
        Restores allowed within so many steps; beyond them the rate stays where it is.
    use_probe, max_attempts
        Whether to measure a cap before the first step, and how often to ask for that.
    judged_every
        Steps from one judged tick of the law to the next.
    """

    kappa: float = 0.6
    setpoint: float = -0.15
    cap_growth: float = 0.05
    cap_limit: float = 3.1
    patience: int = 6
    plateau_cut: float = 0.5
    cut: float = 0.3
    ceiling_share: float = 0.5
    relaxation: float = 1.01
    max_rollbacks: int = 3
    rollback_window: int = 50
    use_probe: bool = True
    max_attempts: int = 2
    judged_every: int = 5

    name = NAME
    observation = LearningRateObservation
    state = LearningRateState
    knobs = (LR, PROBE)

    def init(self) -> LearningRateState:
        """Return the state before the first step."""
        return LearningRateState(LossGuard(self.patience), is_probed=not self.use_probe)

    def wanted_versions(self, state: LearningRateState) -> frozenset[int]:
        """Return the versions that a restore may name."""
        return frozenset(point.version for point in state.guard.good)

    def observe(
        self, state: LearningRateState, observation: LearningRateObservation
    ) -> LearningRateState:
        """Return the state after a step, a probe, or the look at the federation before either."""
        state = replace(state, verdict=Verdict())
        if observation.probe_rates and observation.probe_log_losses:
            return self._probed(state, observation.probe_rates, observation.probe_log_losses)
        if not state.is_probed:
            return self._unprobed(state)
        version = observation.loss_version
        has_exploded = observation.nonfinite_fraction > 0.5
        if version is None and not has_exploded:
            return replace(state, verdict=Verdict(reason="nobody reported a loss"))
        if version is None:
            version = observation.version
        if version <= state.barrier:
            return replace(state, verdict=Verdict(reason="reports are of an abandoned model"))
        return self._reported(state, observation, version, has_exploded)

    def reason(
        self, state: LearningRateState, observation: LearningRateObservation, plan: Plan
    ) -> Decision:
        """Return what the last observation calls for, under the plan in force."""
        verdict, label = state.verdict, self.label(state)
        changes = []
        if plan["probe"] != (verdict.action == "probe"):
            changes.append(Change("probe", plan["probe"], int(verdict.action == "probe")))
        lr = float(plan["lr"])
        new = LR.clipped(verdict.lr) if verdict.lr is not None else lr
        if new != lr:
            changes.append(Change("lr", plan["lr"], new))
        if verdict.action == CONTINUE and not changes:
            return unchanged(NAME, label, verdict.reason)
        return Decision(
            NAME,
            verdict.action,
            label,
            verdict.reason,
            tuple(changes),
            restore=verdict.restore,
            expect=self._expected(state, observation),
        )

    def reflect(
        self,
        decision: Decision,
        before: LearningRateObservation,
        after: LearningRateObservation,
    ) -> Insight | None:
        """Judge by the log loss at the horizon; ``None`` if no finite one is reported then."""
        return None if after.loss is None else judged(decision, _log(after.loss))

    def adapt(self, state: LearningRateState, insight: Insight) -> LearningRateState:
        """Return the state unchanged: the law adapts with every step, not with every verdict."""
        return state

    def label(self, state: LearningRateState) -> Label:
        """Return the situation in a word, from the statistics that law and guard use."""
        if state.verdict.action in ("restore", "shift"):
            return "unstable"
        if state.cosine < -0.25:
            return "oscillation"
        if state.flat >= 8:
            return "plateau"
        if state.guard.slope < -0.03 and state.cosine > 0:
            return "fast_convergence"
        return "slow_convergence" if state.guard.slope < -0.01 else "stable"

    def _unprobed(self, state: LearningRateState) -> LearningRateState:
        """Ask for a probe, or give up when nobody answered several."""
        attempts = state.attempts + 1
        if attempts > self.max_attempts:
            reason = f"{self.max_attempts} probes were not answered: go on with the rate there is"
            return replace(state, is_probed=True, verdict=Verdict(reason=reason))
        reason = "no learning rate was measured yet: nodes try a few on throw-away copies"
        return replace(state, attempts=attempts, verdict=Verdict("probe", reason))

    def _probed(
        self,
        state: LearningRateState,
        rates: tuple[float, ...],
        log_losses: tuple[float, ...],
    ) -> LearningRateState:
        """Take a probe in: it sets the cap, and a later one, asked for in an alarm, lowers it.

        A late probe never raises the cap: nodes that know few classes fit them best at rates that
        are far too high for the federation. After a restore it leaves the rate to the verdict on
        the restored model; without one it is a restart, because the data moved.
        """
        best = min(range(len(rates)), key=lambda index: log_losses[index])
        cap = min(rates[best], state.probed) if state.is_probed else rates[best]
        if state.spared is not None:
            verdict = Verdict(reason=f"nodes did best at lr {rates[best]:.3g}: cap at {cap:.3g}")
            return replace(state, probed=cap, cap=min(state.cap, cap), verdict=verdict)
        start = max((rate for rate in rates if rate < cap), default=cap)
        reason = f"nodes did best at lr {rates[best]:.3g}: start below it, at {start:.3g}"
        return replace(
            state,
            guard=state.guard.restarted(),
            is_probed=True,
            probed=cap,
            cap=cap,
            cosine=0.0,
            flat=0,
            verdict=Verdict("start_from_probe", reason, start),
        )

    def _reported(
        self,
        state: LearningRateState,
        observation: LearningRateObservation,
        version: int,
        has_exploded: bool,
    ) -> LearningRateState:
        """Take the reports of a step in: find fault with it, or follow the law."""
        lr = observation.lr if observation.lr is not None else LR.default
        guard, x = state.guard.scaled(None if has_exploded else observation.loss)
        state = replace(state, guard=guard)
        if x is not None:
            spared, state = state.spared, replace(state, spared=None)
            if observation.loss is not None:
                state = replace(state, log_loss=state.log_loss.update(_log(observation.loss)))
            if spared is not None and guard.is_shifted(x):
                return self._shifted(state, spared, x, version, float(lr))
        pace = observation.pace
        fault = guard.fault_of(x, pace)
        is_spent = self._is_spent(state, observation.step)
        if x is not None and (not fault or is_spent):
            guard = guard.folded(x, version, float(lr), pace)
        fault = fault or guard.late_fault_of(observation.update_norm)
        state = replace(state, guard=guard)
        if fault and not is_spent:
            return self._rolled_back(state, observation, fault, Point(version, float(lr)))
        state = replace(
            state,
            guard=guard.measured(observation.update_norm),
            ceiling=min(HIGHEST, state.ceiling * self.relaxation),
        )
        if is_spent:
            reason = f"{self.max_rollbacks} returns lately are enough: the rate stays"
            return replace(state, verdict=Verdict(reason=reason))
        if observation.cosine is None:
            return replace(state, verdict=Verdict(reason="no two updates to compare yet"))
        return self._followed(state, float(lr), observation.cosine, observation.pace)

    def _shifted(
        self,
        state: LearningRateState,
        spared: tuple[float, float],
        x: float,
        version: int,
        lr: float,
    ) -> LearningRateState:
        """Give rate and ceiling back: the model that was good is bad now, so the data moved."""
        old_lr, ceiling = spared
        new = min(old_lr, state.cap)
        reason = f"the model that was good has a bad loss too: the data moved, back to lr {new:.3g}"
        return replace(
            state,
            guard=state.guard.restarted().folded(x, version, lr),
            ceiling=ceiling,
            rollbacks=state.rollbacks[:-1],
            verdict=Verdict("shift", reason, new),
        )

    def _rolled_back(
        self,
        state: LearningRateState,
        observation: LearningRateObservation,
        fault: Fault,
        incoming: Point,
    ) -> LearningRateState:
        """Return to the last good model, or to the one just trained from if it has no fault."""
        safest = state.guard.safest
        is_incoming = fault == "surge" or safest is None
        point = incoming if is_incoming or safest is None else safest
        lr = max(self.cut * min((safest or incoming).lr, incoming.lr), LOWEST)
        reason = f"{_FAULTS[fault]} at lr {incoming.lr:.3g}: return to version {point.version}"
        return replace(
            state,
            guard=state.guard.restored(point, is_incoming=is_incoming),
            ceiling=max(self.ceiling_share * incoming.lr, lr),
            spared=None if is_incoming else (incoming.lr, state.ceiling),
            rollbacks=(*state.rollbacks, observation.step)[-self.max_rollbacks :],
            barrier=incoming.version,
            cosine=0.0,
            flat=0,
            verdict=Verdict("restore", f"{reason} at lr {lr:.3g}", lr, point.version),
        )

    def _followed(
        self, state: LearningRateState, lr: float, cosine: float, pace: float
    ) -> LearningRateState:
        """Follow the law for one step."""
        mean_cosine = state.cosine + 0.3 * (cosine - state.cosine)
        is_flat = abs(state.guard.slope) < 0.01 and abs(cosine) < 0.15
        state = replace(state, cosine=mean_cosine, flat=state.flat + 1 if is_flat else 0)
        cap = state.cap
        if lr >= 0.5 * cap:
            limit = max(cap, self.cap_limit * state.probed)
            cap = min(HIGHEST, limit, cap * math.exp(self.cap_growth * pace * max(cosine, 0.0)))
        wanted = lr * math.exp(self.kappa * pace * (cosine - self.setpoint))
        new = max(min(wanted, cap, state.ceiling), LOWEST)
        if state.guard.stands_still and state.guard.is_far_from_done:
            cap = max(min(cap, new) * self.plateau_cut, LOWEST)
            new = min(new, cap)
            reason = f"nothing improves any more at lr {lr:.3g}: cap it at {cap:.3g}"
            guard = replace(state.guard, idle=0.0)
            return replace(state, guard=guard, cap=cap, verdict=Verdict("cut_cap", reason, new))
        action = "increase" if new > lr else "decrease" if new < lr else "hold"
        held = ", held by its cap" if new < wanted else ""
        reason = f"successive updates agree by {cosine:+.2f}: lr {lr:.3g} -> {new:.3g}{held}"
        return replace(state, cap=cap, verdict=Verdict(action, reason, new))

    def _expected(
        self, state: LearningRateState, observation: LearningRateObservation
    ) -> Effect | None:
        """Return the claim a decision is judged by: the loss goes on as forecast, or comes back.

        The law is judged every few steps, so that the windows of its decisions do not overlap.
        """
        is_restore = state.verdict.restore is not None
        is_due = observation.step > 0 and observation.step % self.judged_every == 0
        horizon = self.judged_every
        baseline = state.log_loss.forecast(horizon)
        if baseline is None or not (is_restore or is_due):
            return None
        return Effect("log_loss", baseline, 0.0, state.log_loss.sd, horizon, state.log_loss.sd)

    def _is_spent(self, state: LearningRateState, step: int) -> bool:
        recent = [at for at in state.rollbacks if step - at < self.rollback_window]
        return len(recent) >= self.max_rollbacks


def learning_rate(
    *,
    kappa: float = 0.6,
    setpoint: float = -0.15,
    cap_growth: float = 0.05,
    patience: int = 6,
    use_probe: bool = True,
    max_rollbacks: int = 3,
    judged_every: int = 5,
) -> Loop:
    """Return the learning-rate loop; parameters as in `Hypergradient`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    limits = {"kappa": (kappa, 0.0, 10.0), "setpoint": (setpoint, -1.0, 1.0)}
    limits |= {"cap_growth": (cap_growth, 0.0, 10.0), "patience": (patience, 1, math.inf)}
    limits |= {"max_rollbacks": (max_rollbacks, 0, math.inf)}
    limits |= {"judged_every": (judged_every, 1, math.inf)}
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ConfigError(
                f"learning_rate.{name} is {value}, but must be within [{low}, {high}]"
            )
    return Loop(
        policy=Hypergradient(
            kappa=kappa,
            setpoint=setpoint,
            cap_growth=cap_growth,
            patience=patience,
            use_probe=use_probe,
            max_rollbacks=max_rollbacks,
            judged_every=judged_every,
        ),
        level="learning",
        component="coordinator",
        scope="branch",
        influences=("loss", "accuracy"),
        guards=(bounds(), frozen_by_alarm("lr")),
        # A restore is what keeps the run safe, so it is not a strategy to be given up either.
        laws=("increase", "decrease", "hold", "cut_cap", "restore", "shift", "start_from_probe"),
    )


def _log(loss: float) -> float:
    """Return a log loss that stays finite near zero."""
    return math.log(max(loss, 0.0) + 1e-3)
