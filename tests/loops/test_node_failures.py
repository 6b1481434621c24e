import math

import pytest

from daafl.autonomy.plan import Change, Plan, Value
from daafl.loops.node_failures import FAILURE_KNOBS, FailureTrend, adjustment, left_out


def plan(**values: Value) -> Plan:
    return Plan.of(FAILURE_KNOBS, values)


def test_the_share_follows_the_steps() -> None:
    trend = FailureTrend().after(5, 5)
    assert trend.share == pytest.approx(0.3 * 0.5)
    assert trend.after(0, 10).share == pytest.approx(0.7 * 0.15)
    assert trend.after(0, 0) == trend  # a step without messages says nothing


def test_its_spread_is_that_of_independent_failures() -> None:
    assert FailureTrend(0.2, 16).sd == pytest.approx(math.sqrt(0.2 * 0.8 / 16))
    assert FailureTrend(0.0, 16).sd == FailureTrend().sd == 0.02


@pytest.mark.parametrize(
    ("share", "values", "expected"),
    [
        (0.1, {}, None),
        (0.16, {}, Change("retries", 0, 1)),
        (0.16, {"retries": 2}, Change("retries", 2, 3)),
        (0.16, {"retries": 3}, Change("quarantine_strikes", 2.5, 2.0)),
        (0.16, {"retries": 3, "quarantine_strikes": 1.7}, Change("quarantine_strikes", 1.7, 1.5)),
        (0.16, {"retries": 3, "quarantine_strikes": 1.5}, None),
        (0.02, {"retries": 2}, Change("retries", 2, 1)),
        (0.02, {"quarantine_strikes": 1.5}, Change("quarantine_strikes", 1.5, 2.0)),
        (0.02, {"quarantine_strikes": 2.2}, Change("quarantine_strikes", 2.2, 2.5)),
        (0.02, {"quarantine_strikes": 6.0}, None),
        (0.02, {}, None),
    ],
)
def test_one_knob_moves_at_a_time(
    share: float, values: dict[str, Value], expected: Change | None
) -> None:
    assert adjustment(FailureTrend(share, 10), plan(**values)) == expected


def test_who_is_left_out_in_words() -> None:
    assert left_out([4], ["shape"]) == "quarantine for node 4 (shape)"
    many = left_out(range(10), ["timeout"] * 10)
    assert many.startswith("quarantine for nodes 0 (timeout), 1 (timeout), ")
    assert many.endswith("7 (timeout) and 2 more")
