"""Which sums of groups a step combines, where the updates inside them are hidden.

Distance
    Of each sum to the geometric median of all of them, which stays near the honest ones while less
    than half hold a hostile member. A sum is left out when its distance is more than ``c`` median
    absolute deviations above the median distance; ``c`` is the plan's ``screen_threshold``, which
    the quality loop moves between 2.5 and 4.
Quorum
    A step takes two thirds of its sums or none: with fewer there is no majority to speak of, and
    the model stays as it is.
Limits
    Nothing is said about a node: whose update spoiled a sum cannot be seen, and members are drawn
    anew for every step. With ``f`` hostile nodes among ``K`` in groups of ``g`` it holds up to
    about ``f g < K / 2``. The length of what is kept is clipped to a multiple of its median, its
    weight to twice the median, since members may lie about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from daafl.robust.geometric_median import median_coefficients
from daafl.robust.stack import Numbers, distances_to
from daafl.robust.suspicion import MAX_SCORE
from daafl.strategies.regime import MIN_GROUPS
from daafl.strategies.screening import WEIGHT_CAP, Evidence

QUORUM: Final = Fraction(2, 3)
"""Share of the sums that a step takes at least."""

LEAST_SPREAD: Final = 0.1
"""Least deviation of distances, as a share of their median: three sums may agree by chance."""

SMOOTHING: Final = 1e-6


@dataclass(frozen=True)
class GroupSum:
    """What is known of a sum.

    Parameters
    ----------
    nodes
        Its members.
    num_examples
        Examples behind it.
    evidence
        Of the mean change of the model in it.
    within_clip
        Share of the members whose update was within the bound they were told.
    """

    nodes: tuple[int, ...]
    num_examples: float
    evidence: Evidence
    within_clip: float | None = None


@dataclass(frozen=True)
class GroupVerdict:
    """What becomes of a sum.

    Parameters
    ----------
    nodes
        Its members; it speaks against none of them alone.
    score
        Distance above the median one, in deviations.
    is_kept
        Whether it is combined.
    damping
        Factor on the mean change that clips its length; 1 for none.
    num_examples
        Its weight, capped.
    sentence
        Why, with the numbers.
    """

    nodes: tuple[int, ...]
    score: float
    is_kept: bool
    damping: float
    num_examples: float
    sentence: str


def screened_groups(
    groups: Sequence[GroupSum], *, threshold: float, clip_factor: float
) -> tuple[GroupVerdict, ...]:
    """Return the verdicts on a step's sums, in their order.

    Parameters
    ----------
    groups
        One or more. Fewer than three are all kept: none stands apart from a majority.
    threshold
        ``c``.
    clip_factor
        Lengths are clipped to this multiple of the kept ones' median.
    """
    norms = np.array([group.evidence.norm for group in groups])
    counts = np.array([group.num_examples for group in groups], np.float64)
    scores = group_scores([group.evidence for group in groups])
    is_finite = np.isfinite(norms)
    is_near = is_finite & (scores <= threshold)
    has_quorum = int(is_near.sum()) >= least_kept(len(groups))
    is_kept = is_near if has_quorum else np.zeros(len(groups), bool)
    clip = clip_factor * float(np.median(norms[is_kept])) if is_kept.any() else 0.0
    cap = WEIGHT_CAP * float(np.median(counts))
    return tuple(
        GroupVerdict(
            nodes=group.nodes,
            score=float(score),
            is_kept=bool(kept),
            damping=min(1.0, clip / norm) if kept and norm else 1.0,
            num_examples=min(group.num_examples, cap),
            sentence=_sentence(float(score), threshold, len(group.nodes), has_quorum=has_quorum),
        )
        for group, score, kept, norm in zip(groups, scores, is_kept, norms.tolist(), strict=True)
    )


def least_kept(num_groups: int) -> int:
    """Return how many sums a step takes at least.

    Examples
    --------
    >>> [least_kept(count) for count in (1, 3, 4, 5, 6)]
    [1, 2, 3, 4, 4]
    """
    return max(1, math.ceil(QUORUM * num_groups))


def group_scores(evidence: Sequence[Evidence]) -> Numbers:
    """Return how far each sum is from the middle of all, in deviations; 0 for fewer than three.

    ``(d - median(d)) / max(MAD(d), 0.1 median(d))`` of the distances ``d`` to the geometric median,
    not below 0. What has no finite length has the largest score there is.

    Examples
    --------
    Four corners of a square with sides of 2 and a point far away. The geometric median is near the
    middle, the distances are about 1.4, and the last one is 100 away.

    >>> points = [(0, 0), (2, 0), (0, 2), (2, 2), (100, 1)]
    >>> sums = [Evidence(np.array(p, np.float32), float(np.hypot(*p))) for p in points]
    >>> [bool(score > 4) for score in group_scores(sums)]
    [False, False, False, False, True]
    """
    usable = [i for i, found in enumerate(evidence) if math.isfinite(found.norm)]
    scores = np.full(len(evidence), MAX_SCORE)
    if len(usable) < MIN_GROUPS:
        scores[usable] = 0.0
        return scores
    rows = np.stack([evidence[index].sketch for index in usable]).astype(np.float64)
    products: Numbers = rows @ rows.T
    centre = median_coefficients(products, np.full(len(usable), 1 / len(usable)), SMOOTHING)
    distances = distances_to(products, centre)
    middle = float(np.median(distances))
    spread = max(float(np.median(np.abs(distances - middle))), LEAST_SPREAD * middle)
    if spread > 0:
        scores[usable] = np.clip((distances - middle) / spread, 0.0, MAX_SCORE)
    else:  # most of them are one and the same
        scores[usable] = np.where(distances > middle, MAX_SCORE, 0.0)
    return scores


def within_clip(groups: Sequence[GroupSum]) -> float | None:
    """Return the share of all members whose update was within the bound; ``None`` if unknown."""
    known = [(group.within_clip, len(group.nodes)) for group in groups]
    if not known or any(share is None for share, _ in known):
        return None
    total = sum(count for _, count in known)
    return sum((share or 0.0) * count for share, count in known) / total


def member_norm(groups: Sequence[GroupSum]) -> float | None:
    """Return about how long one member's update is, told from sums; ``None`` if nothing can be.

    The mean of ``n`` updates that have little in common is ``sqrt(n)`` times shorter than one of
    them, so this is too long where they agree. It is the median over the sums.
    """
    lengths = [
        group.evidence.norm * math.sqrt(len(group.nodes))
        for group in groups
        if math.isfinite(group.evidence.norm)
    ]
    return float(np.median(lengths)) if lengths else None


def _sentence(score: float, threshold: float, num_nodes: int, *, has_quorum: bool) -> str:
    side = "above" if score > threshold else "within"
    what = (
        f"the sum of {num_nodes} nodes is {score:.1f} deviations further from the middle of the "
        f"sums than usual, {side} the limit {threshold:.1f}; which of them is to blame is hidden"
    )
    if has_quorum:
        return what
    return f"{what}; fewer than two thirds of the sums agree, so the model stays as it is"
