"""When a run may end before its last round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from daafl.errors import ConfigError


@dataclass(frozen=True)
class Progress:
    """Best value of the watched metric so far, and evaluations since it was set."""

    best: float | None = None
    since_best: int = 0


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a run when it has reached a target or a plateau.

    Parameters
    ----------
    metric
        Name of the evaluation metric to watch; losses count down, everything else up.
    target
        Value at which the run has what was asked; ``None`` for no target.
    patience
        Evaluations without an improvement of ``min_delta`` after which the run ends; ``None``
        for no plateau rule.
    min_delta
        Smallest change that counts as an improvement.

    Examples
    --------
    >>> rule = EarlyStopping(target=0.9)
    >>> rule.check(Progress(), {"accuracy": 0.93})[1]
    'accuracy 0.9300 reached the target 0.9'
    """

    metric: str = "accuracy"
    target: float | None = None
    patience: int | None = None
    min_delta: float = 0.001

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"stopping.patience is {self.patience}, but must be 1 or more")
        if self.min_delta < 0:
            raise ConfigError(f"stopping.min_delta is {self.min_delta}, but must not be negative")

    def check(
        self, progress: Progress, metrics: Mapping[str, float]
    ) -> tuple[Progress, str | None]:
        """Return the progress after this evaluation, and why to stop (``None`` to go on)."""
        value = metrics.get(self.metric)
        if value is None:
            return progress, None
        sign = -1.0 if "loss" in self.metric else 1.0
        gain = None if progress.best is None else sign * (value - progress.best)
        if gain is None or gain >= self.min_delta:
            progress = Progress(best=value)
        else:
            progress = replace(progress, since_best=progress.since_best + 1)
        if self.target is not None and sign * (value - self.target) >= 0:
            return progress, f"{self.metric} {value:.4f} reached the target {self.target:g}"
        if self.patience is not None and progress.since_best >= self.patience:
            return progress, (
                f"{self.metric} has not improved by {self.min_delta:g} "
                f"in {self.patience} evaluations"
            )
        return progress, None
