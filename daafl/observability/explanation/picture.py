"""What is drawn of a decision: the metric, its forecast without the decision, and the knob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from math import sqrt

from daafl.observability.explanation.account import Account, Sample, moved_number
from daafl.observability.outcomes import change_text

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Picture:
    """Curves around a decision, as positions and values.

    Parameters
    ----------
    title
        What is drawn.
    unit_x
        What positions count: ``step``, or ``tick`` where steps are not known.
    moment
        Position of the decision.
    before, after
        What was observed up to the decision, and from it on.
    forecast
        Where the metric was forecast to go without the decision.
    expected
        The value expected with it, at its horizon; empty without one.
    spread
        Standard deviation by which the outcome may miss that; ``None`` without one.
    end
        Position of the judgement; ``None`` if it has none.
    """

    title: str
    unit_x: str
    moment: float
    before: Points
    after: Points
    forecast: Points = ()
    expected: Points = ()
    spread: float | None = None
    end: float | None = None

    @property
    def values(self) -> list[float]:
        """Everything that has to be visible."""
        spread = self.spread or 0.0
        ends = [v for _, y in self.expected for v in (y - spread, y + spread)]
        return [y for part in (self.before, self.after, self.forecast) for _, y in part] + ends

    @property
    def positions(self) -> list[float]:
        """Everything that has to be within the axis."""
        parts = (self.before, self.after, self.forecast, self.expected)
        return [x for part in parts for x, _ in part] + [self.moment]


def picture(account: Account) -> Picture | None:
    """Return what to draw; ``None`` for a decision without a metric and without a number."""
    return _of_metric(account) or _of_knob(account)


def _of_metric(account: Account) -> Picture | None:
    effect = account.decision.expect
    if effect is None or not account.metric:
        return None
    has_steps = account.cycle.step is not None and all(s.step is not None for s in account.metric)
    moment = _position(account.cycle.tick, account.cycle.step, has_steps)
    before, after = _split(account, account.metric, has_steps)
    due = account.cycle.tick + effect.horizon
    if account.closed is not None:
        end = _position(account.closed.tick, account.closed.step, has_steps)
    elif has_steps and account.due is not None:
        end = float(account.due)
    else:
        end = float(due)
    start = before[-1:] or after[:1]
    return Picture(
        title=f"{effect.metric} (smaller is better)",
        unit_x="step" if has_steps else "tick",
        moment=moment,
        before=before,
        after=after,
        forecast=(*start, (end, effect.baseline)),
        expected=((end, effect.baseline - effect.mean),),
        spread=sqrt(effect.sd_mean**2 + effect.sd**2 / effect.horizon),
        end=end,
    )


def _of_knob(account: Account) -> Picture | None:
    change = moved_number(account.decision)
    if not account.knob or change is None:
        return None
    has_steps = all(sample.step is not None or sample.tick == 0 for sample in account.knob)
    before, after = _split(account, account.knob, has_steps)
    return Picture(
        title=change_text(change),
        unit_x="step" if has_steps else "tick",
        moment=_position(account.cycle.tick, account.cycle.step, has_steps),
        before=_stairs(before),
        after=_stairs(after),
    )


def _stairs(points: Points) -> Points:
    """Return the corners of a value that is held until the next one."""
    corners = [(later, value) for (_, value), (later, _) in pairwise(points)]
    return tuple(point for pair in zip_longest(points, corners) for point in pair if point)


def _split(account: Account, samples: Sequence[Sample], has_steps: bool) -> tuple[Points, Points]:
    """Return the points up to the decision, and from it on; both hold the decision's own."""
    placed = [(s.tick, (_position(s.tick, s.step, has_steps), s.value)) for s in samples]
    tick = account.cycle.tick
    before = tuple(point for at, point in placed if at <= tick)
    return before, (*before[-1:], *(point for at, point in placed if at > tick))


def _position(tick: int, step: int | None, has_steps: bool) -> float:
    # Tick 0 looks at the federation before its first step.
    return float((step or 0) if has_steps else tick)
