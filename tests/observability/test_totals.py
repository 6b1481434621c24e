import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from daafl.observability.events import StepRecord
from daafl.observability.run import Baseline, Run
from daafl.observability.totals import totals


def test_totals_without_a_summary_come_from_the_steps(
    scripted_run: Callable[..., Run], make_record: Callable[..., StepRecord]
) -> None:
    steps = (
        make_record(1, kind="probe", metrics={}, bytes_up=1, bytes_down=2, wall_seconds=0.5),
        make_record(1, metrics={"accuracy": 0.4, "loss": 2.0}, bytes_up=10, bytes_down=20),
        make_record(2, metrics={"accuracy": 0.8, "loss": 1.0}, bytes_up=10, bytes_down=20),
        make_record(3, metrics={}, bytes_up=10, bytes_down=20, restored=1),
        make_record(4, metrics={"accuracy": 0.7, "loss": math.nan}, bytes_up=10, bytes_down=20),
    )
    found = totals(scripted_run(steps=steps, summary=None, baseline=Baseline(accuracy=0.95)))
    assert (found.rounds, found.accuracy, found.loss) == (4, 0.7, 1.0)
    assert (found.best_accuracy, found.best_step) == (0.8, 2)
    assert (found.bytes_up, found.bytes_down) == (41, 82)
    assert found.wall_seconds == 0.5 + 4 * 0.25
    assert (found.rollbacks, found.alarms) == (1, 0)
    assert found.gap == pytest.approx(0.25)


def test_a_summary_wins_over_the_steps(scripted_run: Callable[..., Run]) -> None:
    run = scripted_run()
    assert run.summary is not None
    changed = replace(run, summary=replace(run.summary, final_accuracy=0.5, seconds=99.0))
    found = totals(changed)
    assert (found.accuracy, found.wall_seconds) == (0.5, 99.0)
    assert found.gap == pytest.approx(0.472)


def test_a_final_accuracy_that_is_not_finite_has_no_gap(scripted_run: Callable[..., Run]) -> None:
    run = scripted_run()
    assert run.summary is not None
    found = totals(replace(run, summary=replace(run.summary, final_accuracy=math.nan)))
    assert (found.accuracy, found.gap) == (None, None)


@pytest.mark.parametrize("bad", [{"accuracy": 1.2}, {"accuracy": math.nan}, {"loss": math.inf}])
def test_a_baseline_that_cannot_be_drawn_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"Baseline.{next(iter(bad))}"):
        Baseline(**bad)
