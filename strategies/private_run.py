"""What user-level privacy asks of the other parts of a run, and the parts it brings along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from daafl.errors import ConfigError
from daafl.privacy.budget import FEDERATION
from daafl.privacy.keystream import Keystream
from daafl.privacy.ledger import Ledger
from daafl.privacy.release import Sampling
from daafl.privacy.user_level import UserMechanism, UserPrivacy, UserSpending
from daafl.secure.settings import Security, SignedUpdates
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import Pacing
from daafl.strategies.poisson import PoissonSelection
from daafl.strategies.private import PrivateOptimizer
from daafl.strategies.regime import Offer
from daafl.strategies.schedule import Override
from daafl.strategies.selection import Selection, uniform

_HIDDEN_BY: Final = "user-level privacy shows only their noised mean"
_FIXED: Final = ("concurrency", "quorum", "max_staleness", "refill")  # knobs left as they are


def private_offer(offer: Offer, privacy: UserPrivacy) -> Offer:
    """Return what user-level privacy leaves of what an exchange shows."""
    losses = offer.losses if privacy.loss_bound is None else "noised"
    if privacy.loss_bound is None or offer.losses == "none":
        losses = "none"
    return replace(offer, individuals=False, losses=losses, hidden_by=_HIDDEN_BY, group_size=None)


def check_private(
    offer: Offer,
    privacy: UserPrivacy,
    *,
    exchange: str,
    pacing: Pacing,
    overrides: Sequence[Override],
) -> None:
    """Refuse what would break the guarantee.

    Raises
    ------
    ConfigError
        Naming the setting and why.
    """
    if exchange != "plain":
        raise ConfigError(
            f"privacy=user cannot be used here: exchange {exchange!r} shows sums of updates that "
            "nobody has clipped; use exchange 'plain'"
        )
    if not offer.individuals and privacy.loss_bound is not None:
        raise ConfigError(
            "privacy.loss_bound cannot be used with hidden updates: members report sums of losses "
            "that nobody has clipped; make it null"
        )
    if pacing.is_buffered or pacing.max_staleness:
        raise ConfigError(
            "privacy=user cannot be used with pacing that combines stale updates: a user could be "
            "in several steps for one draw; use refill 'step' and max_staleness 0"
        )
    if pacing.quorum < pacing.concurrency:
        raise ConfigError(
            f"privacy=user cannot be used: pacing.quorum is {pacing.quorum} of "
            f"{pacing.concurrency}, so a step would close on the first who answer, and who those "
            "are depends on more than one user; make them equal (a deadline is allowed)"
        )
    for override in overrides:
        if override.knob in _FIXED:
            raise ConfigError(
                f"privacy=user cannot be used with an override of {override.knob}: the sampling "
                "rate is accounted for all steps alike"
            )


def mechanism_of(
    privacy: UserPrivacy, *, select: Selection, pacing: Pacing, num_rounds: int
) -> UserMechanism:
    """Return the mechanism of a run; credit for sampling is given only where coins are independent.

    Raises
    ------
    ConfigError
        If the number of users is not known, or no noise is enough.
    """
    if privacy.num_users is None:
        raise ConfigError(
            "privacy.num_users is missing: the sampling rate follows from the number of users, "
            "which must be set and public"
        )
    cohort = float(pacing.concurrency)
    sampling: Sampling = "poisson" if select is uniform else "fixed_size"
    if isinstance(select, PoissonSelection):
        cohort, sampling = select.rate * privacy.num_users, "poisson"
    return privacy.mechanism(
        num_users=privacy.num_users, cohort=cohort, num_rounds=num_rounds, sampling=sampling
    )


def private_parts(
    inner: ServerOptimizer,
    mechanism: UserMechanism,
    *,
    select: Selection,
    seed: int,
    folder: Path | None,
    is_simulated: bool,
    is_resumed: bool,
    secure: Security | None = None,
) -> tuple[PrivateOptimizer, Selection]:
    """Return the optimiser and the selection of a run with user-level privacy.

    Parameters
    ----------
    inner
        The run's server optimiser.
    mechanism
        What each step does.
    select
        The run's selection; `uniform`, the usual one, becomes independent coins.
    seed
        Seed of the run, for noise that is not secret.
    folder
        Folder of the ledgers.
    is_simulated
        Whether the run's time is virtual.
    is_resumed
        Whether the run goes on from a checkpoint, so that it has a ledger.
    secure
        How updates travel; where they are hidden, members clip their own.

    Raises
    ------
    ConfigError
        If there is no folder, or seeded noise is asked for outside a simulation.
    StoreError
        If the ledger is damaged, missing or cannot be written.
    """
    privacy = mechanism.privacy
    if folder is None:
        raise ConfigError("privacy=user needs a folder for its ledger; give one to Autonomous")
    if privacy.rng == "seeded" and not is_simulated:
        raise ConfigError(
            "privacy.rng=seeded is for simulations only: who knows the seed can subtract the "
            "noise; use rng=secret"
        )
    ledger = Ledger(folder / FEDERATION, must_exist=is_resumed)
    secret = Keystream.fresh() if privacy.rng == "secret" else None
    if select is uniform:
        select = PoissonSelection(mechanism.rate, secret)
    optimizer = PrivateOptimizer(
        inner,
        UserSpending(mechanism, ledger),
        partial(_keystream, secret, seed),
        members_clip=hides(secure),
        rounding=_rounding(secure, privacy.num_users or 1),
    )
    return optimizer, select


def hides(secure: Security | None) -> bool:
    """Return whether the coordinator sees only sums of updates that travel so."""
    return secure is not None and not isinstance(secure, SignedUpdates)


def _rounding(secure: Security | None, num_users: int) -> float:
    """Return the distance between two values that a member can send; 0 where they are floats."""
    if secure is None or isinstance(secure, SignedUpdates):
        return 0.0
    return secure.quantiser(num_users).step  # the coarsest: no group has more members


def _keystream(secret: Keystream | None, seed: int, step: str) -> Keystream:
    return secret or Keystream.seeded(seed, "user-level noise", step)
