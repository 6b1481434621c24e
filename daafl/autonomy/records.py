"""What loops say and what comes of it: requests, expected effects, decisions, insights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from daafl.autonomy.plan import Change
from daafl.errors import ConfigError, DaaflError

Level: TypeAlias = Literal["privacy", "safety", "integrity", "device", "learning", "cost"]
Verdict: TypeAlias = Literal["better", "confirmed", "worse"]

STRENGTH: Final[Mapping[Level, int]] = {
    "privacy": 0,
    "safety": 0,
    "integrity": 1,
    "device": 2,
    "learning": 3,
    "cost": 4,
}
"""Rank of a level, 0 is the strongest; privacy and safety are equals."""

CONTINUE: Final = "continue"
"""Action of a decision that leaves everything as it is."""

ALERT: Final = "alert"
"""Action of a decision that tells people; it counts as acting even without a change."""

REWARD_LIMIT: Final = 3.0
"""Rewards beyond so many standard deviations count as this much: one outlier teaches little."""


@dataclass(frozen=True)
class Request:
    """A bound that one loop asks for on another loop's knob.

    Parameters
    ----------
    knob
        Knob to bound.
    level
        How strong the reason is.
    by, reason
        The asking loop, and why, in words.
    low, high
        Inclusive bounds asked for; ``None`` leaves that side open. With neither, the knob is to
        stay at its value: that is how a knob without numbers is held.
    ticks
        Cycles for which the request holds, the one it is made in included.

    Raises
    ------
    ConfigError
        When the bounds are not finite or contradict each other, or `ticks` is below 1.
    """

    knob: str
    level: Level
    by: str
    reason: str
    low: float | None = None
    high: float | None = None
    ticks: int = 1

    def __post_init__(self) -> None:
        """Check the bounds."""
        low, high = self.low, self.high
        if not all(bound is None or math.isfinite(bound) for bound in (low, high)):
            raise ConfigError(f"request of {self.by} on {self.knob}: an open bound is None")
        if low is not None and high is not None and low > high:
            raise ConfigError(f"request of {self.by} on {self.knob}: {low} is above {high}")
        if self.ticks < 1:
            raise ConfigError(f"request of {self.by} on {self.knob}: it must hold for 1 tick")


@dataclass(frozen=True)
class Effect:
    """What a decision is expected to do to one metric.

    Parameters
    ----------
    metric
        Name of the metric, which is better the smaller it is (``log_loss``).
    baseline
        Forecast of the metric at the horizon without the decision, frozen when it is made.
    mean
        Expected improvement: baseline minus metric.
    sd
        Standard deviation of the metric from one cycle to the next.
    horizon
        Cycles after which the effect is judged, at least 1.
    sd_mean
        Standard deviation of `mean` itself: how little is known about the action.

    Raises
    ------
    ConfigError
        When a standard deviation is negative or `horizon` is below 1.
    """

    metric: str
    baseline: float
    mean: float
    sd: float
    horizon: int
    sd_mean: float = 0.0

    def __post_init__(self) -> None:
        """Check the spreads and the horizon."""
        if not (self.sd >= 0 and self.sd_mean >= 0):
            raise ConfigError(f"effect on {self.metric}: a standard deviation is at least 0")
        if self.horizon < 1:
            raise ConfigError(f"effect on {self.metric}: it must be judged after 1 tick or more")


@dataclass(frozen=True)
class Decision:
    """What a loop wants, as data: it can be printed, stored, vetoed, replayed and compared.

    Parameters
    ----------
    loop, action
        Who decides what.
    state
        Label of the situation it was decided in; explains, never decides.
    reason
        One sentence with the numbers that led to it.
    changes
        Moves of the loop's own knobs.
    requests
        Bounds asked for on others' knobs.
    restore
        Model version to return to; ``None`` to go on.
    expect
        Expected effect; ``None`` for a tick that is not judged on its own.
    costs
        Further criteria by name, smaller is better, for settling conflicts and for budgets: the
        expected increase per cycle, its unit in the name (``seconds``, ``bytes``, ``joules``).
    confidence
        Between 0 and 1; scales the expected effect when loops compete.
    number
        Identity within the target; given by the hub to decisions that act.
    """

    loop: str
    action: str
    state: str
    reason: str
    changes: tuple[Change, ...] = ()
    requests: tuple[Request, ...] = ()
    restore: int | None = None
    expect: Effect | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 1.0
    number: int | None = None

    @property
    def acts(self) -> bool:
        """Whether anything follows from it: a change, a request, a restore or an alert."""
        has_content = bool(self.changes or self.requests) or self.restore is not None
        return has_content or self.action == ALERT


@dataclass(frozen=True)
class Insight:
    """What became of a decision.

    Parameters
    ----------
    loop, action, state, decision
        Which decision this is about.
    verdict
        ``confirmed`` when the effect was within one standard deviation of the expectation.
    expected, actual
        Improvement over the frozen baseline, expected and measured.
    z
        How many standard deviations the actual is above the expected.
    sentence
        The same in words.
    reward
        The actual improvement in standard deviations of the metric, within [-3, 3].
    """

    loop: str
    action: str
    state: str
    decision: int
    verdict: Verdict
    expected: float
    actual: float
    z: float
    sentence: str
    reward: float = 0.0


def unchanged(loop: str, state: str, reason: str) -> Decision:
    """Return a decision to leave everything as it is."""
    return Decision(loop, CONTINUE, state, reason)


def judged(decision: Decision, metric: float) -> Insight:
    """Return the insight into a decision whose metric came out at `metric` at its horizon.

    With the actual improvement ``a`` over the frozen baseline and the expectation's ``mean``,
    ``sd``, ``sd_mean`` and horizon ``h``, ``z = (a - mean) / sqrt(sd_mean^2 + sd^2 / h)``.

    Raises
    ------
    DaaflError
        For a decision without an expectation or a number, which nobody can judge.

    Examples
    --------
    >>> effect = Effect("log_loss", baseline=-1.0, mean=0.2, sd=0.2, horizon=4)
    >>> halve = Decision("lr", "halve", "rising", "loss rose", expect=effect, number=3)
    >>> insight = judged(halve, metric=-1.5)
    >>> insight.verdict, insight.actual, round(insight.z, 6)
    ('better', 0.5, 3.0)
    """
    effect = decision.expect
    if effect is None or decision.number is None:
        raise DaaflError(f"{decision.loop}: {decision.action} expects no effect to be judged by")
    actual = effect.baseline - metric
    spread = math.sqrt(effect.sd_mean**2 + effect.sd**2 / effect.horizon)
    # A law that claims to be certain is judged against a spread that no float can hide in.
    z = (actual - effect.mean) / max(spread, 1e-9)
    verdict: Verdict = "better" if z > 1 else "worse" if z < -1 else "confirmed"
    reward = actual / max(effect.sd, 1e-9)
    return Insight(
        loop=decision.loop,
        action=decision.action,
        state=decision.state,
        decision=decision.number,
        verdict=verdict,
        expected=effect.mean,
        actual=actual,
        z=z,
        sentence=(
            f"{effect.metric} came out {_distance(actual)} its forecast, "
            f"{_distance(effect.mean)} was expected: {verdict} (z {z:z.1f})"
        ),
        reward=min(max(reward, -REWARD_LIMIT), REWARD_LIMIT),
    )


def _distance(improvement: float) -> str:
    return f"{abs(improvement):.3g} {'above' if improvement < 0 else 'below'}"
