"""JSON of the records in a run folder.

JSON has no NaN. A loss or metric that is not finite is written as ``null``. In ``metrics`` it is
read back as NaN, because leaving it out would mean that the step was not evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from daafl.autonomy.codec import decode, encode
from daafl.errors import CodecError
from daafl.observability.events import RunSummary, StepRecord

WALL = "wall"
"""Key of the fields that depend on the machine's speed; comparisons of two runs leave it out."""


def step_json(record: StepRecord) -> dict[str, object]:
    """Return the JSON object of a step.

    Raises
    ------
    CodecError
        When a field other than a loss or a metric holds a number that is not finite.
    """
    line = _encoded(replace(record, train_loss=_finite(record.train_loss), metrics={}))
    line["metrics"] = {name: _finite(value) for name, value in record.metrics.items()}
    line[WALL] = {"seconds": line.pop("wall_seconds")}
    return line


def step_of(line: Mapping[str, object]) -> StepRecord:
    """Return the step that `step_json` wrote.

    Raises
    ------
    CodecError
        When the object does not describe a step; names the field and the rule.
    """
    fields = dict(line)
    wall = fields.pop(WALL, None)
    if not isinstance(wall, Mapping) or wall.keys() != {"seconds"}:
        raise CodecError(f"StepRecord.{WALL} must be an object with the one field seconds")
    fields["wall_seconds"] = wall["seconds"]
    metrics = fields.get("metrics")
    if not isinstance(metrics, Mapping):
        raise CodecError("StepRecord.metrics must be an object")
    fields["metrics"] = {name: value for name, value in metrics.items() if value is not None}
    step = decode(StepRecord, fields)
    return replace(step, metrics={name: step.metrics.get(name, math.nan) for name in metrics})


def summary_json(summary: RunSummary) -> dict[str, object]:
    """Return the JSON object of ``summary.json``."""
    return _encoded(
        replace(
            summary,
            final_accuracy=_finite(summary.final_accuracy),
            final_loss=_finite(summary.final_loss),
            best_accuracy=_finite(summary.best_accuracy),
            epsilon=_finite(summary.epsilon),
        )
    )


def _encoded(record: StepRecord | RunSummary) -> dict[str, object]:
    encoded = encode(record)
    if not isinstance(encoded, Mapping):
        raise CodecError(f"{type(record).__name__} must become a JSON object")
    return dict(encoded)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
