"""What happens when, besides training: evaluations, and an operator's edits of the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, MetricRecord

from daafl.autonomy.plan import Knob, Value
from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed
from daafl.strategies.flower_records import array_record

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
"""Flower's: evaluates a model, given the number of the step it came from."""

Evaluate = Callable[[int, Packed], Mapping[str, float]]


@dataclass(frozen=True)
class Override:
    """An operator's edit of the plan.

    Parameters
    ----------
    step
        Step before which the value is set, from 1.
    knob, value
        What to set; the loop that owns the knob may move it again after that step.
    reason
        Written to the journal.
    """

    step: int
    knob: str
    value: Value
    reason: str = "operator"


@dataclass(frozen=True)
class Schedule:
    """What happens when, besides training.

    ``evaluate`` is ``None`` for evaluation on the nodes; ``evaluate_every`` 0 means never.
    """

    num_rounds: int
    evaluate: Evaluate | None
    evaluate_every: int
    overrides: Sequence[Override] = ()


def evaluator(evaluate_fn: EvaluateFn | None, layout: Layout) -> Evaluate | None:
    """Return ``evaluate_fn`` as a function of the packed model."""
    if evaluate_fn is None:
        return None

    def evaluate(step: int, packed: Packed) -> dict[str, float]:
        metrics = evaluate_fn(step, array_record(layout.unpack(packed)))
        if metrics is None:
            return {}
        return {key: float(value) for key, value in metrics.items() if not isinstance(value, list)}

    return evaluate


def check_overrides(overrides: Sequence[Override], knobs: Mapping[str, Knob]) -> None:
    """Refuse overrides of knobs that do not exist, and values that they do not allow.

    Raises
    ------
    ConfigError
        Naming the knob and what there is instead.
    """
    for override in overrides:
        what = f"override of {override.knob!r} before step {override.step}"
        if override.knob not in knobs:
            raise ConfigError(
                f"{what}: there is no such knob; choose among {', '.join(sorted(knobs))}"
            )
        if override.step < 1:
            raise ConfigError(f"{what}: steps count from 1")
        allowed = knobs[override.knob].clipped(override.value)
        if allowed != override.value:
            raise ConfigError(
                f"{what}: it cannot be {override.value!r}; the nearest allowed is {allowed!r}"
            )
