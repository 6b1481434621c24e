"""Watches a branch's loss: notices explosions, slow declines and plateaus, remembers good models.

All of it works on ``x = log(loss + 0.05 * first loss)``. On that scale a fixed rise means the same
for every task, and the noise of a loss close to zero means little. Losses are keyed by the version
of the model they are about, which is the one nodes *received*.

The constants were chosen on development seeds of three tasks, together with the law in
`daafl.loops.learning_rate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

Fault = Literal["", "nonfinite", "jump", "decline", "sunk", "surge"]
"""Why the last step must be undone, from worst to mildest evidence; empty if it must not.

``jump``: the loss rose at once. ``decline``: its running mean rose over several steps. ``sunk``:
the same, less far, after nothing has improved for long. ``surge``: the mean update is far longer
than any lately, so that the loss will jump in the next report.
"""

FLOOR_SHARE: Final = 0.05
MEAN_WEIGHT: Final = 0.3
FIRST_SD: Final = 0.2
JUMP: Final = math.log(1.5)
JUMP_SDS: Final = 4.0
DECLINE: Final = math.log(2.0)
SUNK: Final = math.log(1.3)
SURGE: Final = 5.0
SETTLED: Final = math.log(1.1)
GAIN: Final = 0.02
NUM_NORMS: Final = 10
NUM_GOOD: Final = 5


@dataclass(frozen=True)
class Point:
    """A model version with a healthy loss.

    Parameters
    ----------
    version
        Of the model.
    lr
        Learning rate in force when the loss was reported.
    x
        The loss, on the guard's scale.
    """

    version: int
    lr: float
    x: float = 0.0


@dataclass(frozen=True)
class LossGuard:
    """Statistics of the loss since the last restore.

    Parameters
    ----------
    patience
        Reports without improvement after which the loss counts as standing still.
    first
        First finite loss of the run; sets the scale.
    mean, variance, best
        Running mean of x, its running variance, and the lowest running mean.
    mark, idle
        Running mean at the last improvement, and reports since; a report of a buffered step counts
        as the share of the updates it combines, because few nodes make a noisy loss.
    slope
        Running mean of how far ``mean`` moves per report.
    seen
        Reports since the start, or since the last restore.
    norms
        Lengths of the latest mean updates.
    good
        Latest versions with a healthy loss, oldest first. A restore takes the oldest, because the
        state of a server optimiser is poisoned some steps before the loss shows it.
    """

    patience: int = 6
    first: float | None = None
    mean: float | None = None
    variance: float = FIRST_SD**2
    best: float = 0.0
    mark: float = 0.0
    idle: float = 0.0
    slope: float = 0.0
    seen: int = 0
    norms: tuple[float, ...] = ()
    good: tuple[Point, ...] = ()

    @property
    def sd(self) -> float:
        """Running standard deviation of x."""
        return math.sqrt(self.variance)

    def scaled(self, loss: float | None) -> tuple[LossGuard, float | None]:
        """Return the guard with its scale set, and x; ``None`` for a loss that is not finite."""
        if loss is None:
            return self, None
        guard = self if self.first is not None else replace(self, first=loss)
        return guard, math.log(max(loss, 0.0) + FLOOR_SHARE * (guard.first or 1.0) + 1e-12)

    @property
    def safest(self) -> Point | None:
        """The oldest good version that is not much worse than the best, to return to."""
        near = (point for point in self.good if point.x - self.best <= DECLINE)
        return next(near, self.good[-1] if self.good else None)

    def fault_of(self, x: float | None, pace: float = 1.0) -> Fault:
        """Return what a report, of a share ``pace`` of the nodes, says about the step before."""
        if x is None:
            return "nonfinite"
        if self.mean is None or self.seen < 2:
            return ""
        rise = x - self.mean
        if rise > max(JUMP, JUMP_SDS * self.sd) and x - self.best > JUMP:
            return "jump"
        if self.mean + MEAN_WEIGHT * pace * rise - self.best > DECLINE:
            return "decline"
        return ""

    def late_fault_of(self, norm: float | None) -> Fault:
        """Return what is wrong although the last report was not, after folding it in."""
        if norm is not None and len(self.norms) >= 3 and norm > SURGE * max(self.norms):
            return "surge"
        if self.stands_still and self.mean is not None and self.mean - self.best > SUNK:
            return "sunk"
        return ""

    @property
    def stands_still(self) -> bool:
        """Whether nothing has improved for ``patience`` reports."""
        return self.idle >= self.patience

    @property
    def is_far_from_done(self) -> bool:
        """Whether the loss still is well above the scale of the noise it ends in."""
        if self.mean is None or self.first is None:
            return False
        return self.mean > math.log(2 * FLOOR_SHARE * self.first + 1e-12)

    def is_shifted(self, x: float) -> bool:
        """Whether a model known to be good has become bad: the data moved, not the model."""
        return x - self.best > max(JUMP, JUMP_SDS * self.sd)

    def folded(self, x: float, version: int, lr: float, pace: float = 1.0) -> LossGuard:
        """Return the guard with a report of a share ``pace`` of the nodes taken in."""
        weight = MEAN_WEIGHT * pace
        mean, best, mark = (x, x, x) if self.mean is None else (self.mean, self.best, self.mark)
        surprise = x - mean
        mean += weight * surprise
        best = min(best, mean)
        has_gained = mean < mark - GAIN
        is_good = not self.good or (mean - best <= SETTLED and x - best <= JUMP)
        return replace(
            self,
            mean=mean,
            best=best,
            variance=(1 - weight) * (self.variance + weight * surprise**2),
            mark=mean if has_gained else mark,
            idle=0.0 if has_gained else self.idle + pace,
            slope=self.slope + weight * (MEAN_WEIGHT * surprise - self.slope),
            seen=self.seen + 1,
            good=(*self.good, Point(version, lr, x))[-NUM_GOOD:] if is_good else self.good,
        )

    def measured(self, norm: float | None) -> LossGuard:
        """Return the guard with the length of a mean update taken in."""
        if norm is None or norm <= 0:
            return self
        return replace(self, norms=(*self.norms, norm)[-NUM_NORMS:])

    def restored(self, point: Point, *, is_incoming: bool) -> LossGuard:
        """Return the guard after the branch went back to ``point``.

        The model that the last report was about (``is_incoming``) keeps its statistics; for an
        older one the best loss is what to expect.
        """
        guard = replace(self, seen=0, idle=0.0)
        if is_incoming:
            return guard
        return replace(guard, mean=self.best, mark=self.best, good=(point,))

    def restarted(self) -> LossGuard:
        """Return a guard that learns its baseline anew, on the old scale."""
        return LossGuard(patience=self.patience, first=self.first)
