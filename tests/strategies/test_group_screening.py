"""Verdicts on sums of groups, by hand-derived numbers."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.robust.suspicion import MAX_SCORE
from daafl.strategies.group_screening import (
    GroupSum,
    GroupVerdict,
    group_scores,
    least_kept,
    member_norm,
    screened_groups,
    within_clip,
)
from daafl.strategies.screening import Evidence


def evidence(*values: float) -> Evidence:
    return Evidence(np.array(values, np.float32), math.hypot(*values))


def group(place: int, found: Evidence, *, examples: float = 100, within: float = 1.0) -> GroupSum:
    return GroupSum((2 * place, 2 * place + 1), examples, found, within)


def screened(*found: Evidence, threshold: float = 3.0) -> Sequence[GroupVerdict]:
    groups = [group(place, one) for place, one in enumerate(found)]
    return screened_groups(groups, threshold=threshold, clip_factor=1.5)


# On a line the geometric median is the median. Of 0, 1, 2, 4 and 10 it is 2: the distances are
# 2, 1, 0, 2 and 8 with median 2, deviations 0, 1, 2, 0 and 6 with median 1. The last scores 6.
LINE = [evidence(value, 0.0) for value in (0.0, 1.0, 2.0, 4.0, 10.0)]


def test_scores_are_deviations_of_distances_to_the_geometric_median() -> None:
    assert group_scores(LINE) == pytest.approx([0, 0, 0, 0, 6], abs=1e-3)


def test_a_sum_is_left_out_above_the_threshold_and_kept_within_it() -> None:
    assert [verdict.is_kept for verdict in screened(*LINE, threshold=4.0)] == [True] * 4 + [False]
    assert all(verdict.is_kept for verdict in screened(*LINE, threshold=6.5))


def test_sums_that_nearly_agree_are_not_told_apart() -> None:
    # Distances of 1, 1 and 1.05 have no deviation to speak of; a tenth of the median stands in.
    close = [evidence(1.0, 0.0), evidence(-0.5, 0.75**0.5), evidence(-0.525, -1.05 * 0.75**0.5)]
    assert max(group_scores(close)) < 1


def test_the_one_of_three_that_stands_apart_is_left_out() -> None:
    verdicts = screened(evidence(1.0, 0.1), evidence(1.0, -0.1), evidence(-5.0, 0.0))
    assert [verdict.is_kept for verdict in verdicts] == [True, True, False]
    assert "which of them is to blame is hidden" in verdicts[2].sentence


def test_two_sums_are_both_kept() -> None:
    assert all(verdict.is_kept for verdict in screened(evidence(1.0), evidence(-100.0)))


def test_fewer_than_two_thirds_are_as_good_as_none() -> None:
    # Two of five are 50 away from the three in the middle: 3 < ceil(2/3 of 5) = 4 are left.
    apart = [evidence(x, y) for x, y in ((0, 0), (1, 0), (0, 1), (50, 0), (0, 50))]
    verdicts = screened(*apart)
    assert not any(verdict.is_kept for verdict in verdicts)
    assert all("the model stays as it is" in verdict.sentence for verdict in verdicts)


def test_what_has_no_finite_length_is_left_out() -> None:
    endless = Evidence(np.array([np.inf, 0.0], np.float32), math.inf)
    verdicts = screened(evidence(1.0, 0.0), evidence(1.0, 0.1), evidence(1.0, -0.1), endless)
    assert [verdict.is_kept for verdict in verdicts] == [True, True, True, False]
    assert verdicts[3].score == MAX_SCORE


def test_length_and_weight_of_what_is_kept_are_capped() -> None:
    groups = [
        group(0, evidence(1.0, 0.0), examples=100),
        group(1, evidence(1.1, 0.0), examples=100),
        group(2, evidence(2.0, 0.0), examples=900),
    ]
    verdicts = screened_groups(groups, threshold=99.5, clip_factor=1.5)
    # The median length is 1.1, the median number 100.
    assert [verdict.damping for verdict in verdicts] == pytest.approx([1.0, 1.0, 1.5 * 1.1 / 2.0])
    assert [verdict.num_examples for verdict in verdicts] == [100, 100, 200]


def test_a_quorum_is_two_thirds() -> None:
    assert [least_kept(count) for count in range(1, 10)] == [1, 2, 2, 3, 4, 4, 5, 6, 6]


def test_the_share_within_the_bound_counts_nodes() -> None:
    groups = [
        GroupSum((0, 1, 2), 1, evidence(1.0), within_clip=1 / 3),
        GroupSum((3,), 1, evidence(1.0), within_clip=1.0),
    ]
    assert within_clip(groups) == pytest.approx(0.5)  # 1 of 3 and 1 of 1: 2 of 4
    assert within_clip([*groups, GroupSum((4,), 1, evidence(1.0))]) is None
    assert within_clip([]) is None


def test_the_length_of_one_update_is_told_from_means() -> None:
    # Means of 4, 9 and 16 nodes with lengths 1, 1 and 100: 2, 3 and 400, the median is 3.
    groups = [
        GroupSum(tuple(range(count)), 1, evidence(length))
        for count, length in ((4, 1.0), (9, 1.0), (16, 100.0))
    ]
    assert member_norm(groups) == pytest.approx(3.0)
    assert member_norm([]) is None


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32)),
        min_size=1,
        max_size=12,
    ),
    st.floats(2.5, 4.0),
)
def test_a_step_keeps_two_thirds_or_none(
    points: list[tuple[float, float]], threshold: float
) -> None:
    verdicts = screened(*(evidence(*point) for point in points), threshold=threshold)
    num_kept = sum(verdict.is_kept for verdict in verdicts)
    assert num_kept == 0 or num_kept >= 2 * len(points) / 3
    assert all(0 <= verdict.score <= MAX_SCORE for verdict in verdicts)
