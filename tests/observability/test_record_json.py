import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from daafl.errors import CodecError
from daafl.observability.events import StepRecord
from daafl.observability.record_json import step_json, step_of, summary_json
from daafl.observability.run import Run


def through_json(record: StepRecord) -> StepRecord:
    return step_of(json.loads(json.dumps(step_json(record), allow_nan=False)))


def test_every_step_of_a_run_survives(scripted_run: Callable[..., Run]) -> None:
    for step in scripted_run().steps:
        finite = {k: v for k, v in step.metrics.items() if math.isfinite(v)}
        back = through_json(step)
        assert list(back.metrics) == list(step.metrics)
        assert {k: v for k, v in back.metrics.items() if math.isfinite(v)} == finite
        assert replace(back, metrics=finite) == replace(step, metrics=finite)


def test_numbers_that_are_not_finite_become_null_and_stay_measured(
    make_record: Callable[..., StepRecord],
) -> None:
    blown = make_record(1, metrics={"loss": math.inf, "accuracy": 0.1}, train_loss=math.nan)
    line = step_json(blown)
    assert (line["metrics"], line["train_loss"]) == ({"loss": None, "accuracy": 0.1}, None)
    back = through_json(blown)
    assert math.isnan(back.metrics["loss"])
    assert back.train_loss is None


def test_only_the_wall_key_depends_on_the_machine(make_record: Callable[..., StepRecord]) -> None:
    slow, fast = (
        step_json(make_record(3, wall_seconds=9.0)),
        step_json(make_record(3, wall_seconds=0.1)),
    )
    assert (slow.pop("wall"), fast.pop("wall")) == ({"seconds": 9.0}, {"seconds": 0.1})
    assert slow == fast


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wall", 3),
        ("wall", {"seconds": 1.0, "cpu": 2.0}),
        ("metrics", None),
        ("metrics", {"loss": "low"}),
        ("kind", "rest"),
        ("bytes_up", 1.5),
        ("surprise", 1),
    ],
)
def test_a_wrong_line_is_refused_by_field(
    field: str, value: object, make_record: Callable[..., StepRecord]
) -> None:
    with pytest.raises(CodecError, match=field):
        step_of({**step_json(make_record(1)), field: value})


def test_a_summary_has_no_nan(scripted_run: Callable[..., Run]) -> None:
    summary = scripted_run().summary
    assert summary is not None
    line = summary_json(replace(summary, final_loss=math.inf, best_accuracy=math.nan))
    assert (line["final_loss"], line["best_accuracy"]) == (None, None)
    json.dumps(line, allow_nan=False)
