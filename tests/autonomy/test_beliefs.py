import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.autonomy.beliefs import DISCOUNT, Belief, belief_key, informed
from daafl.autonomy.records import Decision, Effect


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=60))
def test_a_belief_is_the_discounted_mean(rewards: list[float]) -> None:
    belief = Belief()
    for reward in rewards:
        belief = belief.after(reward)
    weights = [DISCOUNT**age for age in reversed(range(len(rewards)))]
    assert belief.n == pytest.approx(sum(weights))
    mean = math.fsum(w * r for w, r in zip(weights, rewards, strict=True)) / math.fsum(weights)
    assert belief.mean == pytest.approx(mean, abs=1e-9)


def test_the_past_weighs_about_thirty_three_rewards() -> None:
    belief = Belief()
    for _ in range(2000):
        belief = belief.after(1.0)
    assert belief.n == pytest.approx(1 / (1 - DISCOUNT))


def test_informed_needs_an_expectation_and_experience() -> None:
    effect = Effect("log_loss", 1.0, mean=0.5, sd=0.2, horizon=5)
    decision = Decision("lr", "halve", "rising", "why", expect=effect)
    assert belief_key(decision) == "lr/rising/halve"
    assert informed(decision, {}) == decision
    assert informed(decision, {"lr/calm/halve": Belief(9.0, 1.0)}) == decision
    silent = Decision("lr", "halve", "rising", "why")
    assert informed(silent, {"lr/rising/halve": Belief(9.0, 1.0)}) == silent
    expect = informed(decision, {"lr/rising/halve": Belief(9.0, 1.0)}).expect
    assert expect is not None
    assert (expect.mean, expect.sd_mean) == pytest.approx((0.2, 0.2 / 3))
    assert (expect.baseline, expect.sd, expect.horizon) == (1.0, 0.2, 5)
