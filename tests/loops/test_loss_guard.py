import math

import pytest

from daafl.loops.loss_guard import NUM_GOOD, LossGuard, Point


def fed(guard: LossGuard, losses: list[float], lr: float = 0.1) -> LossGuard:
    for version, loss in enumerate(losses):
        guard, x = guard.scaled(loss)
        assert x is not None
        guard = guard.folded(x, version, lr)
    return guard


def test_x_is_the_log_of_the_loss_plus_a_twentieth_of_the_first() -> None:
    guard, first = LossGuard().scaled(2.0)
    assert first == pytest.approx(math.log(2.1))
    assert guard.scaled(0.4)[1] == pytest.approx(math.log(0.5))  # 0.4 + 0.05 * 2
    assert guard.scaled(None) == (guard, None)


def test_mean_and_variance_follow_by_hand() -> None:
    guard = fed(LossGuard(), [2.0, 1.0])
    before, after = math.log(2.1), math.log(1.1)
    surprise = after - before
    assert guard.mean == pytest.approx(before + 0.3 * surprise)
    # First report: no surprise, 0.7 * 0.04; then 0.7 * (0.028 + 0.3 * surprise^2).
    assert guard.variance == pytest.approx(0.7 * (0.028 + 0.3 * surprise**2))
    assert guard.best == guard.mean


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_faults_do_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    guard = fed(LossGuard(), [scale * loss for loss in (2.0, 1.5, 1.2, 1.0, 0.9, 0.85)])
    for loss, fault in ((0.9, ""), (40.0, "jump")):
        assert guard.fault_of(guard.scaled(scale * loss)[1]) == fault


def test_a_loss_that_is_not_finite_is_a_fault_at_once() -> None:
    assert LossGuard().fault_of(None) == "nonfinite"


def test_the_first_two_reports_cannot_be_a_jump() -> None:
    guard = fed(LossGuard(), [1.0])
    assert guard.fault_of(math.log(1e6)) == ""


def test_a_slow_rise_is_a_decline_before_any_report_jumps() -> None:
    guard = fed(LossGuard(), [2.0, 1.0, 0.5, 0.3, 0.2, 0.15, 0.12, 0.1])
    faults = []
    for step in range(12):
        guard, x = guard.scaled(0.1 * 1.25 ** (step + 1))
        faults.append(guard.fault_of(x))
        if faults[-1]:
            break
        guard = guard.folded(float(x or 0.0), 8 + step, 0.1)
    assert faults[-1] == "decline" and len(faults) < 12


def test_standing_still_above_the_best_is_sunk() -> None:
    # x goes from log(0.6) to log(1.0): 0.88 of that rise of 0.51 after six reports.
    guard = fed(LossGuard(patience=4), [2.0, 1.0, *[0.5] * 12, *[0.9] * 6])
    assert guard.stands_still
    assert guard.late_fault_of(None) == "sunk"
    assert guard.is_far_from_done


def test_a_surge_is_five_times_the_longest_update_lately() -> None:
    guard = LossGuard()
    for norm in (1.0, 2.0, 1.5):
        guard = guard.measured(norm)
    assert guard.late_fault_of(10.0) == ""
    assert guard.late_fault_of(10.1) == "surge"
    assert guard.measured(None) == guard


def test_only_healthy_versions_are_remembered_and_only_the_latest() -> None:
    guard = fed(LossGuard(), [2.0, 1.6, 1.3, 1.1, 0.9, 0.8, 0.75])
    assert [point.version for point in guard.good] == list(range(7))[-NUM_GOOD:]
    guard, x = guard.scaled(2.0)
    assert guard.folded(float(x or 0.0), 7, 0.1).good == guard.good


def test_after_a_restore_the_best_loss_is_what_to_expect() -> None:
    guard = fed(LossGuard(), [2.0, 1.0, 0.8])
    restored = guard.restored(Point(1, 0.1), is_incoming=False)
    assert (restored.mean, restored.seen) == (guard.best, 0)
    assert restored.good == (Point(1, 0.1),)
    # The running standard deviation is 0.41; four of them above the best are needed.
    assert restored.is_shifted(guard.best + 1.63) and not restored.is_shifted(guard.best + 1.6)
    assert guard.restored(Point(2, 0.1), is_incoming=True).good == guard.good
