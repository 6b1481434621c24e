"""What is believed about actions: a discounted normal posterior per loop, state and action.

Rewards are improvements in standard deviations of their metric, so that what was learned on one
task says something about another. A reward ``r`` updates count and mean by ``n <- g n + 1`` and
``m <- m + (r - m) / n``; with the discount ``g`` below 1 old rewards fade.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from daafl.autonomy.records import Decision, Insight

DISCOUNT: Final = 0.97
"""Weight of the past after each reward; it keeps about 33 rewards in memory."""

LEAST_REWARDS: Final = 3.0
"""Rewards from which on experience replaces a law's own expectation."""


@dataclass(frozen=True)
class Belief:
    """Posterior of one action's reward.

    Parameters
    ----------
    n
        Discounted number of rewards.
    mean
        Their mean, in standard deviations of the metric.
    """

    n: float = 0.0
    mean: float = 0.0

    def after(self, reward: float) -> "Belief":
        """Return the belief after one more reward.

        Examples
        --------
        >>> Belief().after(1.0).after(0.0)
        Belief(n=1.97, mean=0.4923857868020305)
        """
        n = DISCOUNT * self.n + 1
        return Belief(n, self.mean + (reward - self.mean) / n)


Beliefs: TypeAlias = Mapping[str, Belief]
"""Beliefs by `belief_key`."""


def belief_key(said: Decision | Insight) -> str:
    """Return ``loop/state/action``, under which experience with a decision is kept."""
    return f"{said.loop}/{said.state}/{said.action}"


def informed(decision: Decision, beliefs: Beliefs) -> Decision:
    """Return the decision, expecting what experience says once there is enough of it."""
    effect, belief = decision.expect, beliefs.get(belief_key(decision))
    if effect is None or belief is None or belief.n < LEAST_REWARDS:
        return decision
    mean, sd_mean = belief.mean * effect.sd, effect.sd / math.sqrt(belief.n)
    return replace(decision, expect=replace(effect, mean=mean, sd_mean=sd_mean))
