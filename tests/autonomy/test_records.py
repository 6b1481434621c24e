import math

import pytest

from daafl.autonomy.records import Decision, Effect, Request, judged, unchanged
from daafl.errors import ConfigError, DaaflError


def decided(**effect: float) -> Decision:
    values = {"baseline": 1.0, "mean": 0.2, "sd": 0.4, "horizon": 4, **effect}
    return Decision("lr", "halve", "rising", "why", expect=Effect("log_loss", **values), number=7)


@pytest.mark.parametrize(
    ("metric", "z", "verdict", "reward"),
    [
        # sd over 4 ticks: .4 / 2 = .2; actual improvement = 1 - metric, expected .2
        (0.8, 0.0, "confirmed", 0.5),
        (0.61, 0.95, "confirmed", 0.975),
        (0.5, 1.5, "better", 1.25),
        (1.1, -1.5, "worse", -0.25),
        (-9.0, 49.0, "better", 3.0),
        (99.0, -491.0, "worse", -3.0),
    ],
)
def test_judged_by_hand(metric: float, z: float, verdict: str, reward: float) -> None:
    insight = judged(decided(), metric)
    assert insight.z == pytest.approx(z)
    assert insight.verdict == verdict
    assert insight.reward == pytest.approx(reward)
    assert (insight.loop, insight.action, insight.state, insight.decision) == (
        "lr", "halve", "rising", 7,
    )  # fmt: skip
    assert insight.sentence.endswith(f"{verdict} (z {z:.1f})")


def test_ignorance_of_the_mean_widens_the_judgement() -> None:
    # sqrt(.15^2 + .2^2) = .25
    assert judged(decided(sd_mean=0.15), 0.5).z == pytest.approx(0.3 / 0.25)


def test_a_certain_law_can_still_be_judged() -> None:
    insight = judged(decided(sd=0.0), 0.5)
    assert math.isfinite(insight.z) and insight.verdict == "better"


def test_only_expectations_can_be_judged() -> None:
    with pytest.raises(DaaflError, match="expects no effect"):
        judged(unchanged("lr", "stable", "why"), 1.0)


@pytest.mark.parametrize("bounds", [{"low": 2.0, "high": 1.0}, {"low": math.nan}, {"ticks": 0}])
def test_a_request_that_makes_no_sense_cannot_be_made(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="request of by on lr"):
        Request("lr", "cost", "by", "why", **bounds)


@pytest.mark.parametrize("effect", [{"sd": -1.0}, {"sd": math.nan}, {"horizon": 0}])
def test_an_effect_that_makes_no_sense_cannot_be_expected(effect: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="effect on log_loss"):
        decided(**effect)


def test_what_acts() -> None:
    plain = unchanged("lr", "stable", "why")
    assert not plain.acts
    assert Decision("health", "alert", "failing", "why").acts
    assert Decision("lr", "restore", "unstable", "why", restore=0).acts
