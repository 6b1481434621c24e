import math

import numpy as np
import pytest

from daafl.autonomy.codec import decode, encode
from daafl.autonomy.forecast import Cusum, Holt, MadScale
from daafl.errors import ConfigError


def test_holt_by_hand() -> None:
    holt = Holt().update(1.0)
    assert holt.forecast() == 1.0
    # residual 1: level 1 + 0 + .3 = 1.3, trend .1 * .3 = .03
    holt = holt.update(2.0)
    assert holt.level == pytest.approx(1.3)
    assert holt.trend == pytest.approx(0.03)
    # forecast 1.33, residual .67: level 1.33 + .201 = 1.531, trend .9 * .03 + .1 * .231 = .0501
    holt = holt.update(2.0)
    assert holt.level == pytest.approx(1.531)
    assert holt.trend == pytest.approx(0.0501)
    assert holt.forecast(4) == pytest.approx(1.531 + 4 * 0.0501)


def test_holt_knows_nothing_before_its_first_value() -> None:
    assert Holt().forecast() is None
    assert Holt().residual(1.0) is None


def test_holt_learns_a_straight_line() -> None:
    holt = Holt()
    for i in range(300):
        holt = holt.update(2.0 - 0.5 * i)
    assert holt.forecast(3) == pytest.approx(2.0 - 0.5 * 302)


def test_holt_moves_by_at_most_the_limit() -> None:
    assert Holt(level=0.0).update(100.0, limit=1.0) == Holt(level=0.0).update(1.0)
    assert Holt(level=0.0).update(-100.0, limit=1.0) == Holt(level=0.0).update(-1.0)


def test_mad_scale_ignores_an_outlier() -> None:
    scale = MadScale(window=5)
    for residual in (0.1, -0.2, 0.3, -0.1):
        scale = scale.update(residual)
        assert scale.scale is None
    # |residuals| sorted: .1 .1 .2 .3 50 -> median .2
    assert scale.update(50.0).scale == pytest.approx(1.4826 * 0.2)
    assert scale.update(50.0).update(0.1).residuals == (-0.2, 0.3, -0.1, 50.0, 0.1)


def plain_cusum(values: list[float]) -> list[bool]:
    """The recursion in plain arithmetic: an independent oracle."""
    level, slope, total, alarms, residuals = values[0], 0.0, 0.0, [False], []
    for count, value in enumerate(values[1:], start=2):
        residual = value - (level + slope)
        scale = 1.4826 * float(np.median(np.abs(residuals[-20:]))) if len(residuals) >= 5 else None
        z = residual / (scale + 0.02) if scale is not None else 0.0
        if count > 10:
            total = max(0.0, total + min(z, 4.0) - 0.75)
        used = residual if scale is None else float(np.clip(residual, -3 * scale, 3 * scale))
        before, level = level, level + slope + 0.3 * used
        slope = 0.9 * slope + 0.1 * (level - before)
        residuals.append(residual)
        alarms.append(total > 6.0)
        total = 0.0 if total > 6.0 else total
    return alarms


def curve(rng: np.random.Generator, steps: int, *, jump: float = 0.0, at: int = 35) -> list[float]:
    """Log loss of an ordinary run, with a lasting rise."""
    t = np.arange(steps)
    clean = np.log(2.2 * np.exp(-t / 12) + 0.15) + 0.05 * rng.standard_normal(steps)
    return list(map(float, clean + jump * (t >= at)))


def alarms(values: list[float]) -> list[int]:
    detector, raised = Cusum(), []
    for i, value in enumerate(values):
        detector = detector.update(value)
        if detector.is_alarm:
            raised.append(i)
    return raised


@pytest.mark.parametrize("seed", range(5))
def test_cusum_is_the_plain_recursion(seed: int) -> None:
    values = curve(np.random.default_rng(seed), 80, jump=0.8)
    assert alarms(values) == [i for i, raised in enumerate(plain_cusum(values)) if raised]


@pytest.mark.parametrize("seed", range(20))
def test_cusum_is_silent_on_an_ordinary_run(seed: int) -> None:
    assert alarms(curve(np.random.default_rng(seed), 70)) == []


@pytest.mark.parametrize("seed", range(20))
def test_cusum_answers_a_lasting_rise_within_two_values(seed: int) -> None:
    first = alarms(curve(np.random.default_rng(seed), 70, jump=0.8))[0]
    assert 35 <= first <= 36


def test_cusum_ignores_a_fall_and_its_warm_up() -> None:
    assert alarms([1.0] * 30 + [-5.0] * 10) == []
    # A jump of the eighth value is over before the sum starts with the eleventh.
    assert alarms([1.0] * 7 + [9.0] + [1.0] * 20) == []


def test_cusum_leaves_a_series_that_stood_still() -> None:
    # Scale 0, floor .02: a rise by .1 is 5 scales, cut to 4; 4 - .75 = 3.25, then 6.5 > 6.
    assert alarms([1.0] * 20 + [1.1] * 2) == [21]
    detector = Cusum()
    for value in [1.0] * 20 + [1.1] * 200:
        detector = detector.update(value)
    assert detector.forecast() == pytest.approx(1.1, abs=1e-3)


def test_cusum_state_survives_json() -> None:
    detector = Cusum(threshold=5.0)
    for value in curve(np.random.default_rng(3), 30):
        detector = detector.update(value)
        assert decode(Cusum, encode(detector)) == detector


def test_cusum_refuses_constants_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="threshold > 0"):
        Cusum(threshold=-math.pi)
