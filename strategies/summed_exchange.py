"""One message for a whole cohort, and one update back: the weighted mean of its members' models.

For grids that train a cohort as one computation. A member's own model never exists, so nobody can
look at it: there is no screening, no robust rule, no committee, no replacement of a member that
failed, and the sum waits for all members that are going to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
from flwr.app import ConfigRecord, MessageType, RecordDict
from flwr.serverapp import Grid

from daafl.autonomy.plan import Value
from daafl.autonomy.policy import Loop
from daafl.errors import ConfigError, MessageError
from daafl.flower import config_record
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.messages import ARRAYS, COHORT, CONFIG, DRAWS, NODES, NUM_EXAMPLES
from daafl.store.tree import Tree
from daafl.strategies.exchange import Member, Received, model_record
from daafl.strategies.mailbox import Arrival, Outgoing, Ticket
from daafl.strategies.pacing import NO_DEADLINE_S, Pacing
from daafl.strategies.regime import Offer, loop_requirement
from daafl.strategies.schedule import Override
from daafl.strategies.validation import Terms, validated

ExchangeName = Literal["plain", "summed"]

REQUIREMENTS: Final = (
    "a server optimiser that needs only the mean of the updates",
    "no loop that needs each node's own update, such as quality",
    "a pacing in which a step waits for its whole cohort: synchronous, no deadline, and a quorum "
    "that is the concurrency",
    "a grid that trains cohorts, and nodes that nobody makes hostile",
)
"""What the summed exchange needs, for the documentation."""

_WHOLE_COHORT: Final = ("quorum", "deadline_s", "max_staleness", "refill")  # knobs left as they are


@runtime_checkable
class CohortGrid(Protocol):
    """A grid that may train cohorts."""

    @property
    def cohort_address(self) -> int | None:
        """Where messages to whole cohorts go; ``None`` if nodes are asked one by one only."""


def cohort_address_of(grid: Grid) -> int:
    """Return where a grid takes messages to whole cohorts.

    Raises
    ------
    ConfigError
        If it takes none.
    """
    address = grid.cohort_address if isinstance(grid, CohortGrid) else None
    if address is None:
        raise ConfigError(
            f"exchange 'summed' needs a grid that trains cohorts, and {type(grid).__name__} does "
            "not; use exchange 'plain'"
        )
    return address


class SummedExchange:
    """Members of a cohort are asked together and answer with one update.

    Parameters
    ----------
    federation
        Name of the federation that envelopes must carry.
    layout
        Layout of the model.
    address
        Where messages to whole cohorts go.
    """

    offers = Offer(individuals=False, losses="per_group")
    is_joint = True

    def __init__(self, federation: str, layout: Layout, address: int) -> None:
        self._federation = federation
        self._layout = layout
        self.cohort_address: int | None = address

    def begin(self, cohort: Sequence[Member], packed: Packed) -> list[Outgoing]:
        """Return one TRAIN message for each member, which stands for a whole cohort."""
        arrays = model_record(packed)
        return [
            Outgoing(
                member.ticket,
                member.address,
                MessageType.TRAIN,
                RecordDict(
                    {
                        ARRAYS: arrays,
                        CONFIG: member.assignment.to_record(),
                        COHORT: config_record(
                            {NODES: list(member.ticket.nodes), DRAWS: list(member.ticket.draws)}
                        ),
                    }
                ),
            )
            for member in cohort
        ]

    def receive(self, arrival: Arrival, base: Packed) -> Received:
        """Return the one update of a cohort, with those who took part as its senders.

        Raises
        ------
        MessageError
            If the update fails one of the checks of `daafl.strategies.validation`, or names nodes
            that were not asked.
        """
        if arrival.content is None:
            raise MessageError("schema", "the reply is empty")
        ticket = arrival.ticket
        senders = _senders(arrival.content.get(COHORT), ticket.nodes)
        rest = RecordDict({name: r for name, r in arrival.content.items() if name != COHORT})
        # Each ticket is answered once, so there is no earlier update to compare it with.
        checked = validated(rest, Terms(self._federation, ticket, self._layout, base))
        update = Update(
            delta=checked.delta,
            num_examples=checked.metrics[NUM_EXAMPLES],
            senders=senders,
            version=ticket.version,
            metrics=checked.metrics,
            received=checked.packed,
        )
        return Received(updates=[update])

    def expire(self, ticket: Ticket) -> Received:
        """Return nothing: the whole cohort has failed."""
        return Received()

    def state(self) -> Tree:
        """Return nothing: what is out is in the mailbox."""
        return None

    def load(self, state: Tree) -> None:
        """Take over what `state` returned: nothing."""


def _senders(record: object, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the nodes that took part, ascending; they must be among those asked (*schema*)."""
    nodes = record.get(NODES) if isinstance(record, ConfigRecord) else None
    if (
        not isinstance(record, ConfigRecord)
        or set(record) != {NODES}
        or not isinstance(nodes, list)
    ):
        raise MessageError("schema", f"a cohort's reply needs a record {COHORT!r} with {NODES!r}")
    if not 0 < len(nodes) <= len(asked):
        raise MessageError("schema", f"{len(nodes)} nodes took part, of {len(asked)} asked")
    try:
        found = np.array(nodes)
    except (ValueError, OverflowError) as error:
        raise MessageError("schema", "the nodes that took part are no whole numbers") from error
    if found.dtype != np.int64 or (np.diff(found) <= 0).any() or not np.isin(found, asked).all():
        raise MessageError("schema", "the nodes that took part are not among those asked")
    return tuple(found.tolist())


def check_summed(*, loops: Sequence[Loop], pacing: Pacing, overrides: Sequence[Override]) -> None:
    """Refuse what cannot work with sums over cohorts, apart from the optimiser.

    Raises
    ------
    ConfigError
        Naming the part and why.
    """
    for loop in loops:
        if loop_requirement(loop).individuals:
            name = loop.policy.name
            raise ConfigError(
                f"exchange 'summed' cannot be used: loop {name} needs each node's own update, and "
                f"only sums are seen; leave {name} out, or use exchange 'plain'"
            )
    found = pacing.values()
    usual = Pacing(concurrency=pacing.concurrency, quorum=pacing.concurrency).values()
    for name in _WHOLE_COHORT:
        if found[name] != usual[name]:
            raise ConfigError(
                f"exchange 'summed' cannot be used: pacing.{name} is {_shown(found[name])}, but a "
                f"sum waits for its whole cohort; make it {_shown(usual[name])}, or use exchange "
                "'plain'"
            )
    for override in overrides:
        if override.knob in _WHOLE_COHORT:
            raise ConfigError(
                f"exchange 'summed' cannot be used: the override of {override.knob!r} before step "
                f"{override.step} cuts a cohort, and a sum waits for all of it; leave it out, or "
                "use exchange 'plain'"
            )


def _shown(value: Value) -> Value:
    return "null" if value == NO_DEADLINE_S else value
