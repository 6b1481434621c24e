import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.observability.report.scale import Scale, scale_over


def test_fractions_are_linear_or_equal_ratios_and_clipped() -> None:
    assert [Scale(0, 10).fraction(v) for v in (-5, 0, 2.5, 10, 99)] == [0, 0, 0.25, 1, 1]
    log = Scale(1e-4, 1.0, is_log=True)
    assert [log.fraction(v) for v in (1e-9, 1e-4, 1e-3, 1.0)] == pytest.approx([0, 0, 0.25, 1])


def test_ticks_are_round() -> None:
    assert Scale(0.5, 60.5).ticks(6) == (10, 20, 30, 40, 50, 60)
    assert Scale(0.07, 1.0).ticks(4) == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))
    assert Scale(1e-3, 20, is_log=True).ticks(4) == pytest.approx((1e-3, 1e-2, 1e-1, 1, 10))
    assert Scale(0.09, 0.5, is_log=True).ticks(4) == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    assert Scale(1e-6, 1e6, is_log=True).ticks(4) == pytest.approx((1e-6, 1e-3, 1, 1e3, 1e6))


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, math.inf), (math.nan, 1)])
def test_a_range_without_length_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="finite low < high"):
        Scale(low, high)


def test_a_log_axis_cannot_reach_zero() -> None:
    with pytest.raises(ValueError, match="low > 0"):
        Scale(0, 1, is_log=True)


def test_series_over_decades_get_a_log_axis() -> None:
    assert scale_over([0.1, 40.0]).is_log
    assert not scale_over([0.1, 2.0]).is_log
    assert not scale_over([0.0, 40.0]).is_log
    assert not scale_over([0.01, 0.9], is_log=False).is_log


@given(
    st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32)),
    st.none() | st.booleans(),
)
def test_any_values_fit_on_their_axis(values: list[float | None], is_log: bool | None) -> None:
    scale = scale_over(values, is_log=is_log)
    finite = [v for v in values if v is not None and math.isfinite(v)]
    shown = [v for v in finite if v > 0] if scale.is_log else finite
    assert all(scale.low <= v <= scale.high for v in shown)
    ticks = scale.ticks()
    assert list(ticks) == sorted(ticks)
    assert len(ticks) <= 12
    assert all(0 <= scale.fraction(tick) <= 1 for tick in ticks)
