"""The quality loop's law by hand-derived numbers, and in a world that turns hostile."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from daafl.autonomy.plan import Plan
from daafl.autonomy.records import ALERT, Decision
from daafl.errors import ConfigError
from daafl.loops import QualityObservation, Vigilance, quality
from daafl.loops.quality import (
    CONSENSUS,
    ENHANCE,
    EVERY,
    KNOBS,
    RELAX,
    THRESHOLD,
    QualityState,
    upper_bound,
)

POLICY = Vigilance()
PLAN = Plan.of(KNOBS)
CALM = QualityObservation(num_screened=30, num_known=30)


def step(state: QualityState, plan: Plan, **seen: Any) -> tuple[QualityState, Plan, Decision]:
    observation = replace(CALM, **seen)
    state = POLICY.observe(state, observation)
    decision = POLICY.reason(state, observation, plan)
    return state, plan.apply(decision.changes), decision


def test_the_bound_is_the_quantile_of_the_beta_distribution() -> None:
    for suspects, others in [(0, 0), (0, 9), (6, 24), (9, 21), (3, 997), (300, 700), (5, 0)]:
        expected = beta(1 + suspects, 1 + others).ppf(0.9)
        assert upper_bound(suspects, others) == pytest.approx(expected, abs=1e-6)


def test_a_calm_step_changes_nothing() -> None:
    _, _, decision = step(POLICY.init(), PLAN)
    assert not decision.acts
    assert decision.state == "healthy"
    assert decision.reason == (
        "screening stays as it is: 0 of 30 nodes are suspects (share 0.00, at most 0.07)"
    )


def test_the_threshold_is_the_quantile_of_trusted_scores() -> None:
    scores = tuple(float(score) for score in np.linspace(0.1, 10.0, 100))
    _, plan, decision = step(POLICY.init(), PLAN, num_screened=100, trusted_scores=scores)
    # Nobody was flagged: alpha is 0.03 + 0.02 * 0.03 = 0.0306, and the rank
    # ceil(0.9694 * 101) = 98 of scores 0.1 apart.
    assert plan[THRESHOLD] == 8.0  # 9.8, within the bounds
    assert decision.action == RELAX
    assert "screen_threshold 3.50 -> 8.00: beyond it are 3.1% of the 100 latest" in decision.reason
    halved = tuple(score / 2 for score in scores)
    _, plan, _ = step(POLICY.init(), PLAN, num_screened=100, trusted_scores=halved)
    assert plan[THRESHOLD] == 4.9
    low = tuple(score / 10 for score in scores)
    _, plan, decision = step(POLICY.init(), PLAN, num_screened=100, trusted_scores=low)
    assert plan[THRESHOLD] == 2.5
    assert decision.action == ENHANCE


def test_few_scores_and_small_moves_leave_the_threshold() -> None:
    _, plan, _ = step(POLICY.init(), PLAN, trusted_scores=tuple([9.0] * 29))
    assert plan[THRESHOLD] == 3.5
    _, plan, _ = step(POLICY.init(), PLAN, trusted_scores=tuple([3.7] * 50))
    assert plan[THRESHOLD] == 3.5


@pytest.mark.parametrize(("share", "sign"), [(0.0, 1), (0.5, -1)])
def test_alpha_moves_against_the_share_of_flagged_honest_updates(share: float, sign: int) -> None:
    scores = tuple([1.0] * 20)
    state, _, _ = step(
        POLICY.init(),
        PLAN,
        num_screened=20,
        trusted_scores=scores,
        num_trusted_flagged=int(20 * share),
        num_flagged=int(20 * share),
    )
    assert state.alpha == pytest.approx(max(0.03 + 0.02 * (0.03 - share), 0.002))
    assert np.sign(state.alpha - 0.03) == sign


def test_the_share_is_of_all_trusted_updates_though_few_scores_are_told() -> None:
    seen = QualityObservation(
        num_screened=1000, num_flagged=110, num_trusted_flagged=10, trusted_scores=(1.0,) * 64
    )
    assert seen.num_trusted == 900  # 100 suspects were left out


def test_in_the_long_run_three_percent_of_honest_updates_are_flagged() -> None:
    rng = np.random.default_rng(0)
    state, plan = POLICY.init(), PLAN
    num_flagged = 0
    for number in range(400):
        # The spread doubles half way: what was the right threshold no longer is.
        scores = np.sort(rng.exponential(1.0 if number < 200 else 2.0, 30))
        flagged = int((scores > plan.number(THRESHOLD)).sum())
        num_flagged += flagged
        state, plan, _ = step(
            state,
            plan,
            trusted_scores=tuple(scores.tolist()),
            num_trusted_flagged=flagged,
            num_flagged=flagged,
        )
    assert num_flagged / (400 * 30) == pytest.approx(0.03, abs=0.01)


def test_votes_become_rare_while_models_pass_and_frequent_on_an_alarm() -> None:
    state, plan = POLICY.init(), PLAN
    every = []
    for _ in range(22):
        state, plan, decision = step(state, plan, vote_outcome="adopted", vote_share=1.0)
        every.append(plan[EVERY])
    assert every == [1] * 4 + [2] * 5 + [4] * 5 + [8] * 8
    state, plan, decision = step(state, plan, vote_outcome="rejected", vote_share=0.2)
    assert plan[EVERY] == 1
    assert "validation_every 8 -> 1: a committee rejected the model" in decision.reason
    for seen in ({"restored": True}, {"suspects": (3,)}):
        raised = plan.apply([replace(decision.changes[0], old=1, new=8)])
        assert step(state, raised, **seen)[1][EVERY] == 1


def test_committees_must_agree_more_clearly_the_more_suspects_there_are() -> None:
    agreed = []
    for suspects in ((), (1,), tuple(range(6)), tuple(range(12))):
        _, plan, _ = step(POLICY.init(), PLAN, suspects=suspects)
        agreed.append(plan[CONSENSUS])
    # (1 + share) / 2 of 30 nodes, at most two thirds
    assert agreed == pytest.approx([0.5, 0.5 + 1 / 60, 0.6, 2 / 3])


def test_new_suspects_are_named_once() -> None:
    state, plan, decision = step(POLICY.init(), PLAN, suspects=(4, 7))
    assert decision.action == ALERT
    assert decision.state == "suspicious"
    assert decision.reason.startswith("new suspects 4, 7: 2 of 30 nodes are suspects (share 0.07")
    state, plan, decision = step(state, plan, suspects=(4, 7))
    assert not decision.acts
    state, plan, decision = step(state, plan, suspects=(4, 7, 9))
    assert decision.reason.startswith("new suspects 9: ")
    state, plan, _ = step(state, plan, suspects=(7, 9))
    state, plan, decision = step(state, plan, suspects=(4, 7, 9))
    assert decision.reason.startswith("new suspects 4: ")


@pytest.mark.parametrize(
    ("after", "verdict", "caution"),
    [((4, 7), "confirmed", 0), ((4,), "worse", 1), ((), "worse", 1)],
)
def test_an_alert_is_judged_by_how_many_clear_themselves(
    after: tuple[int, ...], verdict: str, caution: int
) -> None:
    state, _, decision = step(POLICY.init(), PLAN, suspects=(4, 7))
    before = replace(CALM, suspects=(4, 7))
    insight = POLICY.reflect(replace(decision, number=1), before, replace(CALM, suspects=after))
    assert insight is not None
    assert insight.verdict == verdict
    num_cleared = 2 - len(after)
    assert insight.sentence == f"{num_cleared} of 2 suspects have cleared themselves: {verdict}"
    assert POLICY.adapt(state, insight).caution == caution


def test_after_a_false_alert_a_suspect_is_named_later() -> None:
    state = replace(POLICY.init(), caution=2)
    actions = []
    plan = PLAN
    for _ in range(4):
        state, plan, decision = step(state, plan, suspects=(5,))
        actions.append(decision.action)
    assert [action == ALERT for action in actions] == [False, False, True, False]


def test_too_many_suspects_raise_an_alert_and_hold_the_learning_rate() -> None:
    # The 90 % quantile of Beta(10, 22) is 0.419.
    suspects = tuple(range(9))
    state, plan, decision = step(POLICY.init(), PLAN, suspects=suspects)
    assert (decision.action, decision.state) == (ALERT, "overrun")
    (request,) = decision.requests
    assert (request.knob, request.low, request.high, request.ticks) == ("lr", None, None, 5)
    assert "lr is held for 5 steps: the bound is above 0.4" in decision.reason
    state, plan, decision = step(state, plan, suspects=suspects[:8])  # 0.386: not over yet
    assert (decision.state, decision.requests) == ("overrun", ())
    state, plan, decision = step(state, plan, suspects=suspects[:6])  # 0.315
    assert decision.state == "suspicious"


def test_buffered_federations_are_asked_for_a_larger_quorum() -> None:
    suspects = tuple(range(6))
    state, plan, decision = step(POLICY.init(), PLAN, suspects=suspects, pace=0.3)
    (request,) = decision.requests
    # With at most 0.315 of K hostile, 2 * 0.315 K + 3 <= K from K = 8.1.
    assert (request.knob, request.low, request.ticks) == ("quorum", 9, 10)
    asked = []
    for _ in range(11):
        state, plan, decision = step(state, plan, suspects=suspects, pace=0.3)
        asked.append(bool(decision.requests))
    assert asked == [False] * 9 + [True, False]
    assert step(POLICY.init(), PLAN, suspects=suspects)[2].requests == ()


@pytest.mark.parametrize(
    ("setting", "value"), [("false_positives", 0.5), ("quiet_votes", 0), ("patience", 0)]
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"quality.{setting} is {value}"):
        quality(**{setting: value})
