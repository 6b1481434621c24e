"""A node's vote, against t statistics derived by hand and against scipy's paired test."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ttest_rel

from daafl.learning.ballot import (
    ABSOLUTE_MARGIN,
    LEVEL,
    LOSS_LIMIT,
    RELATIVE_MARGIN,
    ballot,
)

ONES = np.ones(4)  # losses of an untrained model: the floor of the margin is 0.03


def in_favour(candidate: np.ndarray, accepted: np.ndarray, untrained: np.ndarray) -> bool:
    return ballot(candidate, accepted, untrained).is_in_favour


def test_harm_beyond_the_margin_and_the_noise_is_a_no() -> None:
    # Accepted losses are 0, so the margin is 0.03. The rises exceed it by .1, .2, .3, .4: mean .25,
    # deviation sqrt(.05 / 3) = .1291, so t = .25 / (.1291 / 2) = 3.873 > .978, the 80 % quantile
    # of Student's distribution with 3 degrees of freedom.
    candidate = 0.03 + np.array([0.1, 0.2, 0.3, 0.4])
    assert not in_favour(candidate, np.zeros(4), ONES)


def test_harm_within_the_noise_is_a_yes() -> None:
    # The excess is 0, .1, -.02, -.02: mean .015, deviation sqrt(.0099 / 3) = .05745, t = .522.
    candidate = 0.03 + np.array([0.0, 0.1, -0.02, -0.02])
    assert in_favour(candidate, np.zeros(4), ONES)


def test_the_margin_is_a_share_of_the_loss_and_one_of_the_untrained_loss() -> None:
    # 0.25 * 0.5 + 0.03 * 1 = 0.155, and without any noise nothing but the margin counts.
    accepted = np.full(4, 0.5)
    assert in_favour(accepted + 0.1549, accepted, ONES)
    assert not in_favour(accepted + 0.1551, accepted, ONES)


def test_the_level_is_what_it_says() -> None:
    # Where the mean loss rises by exactly the margin, .25 * .8 + .03, a fifth of the votes are no.
    rng = np.random.default_rng(0)
    votes = [
        in_favour(0.8 + rng.normal(0.23, 0.05, 20), np.full(20, 0.8), np.ones(20))
        for _ in range(4000)
    ]
    error = math.sqrt(LEVEL * (1 - LEVEL) / 4000)
    assert 1 - np.mean(votes) == pytest.approx(LEVEL, abs=3 * error)


def test_a_majority_errs_less_than_its_members() -> None:
    assert binom.sf(7, 15, LEVEL) == pytest.approx(0.004, abs=0.0005)


losses = st.lists(
    st.tuples(st.floats(0, 3, width=32), st.floats(0, 3, width=32)), min_size=2, max_size=40
)


@given(losses)
@settings(max_examples=300, deadline=None)
def test_the_vote_is_that_of_scipys_paired_test(pairs: list[tuple[float, float]]) -> None:
    candidate, accepted = np.array(pairs).T
    untrained = np.full(len(pairs), 2.0)
    limit = LOSS_LIMIT * max(2.0, np.median(accepted))
    candidate_counts, before = np.minimum(candidate, limit), np.minimum(accepted, limit)
    shifted = before + RELATIVE_MARGIN * before.mean() + ABSOLUTE_MARGIN * 2.0
    if np.ptp(candidate_counts - shifted) < 1e-6:
        return  # no noise: nothing to compare
    p_value = ttest_rel(candidate_counts, shifted, alternative="greater").pvalue
    if abs(p_value - LEVEL) > 1e-9:
        assert in_favour(candidate, accepted, untrained) == (p_value >= LEVEL)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_harm(bad: float) -> None:
    accepted = np.full(4, 0.5)
    candidate = np.array([0.1, 0.1, bad, 0.1])
    vote = ballot(candidate, accepted, ONES)
    assert not vote.is_in_favour
    assert (vote.loss, vote.accepted_loss, vote.num_examples) == (math.inf, 0.5, 4)
    # ... whatever the accepted model is, from which anything finite is a way out.
    assert not in_favour(candidate, candidate, ONES)
    vote = ballot(np.full(4, 9.0), candidate, ONES)
    assert vote.is_in_favour
    assert (vote.loss, vote.accepted_loss) == (9.0, math.inf)


def test_one_example_beyond_measure_does_not_hide_the_others() -> None:
    # Nine examples lose 1 more each, and one that was hopeless is as good as the best. Counted as
    # it is, that one would make t = -1; counted up to 2, the mean rise is .7, the margin
    # .25 * .2 + .03 = .08, the deviation .949, and t = .62 / .3 = 2.07 > .883.
    accepted, candidate = np.zeros(10), np.ones(10)
    accepted[3], candidate[3] = 1e6, 0.0
    assert ttest_rel(candidate, accepted, alternative="greater").pvalue > LEVEL
    assert not in_favour(candidate, accepted, np.ones(10))


def test_noise_around_a_loss_near_zero_is_no_harm() -> None:
    # A hundred times the loss, and yet a thousandth of what an untrained model loses.
    rng = np.random.default_rng(0)
    accepted = rng.uniform(0, 2e-5, 50)
    assert in_favour(accepted * 100, accepted, np.full(50, 2.3))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(1)
    accepted, noise = rng.uniform(0.2, 0.8, 30), rng.normal(0.0, 0.05, 30)
    untrained = np.full(30, 2.3)
    assert in_favour(scale * (accepted + 0.1 + noise), scale * accepted, scale * untrained)
    assert not in_favour(scale * (accepted + 0.3 + noise), scale * accepted, scale * untrained)


def test_losses_may_be_negative_as_log_densities_are() -> None:
    accepted, untrained = np.full(10, -3.0), np.full(10, 2.0)
    assert in_favour(accepted - 0.5, accepted, untrained)
    assert in_favour(accepted + 0.8, accepted, untrained)  # margin .25 * 3 + .03 * 2 = .81
    assert not in_favour(accepted + 0.82, accepted, untrained)


def test_a_single_example_shows_nothing_unless_it_is_not_finite() -> None:
    one = np.ones(1)
    assert in_favour(one * 50, one, one)
    assert not in_favour(one * math.nan, one, one)


def test_losses_without_any_scale_are_compared_as_they_are() -> None:
    zero = np.zeros(3)
    assert in_favour(zero, zero, zero)
    assert not in_favour(zero + 1e-12, zero, zero)


def test_losses_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="not 3, 4 and 4 losses"):
        ballot(np.ones(3), ONES, ONES)
    with pytest.raises(ValueError, match="not 0, 0 and 0 losses"):
        ballot(np.ones(0), np.ones(0), np.ones(0))
