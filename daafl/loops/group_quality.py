"""The quality loop where updates are hidden in sums of groups: it turns what acts on sums.

The threshold is that of sums, in median absolute deviations of their distances to their geometric
median, between 2.5 and 4; it follows the scores of the latest sums as that of single updates does.
Votes are about models and stay as they are. Nobody is under suspicion: a sum tells of no member.

Clip bound
    Nodes are told the longest update they may send, and say with one bit in the sum whether theirs
    was within it. The bound follows the quantile of their norms at which the target share is
    within: ``B <- B exp(-eta (share - target))`` (Andrew et al. 2021, "Differentially Private
    Learning with Adaptive Clipping", equation 2), with a running mean of the share since the last
    move, and only if that is more than 0.1 off. One move is by a factor between 0.74 and 2.02. The
    first bound is told from the lengths of the sums themselves. Hostile nodes do not keep to it:
    it is honest nodes with odd data whom it keeps from drowning the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.loops.quality import (
    KNOBS,
    NAME,
    THRESHOLD,
    Move,
    QualityObservation,
    QualityState,
    Vigilance,
)

BOUND: Final = "clip_bound"
LEAST_BOUND: Final = 1e-6
MOST_BOUND: Final = 1e6
ETA: Final = 1.0
SHARE_WEIGHT: Final = 0.3  # of the newest share in the running mean
SHARE_BAND: Final = 0.1  # from the target, in which the bound stays

GROUP_KNOBS: Final = (
    Knob(
        THRESHOLD,
        "deviations",
        3.0,
        NAME,
        "branch",
        2.5,
        4.0,
        description="distance from the middle above which a group's sum is left out",
    ),
    *(knob for knob in KNOBS if knob.name != THRESHOLD),
    Knob(
        BOUND,
        "norm",
        0.0,
        NAME,
        "branch",
        0.0,
        MOST_BOUND,
        description="longest update that a node may send; 0 for any",
    ),
)


@dataclass(frozen=True)
class GroupQualityObservation(QualityObservation):
    """What the loop reads of sums; ``trusted_scores`` are those of all of them.

    Parameters
    ----------
    num_groups
        Sums that screening looked at in the step.
    clip_bound
        The bound that the step's nodes were told; 0 for none.
    within_clip
        Share of the nodes whose update was within it; ``None`` if unknown.
    member_norm
        About how long one node's update is; ``None`` if unknown.
    """

    num_groups: int = 0
    clip_bound: float = 0.0
    within_clip: float | None = None
    member_norm: float | None = None

    @property
    def estimate(self) -> str:
        """What the step's sums came to, in words."""
        return f"{self.num_flagged} of {self.num_groups} sums were left out"


@dataclass(frozen=True)
class GroupQualityState(QualityState):
    """What the loop remembers.

    Parameters
    ----------
    bound
        The bound that ``share`` is about.
    share
        Running mean of the share of nodes within it; ``None`` if nothing is known.
    """

    bound: float = 0.0
    share: float | None = None


@dataclass(frozen=True)
class GroupVigilance(Vigilance):
    """The policy over sums.

    Parameters
    ----------
    target_within
        Share of the nodes that the bound is to leave whole, 0.5 to 0.7.
    """

    target_within: float = 0.7

    observation = GroupQualityObservation
    state = GroupQualityState
    knobs: tuple[Knob, ...] = field(default=GROUP_KNOBS, init=False)

    def init(self) -> GroupQualityState:
        """Return the state before the first observation."""
        return GroupQualityState(alpha=self.false_positives)

    def observe(self, state: QualityState, observation: QualityObservation) -> QualityState:
        """Return the state with the step's scores and bits taken in."""
        after = super().observe(state, observation)
        if not isinstance(after, GroupQualityState):
            raise TypeError("the state is not one of sums")
        if not isinstance(observation, GroupQualityObservation) or observation.within_clip is None:
            return after
        share, new = after.share, observation.within_clip
        if share is None or after.bound != observation.clip_bound:
            share = new
        share += SHARE_WEIGHT * (new - share)
        return replace(after, bound=observation.clip_bound, share=share)

    def moves(
        self, state: QualityState, observation: QualityObservation, plan: Plan
    ) -> tuple[Move | None, ...]:
        """Return the moves of its knobs, that of the clip bound among them."""
        found = super().moves(state, observation, plan)
        if isinstance(state, GroupQualityState) and isinstance(
            observation, GroupQualityObservation
        ):
            return (*found, self._bound(state, observation, plan))
        return found

    def _bound(
        self, state: GroupQualityState, observation: GroupQualityObservation, plan: Plan
    ) -> Move | None:
        old = plan.number(BOUND)
        if old == 0:
            if not observation.member_norm:
                return None
            new = _rounded(observation.member_norm)
            why = "what the lengths of the sums say about one update"
        else:
            if state.share is None or state.bound != old:
                return None
            above = state.share - self.target_within
            if abs(above) <= SHARE_BAND:
                return None
            new = _rounded(old * math.exp(-ETA * above))
            why = f"{state.share:.0%} of the nodes are within it, not {self.target_within:.0%}"
        if new == old:
            return None
        return Change(BOUND, plan[BOUND], new), f"{BOUND} {old:.3g} -> {new:.3g}: {why}"


def has_group_form(loop: Loop) -> bool:
    """Return whether a loop can do with sums of groups in place of single updates."""
    return isinstance(loop.policy, Vigilance) and not is_individual(loop)


def is_individual(loop: Loop) -> bool:
    """Return whether a loop is told to look at single updates or nothing."""
    return isinstance(loop.policy, Vigilance) and loop.policy.screening == "individual"


def grouped(loop: Loop) -> Loop:
    """Return the form of a loop over sums of groups; the loop itself if it has no such form."""
    policy = loop.policy
    if not isinstance(policy, Vigilance) or isinstance(policy, GroupVigilance):
        return loop
    if policy.screening == "individual":
        return loop
    form = GroupVigilance(
        false_positives=policy.false_positives,
        quiet_votes=policy.quiet_votes,
        patience=policy.patience,
        screening=policy.screening,
    )
    return replace(loop, policy=form)


def _rounded(bound: float) -> float:
    """Return a bound with four digits, within its limits.

    Examples
    --------
    >>> _rounded(0.123456), _rounded(1e-9)
    (0.1235, 1e-06)
    """
    return float(f"{min(max(bound, LEAST_BOUND), MOST_BOUND):.4g}")
