"""Privacy of whole users: everything a user holds changes what is released only a little.

A user is a node. Each step draws users by independent coins, bounds what each contributes, and adds
Gaussian noise to the sums: of the updates, and with noise of their own of the bits by which the
clipping bound is adapted and of the losses. All three are of the same users, so together they are
one release of the Gaussian mechanism: with ``z_i`` the noise of each over its sensitivity, that of
``z = (sum_i z_i**-2) ** -1/2`` (Andrew et al. 2021, *Differentially Private Learning with Adaptive
Clipping*, theorem 1).

Neighbours are federations with and without one user (add or remove). With independent coins, one
user more changes a sum by what that user contributes: at most the bound ``C``. A cohort of fixed
size has one other user less then, so the sum moves by up to ``2 * C``, and nothing is earned by not
being drawn.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from daafl.errors import ConfigError
from daafl.privacy.accountant import Accounting, noise_multiplier_for
from daafl.privacy.budget import FEDERATION, MAX_EPSILON, MAX_SETTING, Budget, Budgets
from daafl.privacy.clipping import BIT_SENSITIVITY, AdaptiveClip
from daafl.privacy.ledger import Debit, Ledger
from daafl.privacy.release import Release, Sampling

Clipping: TypeAlias = Literal["adaptive", "fixed"]
Rng: TypeAlias = Literal["secret", "seeded"]

FIRST_BOUND: Final = 1.0
"""Where an adaptive bound starts unless it is given."""

SCALAR_SHARE: Final = 0.05
"""Share of a step's privacy, in ``1 / z**2``, for the clipping bits, and as much for the losses."""


@dataclass(frozen=True)
class UserPrivacy:
    """Settings of user-level privacy.

    Attributes
    ----------
    epsilon, delta
        What a user's privacy may cost over the run; a run ends when it is spent.
    bound
        Norm that updates are clipped to (C); where an adaptive bound starts, 1 unless given.
    clipping
        ``adaptive`` moves the bound to a quantile of the norms, ``fixed`` leaves it.
    target_quantile
        Share of the users that an adaptive bound is to leave whole.
    noise_multiplier
        Noise of a step over its sensitivity (z); ``None`` for the least with which all planned
        steps cost at most ``epsilon``.
    accounting
        Accountant that decides.
    rng
        ``secret``, or ``seeded`` in a simulation: runs repeat then, and protect nobody.
    loss_bound
        Losses are clipped to ``[0, loss_bound]`` and their mean is released with noise, for loops
        that read it; ``None`` releases none.
    num_users
        Users of the federation, from which the sampling rate follows; public. `daafl.run` knows it.

    Raises
    ------
    ConfigError
        If a value is out of its range or two contradict each other.

    Examples
    --------
    >>> UserPrivacy(epsilon=2.0).mechanism(num_users=1000, cohort=100, num_rounds=50).rate
    0.1
    """

    name: ClassVar[str] = "user"
    unit: ClassVar[Literal["user"]] = "user"

    epsilon: float = 8.0
    delta: float = 1e-5
    bound: float | None = None
    clipping: Clipping = "adaptive"
    target_quantile: float = 0.5
    noise_multiplier: float | None = None
    accounting: Accounting = "prv"
    rng: Rng = "secret"
    loss_bound: float | None = None
    num_users: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0.0 < self.epsilon <= MAX_EPSILON:
            raise ConfigError(
                f"privacy.epsilon is {self.epsilon}, but must be above 0 and at most "
                f"{MAX_EPSILON:g}"
            )
        _ = self.budget
        for name, kind in (("clipping", Clipping), ("rng", Rng)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"privacy.{name} is {getattr(self, name)!r}, but must be one of "
                    f"{', '.join(get_args(kind))}"
                )
        for name in ("bound", "noise_multiplier", "loss_bound"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= MAX_SETTING:
                raise ConfigError(
                    f"privacy.{name} is {value}, but must be above 0 and at most {MAX_SETTING:g}"
                )
        if not 0.0 < self.target_quantile < 1.0:
            raise ConfigError(
                f"privacy.target_quantile is {self.target_quantile}, but must be in (0, 1)"
            )
        if self.clipping == "fixed" and self.bound is None:
            raise ConfigError(
                "privacy.bound is missing: clipping 'fixed' needs the norm to clip to"
            )
        if self.num_users is not None and self.num_users < 1:
            raise ConfigError(f"privacy.num_users is {self.num_users}, but must be 1 or more")

    @property
    def budget(self) -> Budget:
        """What all steps together may cost."""
        return Budget(self.epsilon, self.delta, self.accounting)

    @property
    def first_bound(self) -> float:
        """Bound of the first step."""
        return FIRST_BOUND if self.bound is None else self.bound

    def describe(self, *, members_clip: bool = False) -> str:
        """Return the guarantee in words: who is protected from whom, and what is not protected.

        Parameters
        ----------
        members_clip
            Whether only sums of updates are seen, which members have clipped themselves.
        """
        if self.rng == "seeded":
            return (
                "No privacy is claimed: noise and draws come from the run's seed (rng=seeded), and "
                "who knows it can take the noise off."
            )
        trusted = (
            "The coordinator sees sums of updates and adds the noise to them itself: it is trusted "
            "to do so and to keep the sums, but it sees nobody's own update. Members are trusted "
            "to clip their own."
            if members_clip
            else "The coordinator sees every update and adds the noise itself: it is trusted, and "
            "nobody is protected from it."
        )
        return (
            f"User-level differential privacy: epsilon {self.epsilon:g} at delta {self.delta:g} "
            f"({self.accounting} accountant, one user added or removed with all their data). It "
            "protects each user from everybody who sees the models of the run, their evaluation on "
            "public data and the noised figures, whatever else they know, and from the other "
            f"users. {trusted} Not protected: that a node takes part, the times and sizes of its "
            "messages, and what else the coordinator writes down about them in the run's folder."
        )

    def mechanism(
        self,
        *,
        num_users: int,
        cohort: float,
        num_rounds: int,
        sampling: Sampling = "poisson",
    ) -> "UserMechanism":
        """Return the mechanism of a run's steps.

        Parameters
        ----------
        num_users
            Users of the federation.
        cohort
            Users that take part in a step, on average.
        num_rounds
            Steps that are planned.
        sampling
            How they are drawn.

        Raises
        ------
        ConfigError
            If no noise is enough.
        """
        rate = min(1.0, cohort / num_users)
        noise = self.noise_multiplier
        if noise is None:
            noise = noise_multiplier_for(
                self.epsilon,
                self.delta,
                steps=max(num_rounds, 1),
                rate=rate,
                sampling=sampling,
                accounting=self.accounting,
            )
        return UserMechanism(self, Release(noise, 1, rate, sampling), rate * num_users)


@dataclass(frozen=True)
class UserMechanism:
    """What is done in each step of a run, in numbers.

    Attributes
    ----------
    privacy
        The settings.
    release
        What a step costs.
    expected_users
        Users in a step on average, by which sums are divided: how many came is not public.
    """

    privacy: UserPrivacy
    release: Release
    expected_users: float

    @property
    def rate(self) -> float:
        """Probability of a user to be drawn in a step."""
        return self.release.rate

    @property
    def reach(self) -> int:
        """Contributions by which a sum moves when one user is added or removed."""
        return 2 if self.release.sampling == "fixed_size" and self.rate < 1.0 else 1

    @property
    def update_noise(self) -> float:
        """Standard deviation of the noise on the sum of updates, over the clipping bound."""
        num_scalars = (self.privacy.clipping == "adaptive") + (self.privacy.loss_bound is not None)
        room = 1.0 - SCALAR_SHARE * num_scalars
        return self.reach * self.release.noise_multiplier / math.sqrt(room)

    @property
    def scalar_noise(self) -> float:
        """Standard deviation of the noise on a sum of bits or losses, over one user's part."""
        return self.reach * self.release.noise_multiplier / math.sqrt(SCALAR_SHARE)

    @property
    def clip(self) -> AdaptiveClip | None:
        """The law of the clipping bound; ``None`` if it is fixed."""
        if self.privacy.clipping == "fixed":
            return None
        return AdaptiveClip(
            quantile=self.privacy.target_quantile, bit_noise=BIT_SENSITIVITY * self.scalar_noise
        )

    def describe(self, *, members_clip: bool = False) -> str:
        """Return the guarantee in words, with the numbers of the mechanism."""
        drawn = (
            f"independently with probability {self.rate:.4g}"
            if self.release.sampling == "poisson"
            else "without credit for sampling"
        )
        return (
            f"{self.privacy.describe(members_clip=members_clip)} Mechanism: users are drawn "
            f"{drawn}, noise multiplier {self.release.noise_multiplier:.4g}, sums divided by "
            f"{self.expected_users:g}."
        )


class UserSpending:
    """What a run's users have spent, written to the disk before anything is released.

    Parameters
    ----------
    mechanism
        What each step does.
    ledger
        Where debits go; outside checkpoints, so that neither a rollback nor a resume gives back.
    """

    def __init__(self, mechanism: UserMechanism, ledger: Ledger) -> None:
        self.mechanism = mechanism
        self._ledger = ledger
        self._budgets = Budgets(ledger, mechanism.privacy.budget)

    @property
    def steps(self) -> int:
        """Steps that were paid for."""
        return sum(release.steps for release in self._ledger.spent(FEDERATION))

    @property
    def epsilon(self) -> float:
        """What has been spent, at the budget's delta."""
        return self._budgets.epsilon(FEDERATION)

    def exhausted(self) -> str | None:
        """Return why no further step can be paid for; ``None`` if one can."""
        if not self._budgets.would_exceed(FEDERATION, self.mechanism.release):
            return None
        privacy = self.mechanism.privacy
        return (
            f"the privacy budget (epsilon={privacy.epsilon:g}, delta={privacy.delta:g}) is spent "
            f"after {self.steps} steps"
        )

    def spend(self, key: str) -> None:
        """Pay for a step; what it releases may be used when this returns.

        A step that is done again after its process has ended is paid for again, since its noise is
        fresh and nobody knows whether the first release was seen. Seeded noise is the same again.

        Raises
        ------
        BudgetError
            If the budget does not allow it; nothing was debited.
        StoreError
            If the ledger cannot be written.
        """
        is_replay = self.mechanism.privacy.rng == "seeded"
        self._budgets.spend(Debit(FEDERATION, key, self.mechanism.release), is_replay=is_replay)
