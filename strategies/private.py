"""User-level differential privacy as a server optimiser around another one.

::

    updates of the users drawn -> clip -> sum in double precision -> pay -> noise
      -> / expected users -> one update -> the optimiser inside

What comes before the noise is seen by nobody else: loops, committees and the optimiser inside get
the one update that was released, and everything that follows is post-processing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daafl.autonomy.plan import Value
from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update
from daafl.messages import CLIP_BOUND, COHORT_NODE, TRAIN_LOSS, USERS_ALIKE, WITHIN_CLIP
from daafl.observability.events import PrivacySpent, RunSummary
from daafl.privacy.central import noised_average, noised_mean
from daafl.privacy.clipping import clipped
from daafl.privacy.keystream import Keystream
from daafl.privacy.user_level import UserMechanism, UserSpending
from daafl.store.tree import Tree
from daafl.strategies.monitor import StepFacts
from daafl.strategies.optimizer import Needs, ServerOptimizer

"""Metric of a sum over members that clip: the share of them whose update was within the bound."""

_CLIPPING_ERROR: Final = 2.0**-20  # of the norm, where an update is clipped in single precision

MakeKeystream = Callable[[str], Keystream]
"""Returns the keystream for the noise of a step, by a name that only this step has."""


@dataclass(frozen=True)
class Sums:
    """What a step's updates add up to, before noise.

    Parameters
    ----------
    total
        Unweighted sum of clipped updates, shape ``[num_parameters]``, double precision.
    num_users, num_within
        Users in it, and those among them whose update was within the bound.
    losses
        Their losses, one per user who reported one.
    """

    total: Vector
    num_users: int
    num_within: int
    losses: tuple[float, ...]


class PrivateOptimizer:
    """Lets the optimiser inside see nothing but noised means; a `ServerOptimizer`.

    Every user counts the same: weighted by examples, an update would count more the more a user
    claims to hold. The bound and the state of the optimiser inside are saved, and go back with the
    model in a rollback; what was paid for them does not.

    Parameters
    ----------
    inner
        Any optimiser that needs only the mean.
    spending
        Mechanism and ledger.
    keystream
        Makes the noise.
    members_clip
        Whether updates are means of groups whose members have clipped their own to the bound that
        they were told (`CLIP_BOUND` in `node_config`), each with weight 1 (`USERS_ALIKE`).
    rounding
        Distance between two values of a coordinate that members can send; 0 for floats.

    Raises
    ------
    ConfigError
        If the optimiser needs individual updates, or losses are to be released of groups.
    """

    needs: Needs = "mean"

    def __init__(
        self,
        inner: ServerOptimizer,
        spending: UserSpending,
        keystream: MakeKeystream,
        *,
        members_clip: bool = False,
        rounding: float = 0.0,
    ) -> None:
        if inner.needs != "mean":
            raise ConfigError(
                f"{type(inner).__name__} cannot be used with user-level privacy: it needs each "
                "node's own update, and only their noised mean is released"
            )
        self.inner = inner
        self.spending = spending
        self.members_clip = members_clip
        self._rounding = rounding
        self._keystream = keystream
        self._privacy = spending.mechanism.privacy
        if members_clip and self._privacy.loss_bound is not None:
            raise ConfigError(
                "privacy.loss_bound cannot be used where members clip: they report sums of losses "
                "that nobody has clipped; make it null"
            )
        self._bound = self._privacy.first_bound
        self._layout: Layout | None = None
        self._released: Update | None = None

    @property
    def mechanism(self) -> UserMechanism:
        """What each step does, in numbers."""
        return self.spending.mechanism

    @property
    def bound(self) -> float:
        """Norm that the updates of the next step are clipped to."""
        return self._bound

    @property
    def _sensitivity(self) -> float:
        """Longest vector that one user can contribute, as it arrives."""
        if not self.members_clip:
            return self._bound
        # A member clips in its own number type, and what it sends is rounded once more.
        size = self._started().num_parameters
        return self._bound * (1.0 + _CLIPPING_ERROR) + self._rounding * math.sqrt(size)

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model; what was spent stays spent.

        Raises
        ------
        ConfigError
            If members clip and the model has statistics, which they do not.
        """
        if self.members_clip and not all(entry.is_trained for entry in layout.entries):
            raise ConfigError(
                "privacy=user cannot be used with hidden updates of a model with running "
                "statistics: members clip what gradients move; use GroupNorm in their place"
            )
        self._layout = layout
        self._bound = self._privacy.first_bound
        self._released = None
        self.inner.init(layout, packed)

    def node_config(self) -> Mapping[str, Value]:
        """Return what nodes must know; the bound is among it where they clip."""
        settings = dict(self.inner.node_config())
        if self.members_clip:
            settings |= {CLIP_BOUND: self._bound, USERS_ALIKE: True}
        return settings

    def sums(self, updates: Iterable[Update]) -> Sums:
        """Return the sums over users of what each contributes, before noise.

        One user moves ``total`` by at most `bound`. Nothing of this may leave the step.
        """
        total = np.zeros(self._started().num_parameters)
        num_users = num_within = 0
        losses: list[float] = []
        for update in updates:
            count = len(update.senders)
            if count > 1 and not self.members_clip:
                raise FederationError(
                    f"an update is the sum of {count} users, none of which can be clipped; "
                    "user-level privacy needs each node's own, or members that clip"
                )
            if self.members_clip:
                # One that diverged weighs nothing; the others weigh 1. The mean is not clipped:
                # one member that cheats would then change what another one contributes.
                if not 0.0 < update.num_examples <= count:
                    raise FederationError(
                        f"the sum of {count} users has weight {update.num_examples:g}; where "
                        "members clip, each weighs 1 at most"
                    )
                total += np.asarray(update.delta, np.float64) * update.num_examples
                num_within += round(update.metrics.get(WITHIN_CLIP, 1.0) * count)
            else:
                delta = update.delta if update.damping == 1.0 else update.delta * update.damping
                short, is_within = clipped(delta, self._bound)
                total += short
                num_within += is_within
                losses += [update.metrics[TRAIN_LOSS]] if TRAIN_LOSS in update.metrics else []
            num_users += count
        return Sums(total, num_users, num_within, tuple(losses))

    def released(self, updates: Iterable[Update], *, step: str, version: int) -> Update:
        """Return the one update that a step releases; the step has been paid for then.

        Parameters
        ----------
        updates
            Of the users that were drawn and have answered; none of them is a step of noise alone.
        step
            A name that only this step of the run has.
        version
            Version of the model that the updates are about.

        Raises
        ------
        BudgetError
            If the budget does not allow it.
        StoreError
            If the ledger cannot be written; nothing has been released.
        """
        mechanism, sums = self.mechanism, self.sums(updates)
        self.spending.spend(step)
        keystream = self._keystream(step)
        mean = noised_mean(
            sums.total,
            bound=self._sensitivity,
            noise_multiplier=mechanism.update_noise,
            expected_users=mechanism.expected_users,
            keystream=keystream,
        )
        metrics = {}
        if self._privacy.loss_bound is not None:
            metrics[TRAIN_LOSS] = noised_average(
                np.array(sums.losses),
                lowest=0.0,
                highest=self._privacy.loss_bound,
                noise_multiplier=mechanism.scalar_noise,
                expected_users=mechanism.expected_users,
                keystream=keystream,
            )
        if (law := mechanism.clip) is not None:
            share = law.share_within(
                sums.num_within,
                sums.num_users,
                expected=mechanism.expected_users,
                keystream=keystream,
            )
            self._bound = law.next_bound(self._bound, share)
        self._released = Update(
            delta=mean.astype(self._started().dtype),
            num_examples=mechanism.expected_users,
            senders=(COHORT_NODE,),
            version=version,
            metrics=metrics,
        )
        return self._released

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model that the optimiser inside makes of the update released last.

        Raises
        ------
        FederationError
            If ``updates`` are anything else: without noise they must not reach a model.
        """
        released, self._released = self._released, None
        if released is None or len(updates) != 1 or updates[0] is not released:
            raise FederationError(
                "user-level privacy combines only the one update that it has released in this step"
            )
        return self.inner.combine(packed, updates)

    def scale(self, factor: float) -> None:
        """Multiply the step of the optimiser inside."""
        self.inner.scale(factor)

    def state(self) -> Tree:
        """Return the bound and the state of the optimiser inside."""
        return {"bound": self._bound, "inner": self.inner.state()}

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`; what was spent since stays spent."""
        match state:
            case {"bound": float(bound), "inner": inner} if 0.0 < bound < float("inf"):
                self.inner.load(inner)
                self._bound = bound
                self._released = None
            case _:
                raise FederationError("the state given to PrivateOptimizer is not one of its own")

    def fork(self) -> PrivateOptimizer:
        """Return an optimiser in the same state for another branch; both spend from one budget."""
        other = copy.copy(self)
        other.inner = self.inner.fork()
        return other

    def told(self, summary: RunSummary) -> RunSummary:
        """Return a run's summary with what was spent; seeded noise protects nobody."""
        if self._privacy.rng == "seeded":
            return summary
        epsilon, delta = self.spending.epsilon, self._privacy.delta
        spent = PrivacySpent(self._privacy.unit, epsilon, epsilon, delta, 1, 0)
        return replace(summary, epsilon=epsilon, delta=delta, privacy=spent)

    def public(self, facts: StepFacts) -> StepFacts:
        """Return the facts of a step as loops may see them: without what hangs on single users.

        Who answered, how many, how fast and with which faults is known to the coordinator without
        noise, and what loops decide ends up in the model.
        """
        return replace(
            facts,
            pace=1.0,
            num_updates=round(self.mechanism.expected_users),
            num_examples=0.0,
            mean_client_norm=None,
            num_rejected=0,
            num_failures=0,
            nonfinite_fraction=0.0,
            round_seconds=None,
            bytes_up=0,
            bytes_down=0,
            troubled_nodes=(),
            troubles=(),
            num_quarantined=0,
        )

    def exhausted(self) -> str | None:
        """Return why there can be no further step; ``None`` if there can."""
        return self.spending.exhausted()

    def _started(self) -> Layout:
        if self._layout is None:
            raise FederationError("PrivateOptimizer has no model yet; call init first")
        return self._layout
