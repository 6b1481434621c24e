"""What a run needs in order to keep its updates from its coordinator, and how it then gets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord

from daafl.errors import ConfigError
from daafl.learning.layout import Layout, Packed
from daafl.secure.graph import chosen
from daafl.secure.roster import Roster
from daafl.secure.settings import EncryptedSums, MaskedSums, Security
from daafl.strategies.clock import Clock
from daafl.strategies.encrypted_session import EncryptedSession, GroupKeys
from daafl.strategies.exchange import Exchange, Member, PlainExchange
from daafl.strategies.masked_session import MaskedSession
from daafl.strategies.pacing import NO_DEADLINE_S, Pacing
from daafl.strategies.regime import Offer
from daafl.strategies.schedule import Override
from daafl.strategies.secure_exchange import SecureExchange
from daafl.strategies.secure_session import Round, Session

_HIDDEN: Offer = SecureExchange.offers


def offer_of(settings: Security) -> Offer:
    """Return what the coordinator sees of updates that travel so."""
    if not isinstance(settings, MaskedSums | EncryptedSums):
        return PlainExchange.offers
    if settings.group_size is None:
        why = f"secure={settings.name} shows only the sum of a whole step; set secure.group_size"
        return replace(_HIDDEN, hidden_by=why)
    why = f"secure={settings.name} shows only sums of groups"
    return replace(_HIDDEN, hidden_by=why, group_size=settings.group_size)


def protected_exchange(
    settings: Security,
    roster: Roster,
    layout: Layout,
    *,
    federation: str,
    seed: int,
    clock: Clock,
    next_id: Callable[[], int],
    claim: str | None = None,
) -> Exchange:
    """Return the exchange of a federation whose nodes have keys.

    Parameters
    ----------
    settings
        How updates travel.
    roster
        Who belongs to the federation, verified.
    layout
        Layout of the model.
    federation, seed
        Name and seed of the run.
    clock, next_id
        Time, and ids for the messages of later phases.
    claim
        Guarantee that every update must come with; ``None`` for none.

    Raises
    ------
    ConfigError
        If the roster is another federation's.
    """
    if roster.federation != federation:
        raise ConfigError(
            f"the roster is that of federation {roster.federation!r}, the run is that of "
            f"{federation!r}; use the roster that the federation's authority signed for it"
        )
    if not isinstance(settings, MaskedSums | EncryptedSums):
        return PlainExchange(federation, layout, roster=roster, claim=claim)

    held = GroupKeys()

    def make_session(
        members: Sequence[Member], packed: Packed, model: ArrayRecord, attempt: int
    ) -> Session:
        around = Round(roster, layout, packed, model, attempt, claim)
        if isinstance(settings, EncryptedSums):
            return EncryptedSession(around, settings, members, keys=held)
        return MaskedSession(around, settings, members)

    return SecureExchange(
        layout,
        make_session,
        group_size=settings.group_size,
        seed=seed,
        clock=clock,
        next_id=next_id,
    )


def check_secure(
    settings: Security, *, exchange: str, pacing: Pacing, overrides: Sequence[Override]
) -> None:
    """Refuse what cannot work with updates that travel so, apart from optimiser and loops.

    Raises
    ------
    ConfigError
        Naming the setting and why.
    """
    name = settings.name
    if exchange != "plain":
        raise ConfigError(
            f"secure={name} cannot be used with exchange {exchange!r}: that one trains a whole "
            "cohort in one place, where nothing is hidden from anybody; use exchange 'plain'"
        )
    if not isinstance(settings, MaskedSums | EncryptedSums):
        return
    group_size = settings.group_size or pacing.concurrency
    if isinstance(settings, MaskedSums):
        chosen(max(group_size, 1), settings.policy)
    elif group_size < settings.min_nodes:
        raise ConfigError(
            f"secure=he cannot be used: {group_size} nodes take part in a step, and a sum needs "
            f"{settings.min_nodes}; raise pacing.concurrency or lower secure.min_nodes"
        )
    else:
        settings.packing(group_size)
    for knob, found, needed, why in (
        ("max_staleness", pacing.max_staleness, 0, "a sum is over updates of one model"),
        ("refill", pacing.refill, "step", "a sum is agreed on by nodes that start together"),
        (
            "deadline_s",
            pacing.deadline_s or NO_DEADLINE_S,
            NO_DEADLINE_S,
            "a sum is of use only when all of its phases are over",
        ),
    ):
        asked = [item for item in overrides if item.knob == knob and item.value != needed]
        if found == needed and not asked:
            continue
        value = asked[0].value if asked else found
        shown = "null" if needed == NO_DEADLINE_S else needed
        raise ConfigError(
            f"secure={name} cannot be used: pacing.{knob} is {value}, but {why}; make it {shown}"
        )
