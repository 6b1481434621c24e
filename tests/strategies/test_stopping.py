import pytest

from daafl.errors import ConfigError
from daafl.strategies.stopping import EarlyStopping, Progress


def outcomes(rule: EarlyStopping, metric: str, values: list[float]) -> list[str | None]:
    progress, reasons = Progress(), []
    for value in values:
        progress, reason = rule.check(progress, {metric: value})
        reasons.append(reason)
    return reasons


def test_a_target_ends_the_run_when_it_is_reached_and_not_before() -> None:
    reasons = outcomes(EarlyStopping(target=0.9), "accuracy", [0.5, 0.89, 0.9])
    assert reasons[:2] == [None, None]
    assert "0.9000 reached the target 0.9" in str(reasons[2])


def test_losses_count_down() -> None:
    rule = EarlyStopping(metric="loss", target=0.2, patience=2, min_delta=0.01)
    assert outcomes(rule, "loss", [1.0, 0.5, 0.1])[:2] == [None, None]
    assert "reached" in str(outcomes(rule, "loss", [0.1])[0])


def test_a_plateau_is_patience_evaluations_without_min_delta() -> None:
    rule = EarlyStopping(patience=2, min_delta=0.01)
    # .505 and .509 are not .01 above .5; .52 is, and starts the count again.
    reasons = outcomes(rule, "accuracy", [0.5, 0.505, 0.52, 0.525, 0.529])
    assert [reason is None for reason in reasons] == [True, True, True, True, False]


def test_steps_without_evaluation_are_passed_over() -> None:
    progress = Progress(best=0.5, since_best=1)
    assert EarlyStopping(patience=2).check(progress, {}) == (progress, None)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_delta": -0.1}])
def test_senseless_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EarlyStopping(**wrong)  # type: ignore[arg-type]
