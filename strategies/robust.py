"""Robust rules as server optimisers.

The rules themselves, with their sources, are in `daafl.robust`; what their optimisers share is in
`RobustOptimizer`.
"""

from __future__ import annotations

import math

import numpy as np

from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.robust.bucketing import bucket
from daafl.robust.centred_clipping import centred_clipping
from daafl.robust.coordinates import coordinate_median, trimmed_mean
from daafl.robust.geometric_median import geometric_median
from daafl.robust.krum import multi_krum
from daafl.robust.stack import Numbers, Spans, Stack
from daafl.store.tree import Tree, copied
from daafl.strategies.robust_optimizer import RobustOptimizer


class CoordinateMedian(RobustOptimizer):
    """Median of every coordinate (Yin et al. 2018)."""

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return the median of every coordinate."""
        return coordinate_median(stack, weights, spans=spans)


class TrimmedMean(RobustOptimizer):
    """Mean of every coordinate without its extremes (Yin et al. 2018).

    Parameters
    ----------
    share
        Share of the updates left out at either end, in [0, 0.5); at least the share of malicious
        nodes. It is rounded down to whole updates.

    Raises
    ------
    ConfigError
        If the share is out of range.
    """

    def __init__(self, share: float = 0.2) -> None:
        if not 0 <= share < 0.5:
            raise ConfigError(f"share of TrimmedMean is {share}; it must be at least 0, below 0.5")
        self.share = share

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return the trimmed mean of every coordinate."""
        return trimmed_mean(stack, weights, share=self.share)


class GeometricMedian(RobustOptimizer):
    """The point with the smallest sum of distances to the updates (Pillutla et al. 2022, RFA).

    Parameters
    ----------
    weighted
        Whether distances are weighted by examples, as in the paper. The result then holds while
        less than half of the *claimed* examples are malicious, instead of half of the nodes.
    smoothing
        Distance below which an update pulls no harder, as a multiple of the median distance.

    Raises
    ------
    ConfigError
        If the smoothing is not positive.
    """

    def __init__(self, *, weighted: bool = False, smoothing: float = 1e-6) -> None:
        if not 0 < smoothing < math.inf:
            raise ConfigError(f"smoothing of GeometricMedian is {smoothing}; it must be positive")
        self.weighted = weighted
        self.smoothing = smoothing

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return the geometric median."""
        alike = weights if self.weighted else np.ones(stack.num_rows)
        return geometric_median(stack, alike, smoothing=self.smoothing, spans=spans)


class CentredClipping(RobustOptimizer):
    """Mean of updates clipped around the last result (Karimireddy et al. 2021).

    Parameters
    ----------
    radius
        What is further from the centre is clipped to this distance. ``None`` for the median
        distance, anew in every round.
    rounds
        How often the centre moves in a step.

    Raises
    ------
    ConfigError
        If the radius or the number of rounds is not positive.
    """

    def __init__(self, radius: float | None = None, rounds: int = 3) -> None:
        if radius is not None and not 0 < radius < math.inf:
            raise ConfigError(f"radius of CentredClipping is {radius}; it must be positive or null")
        if rounds < 1:
            raise ConfigError(f"rounds of CentredClipping is {rounds}; it must be at least 1")
        self.radius = radius
        self.rounds = rounds
        self._centre: Vector | None = None

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew, around zero."""
        super().init(layout, packed)
        self._centre = None

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return the new centre, and keep it for the next step if it is finite."""
        centre = centred_clipping(
            stack,
            weights,
            around=self._centre,
            radius=self.radius,
            rounds=self.rounds,
            spans=spans,
        )
        kept = np.zeros_like(centre)
        for start, stop in spans:
            kept[start:stop] = centre[start:stop]
        if np.isfinite(kept).all():
            self._centre = kept
        return kept

    def state(self) -> Tree:
        """Return the last centre."""
        return {"centre": copied(self._centre)}

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`."""
        match state:
            case {"centre": None | np.ndarray() as centre}:
                self._centre = copied(centre)
            case _:
                self.refuse_state()


class MultiKrum(RobustOptimizer):
    """Mean of the updates closest to their neighbours (Blanchard et al. 2017).

    It needs twice as many updates as malicious ones, and three. In a smaller cohort it reckons
    with as many as it can bear, and of one or two updates it takes the coordinate median.

    Parameters
    ----------
    num_malicious
        How many updates of a step may be malicious; ``None`` for a share.
    malicious_share
        The same as a share of the updates, in [0, 0.5), rounded up.
    num_selected
        How many updates are averaged, at most; ``None`` for all but those that may be malicious.

    Raises
    ------
    ConfigError
        If a number or the share is out of range.
    """

    def __init__(
        self,
        num_malicious: int | None = None,
        malicious_share: float = 0.3,
        num_selected: int | None = None,
    ) -> None:
        if num_malicious is not None and num_malicious < 0:
            raise ConfigError(
                f"num_malicious of {self.name} is {num_malicious}; it must be at least 0, or null"
            )
        if not 0 <= malicious_share < 0.5:
            raise ConfigError(
                f"malicious_share of {self.name} is {malicious_share}; it must be at least 0 and "
                "below 0.5, because no rule withstands a majority"
            )
        if num_selected is not None and num_selected < 1:
            raise ConfigError(
                f"num_selected of {self.name} is {num_selected}; it must be at least 1, or null"
            )
        self.num_malicious = num_malicious
        self.malicious_share = malicious_share
        self.num_selected = num_selected

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return the mean of the selected updates."""
        return multi_krum(
            stack,
            weights,
            num_malicious=self.num_malicious,
            malicious_share=self.malicious_share,
            num_selected=self.num_selected,
            spans=spans,
        )


class Krum(MultiKrum):
    """The one update closest to its neighbours (Blanchard et al. 2017); see `MultiKrum`.

    Parameters
    ----------
    num_malicious, malicious_share
        As for `MultiKrum`.

    Raises
    ------
    ConfigError
        If the number or the share is out of range.
    """

    def __init__(self, num_malicious: int | None = None, malicious_share: float = 0.3) -> None:
        super().__init__(num_malicious, malicious_share, num_selected=1)


class Bucketing(RobustOptimizer):
    """Another rule, over the means of small random groups of updates (Karimireddy et al. 2022).

    Parameters
    ----------
    rule
        Combines the means. Of ``size`` updates one is malicious more often than of one: it must
        bear up to ``size`` times the share of malicious nodes.
    size
        Updates in a group.
    seed
        Decides, with the number of the step, who shares a group.

    Raises
    ------
    ConfigError
        If the size or the seed is out of range.
    """

    def __init__(self, rule: RobustOptimizer, size: int = 2, seed: int = 0) -> None:
        if size < 1:
            raise ConfigError(f"size of Bucketing is {size}; it must be at least 1")
        if seed < 0:
            raise ConfigError(f"seed of Bucketing is {seed}; it must be at least 0")
        self.rule = rule
        self.size = size
        self.seed = seed
        self._step = 0

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model."""
        super().init(layout, packed)
        self.rule.init(layout, packed)
        self._step = 0

    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return what the rule makes of the means."""
        self._step += 1
        buckets, order = bucket(stack, self.size, [self.seed, self._step])
        return self.rule.combined(buckets, np.add.reduceat(weights[order], buckets.starts), spans)

    def state(self) -> Tree:
        """Return the number of the step and the rule's state."""
        return {"step": self._step, "rule": self.rule.state()}

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`."""
        match state:
            case {"step": int(step), "rule": rule}:
                self._step = step
                self.rule.load(rule)
            case _:
                self.refuse_state()
