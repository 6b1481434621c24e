"""The law of the quality loop over sums, by hand-derived numbers."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daafl.autonomy.codec import decode, encode
from daafl.autonomy.plan import Plan
from daafl.autonomy.records import Decision
from daafl.errors import ConfigError
from daafl.loops import health, quality
from daafl.loops.group_quality import (
    BOUND,
    GROUP_KNOBS,
    GroupQualityObservation,
    GroupQualityState,
    GroupVigilance,
    grouped,
)
from daafl.loops.quality import ENHANCE, THRESHOLD, QualityState

POLICY = GroupVigilance()
PLAN = Plan.of(GROUP_KNOBS)
CALM = GroupQualityObservation(num_screened=3, num_groups=3)


def step(state: QualityState, plan: Plan, **seen: Any) -> tuple[QualityState, Plan, Decision]:
    observation = replace(CALM, clip_bound=plan.number(BOUND), **seen)
    state = POLICY.observe(state, observation)
    decision = POLICY.reason(state, observation, plan)
    return state, plan.apply(decision.changes), decision


def test_the_first_bound_is_what_the_sums_tell() -> None:
    _, plan, decision = step(POLICY.init(), PLAN, within_clip=1.0, member_norm=1.23456)
    assert plan[BOUND] == 1.235 and decision.action == ENHANCE
    assert "clip_bound 0 -> 1.24: what the lengths of the sums say" in decision.reason
    _, plan, _ = step(POLICY.init(), PLAN, within_clip=1.0)
    assert plan[BOUND] == 0.0


def test_the_bound_moves_by_the_quantile_rule() -> None:
    told = Plan.of(GROUP_KNOBS, {BOUND: 2.0})
    # All nodes within: B exp(-(1 - 0.7)) = 2 exp(-0.3); none: 2 exp(0.7).
    assert step(POLICY.init(), told, within_clip=1.0)[1][BOUND] == pytest.approx(
        2 * math.exp(-0.3), rel=1e-3
    )
    assert step(POLICY.init(), told, within_clip=0.0)[1][BOUND] == pytest.approx(
        2 * math.exp(0.7), rel=1e-3
    )
    assert step(POLICY.init(), told, within_clip=0.62)[1][BOUND] == 2.0
    assert step(POLICY.init(), told, within_clip=None)[1][BOUND] == 2.0


def test_the_share_is_a_running_mean_that_starts_anew_with_the_bound() -> None:
    told = Plan.of(GROUP_KNOBS, {BOUND: 2.0})
    state, plan, _ = step(POLICY.init(), told, within_clip=0.75)
    state, plan, _ = step(state, plan, within_clip=0.9)
    assert isinstance(state, GroupQualityState)
    assert state.share == pytest.approx(0.795)  # 0.75 + 0.3 (0.9 - 0.75): within the band
    assert plan[BOUND] == 2.0
    state, plan, _ = step(state, plan, within_clip=1.0)
    assert isinstance(state, GroupQualityState)
    assert state.share == pytest.approx(0.8565)  # 0.795 + 0.3 (1 - 0.795): beyond it
    assert plan[BOUND] == pytest.approx(2 * math.exp(-0.1565), rel=1e-3)
    state, plan, _ = step(state, plan, within_clip=0.7)
    assert isinstance(state, GroupQualityState)
    assert state.share == pytest.approx(0.7)


def test_the_bound_finds_the_quantile_and_follows_it() -> None:
    rng = np.random.default_rng(0)
    state, plan = POLICY.init(), Plan.of(GROUP_KNOBS, {BOUND: 40.0})
    for scale in (1.0, 0.1):
        for _ in range(60):
            norms = scale * rng.lognormal(0.0, 0.5, 200)
            state, plan, _ = step(
                state, plan, within_clip=float((norms <= plan.number(BOUND)).mean())
            )
        share = (scale * rng.lognormal(0.0, 0.5, 10_000) <= plan.number(BOUND)).mean()
        assert 0.55 < share < 0.85


def test_the_threshold_stays_between_two_and_a_half_and_four() -> None:
    state, plan = POLICY.init(), PLAN
    for _ in range(20):
        state, plan, _ = step(state, plan, trusted_scores=(0.0, 50.0, 99.0))
    assert plan[THRESHOLD] == 4.0
    for _ in range(40):
        state, plan, _ = step(state, plan, trusted_scores=(0.0, 0.1, 0.2))
    assert plan[THRESHOLD] == 2.5


def test_nobody_is_under_suspicion() -> None:
    state, _, decision = step(
        POLICY.init(), PLAN, num_flagged=1, num_trusted_flagged=1, trusted_scores=(0.0, 1.0, 9.0)
    )
    assert POLICY.label(state) == "healthy" and not decision.acts
    assert decision.reason == "screening stays as it is: 1 of 3 sums were left out"


def test_the_state_survives_json() -> None:
    state, _, _ = step(POLICY.init(), PLAN, within_clip=0.5, trusted_scores=(1.0, 2.0))
    assert decode(GroupQualityState, encode(state)) == state


def test_only_the_quality_loop_has_a_form_over_sums_and_only_if_it_may() -> None:
    form = grouped(quality(false_positives=0.05))
    assert isinstance(form.policy, GroupVigilance) and form.policy.false_positives == 0.05
    assert grouped(form) is form
    individual = quality(screening="individual")
    assert grouped(individual) is individual
    assert grouped(loop := health()) is loop


def test_an_unknown_form_of_screening_is_refused() -> None:
    wrong: Any = "groups"
    with pytest.raises(ConfigError, match="must be auto or individual"):
        quality(screening=wrong)
