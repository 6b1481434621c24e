"""Going on with a run after its process has ended: its whole state as plain data, and back.

What is saved, and where it comes from:

=============== =================================================================================
``mailbox``     tickets that are out with what was asked, counts, last ticket id
``roster``      who was greeted under which ticket, what nodes said
``exchange``    the last update accepted of each node
``collector``   the pacing in force, updates refused by node
``branch``      model, optimiser, plan, loops, restore points, bases, buffer, standing (see there)
``reflector``   plan and loops of the federation, requests for the next cycle
``coordinator`` step, counters, what the loops are still to hear of, scale of the optimiser
``grid``        of a grid that can be resumed: its time, nodes' states, messages in flight
``clock_s``     the run's time
=============== =================================================================================

A grid that can be resumed goes on as if nothing had happened. With any other, a Flower SuperLink
for one, what was out is void: nodes are greeted again and training is asked for again, under the
same tickets and as it was asked then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from daafl.autonomy.codec import decode
from daafl.errors import CodecError, StoreError
from daafl.store.tree import Tree
from daafl.strategies.branch_state import branch_state, load_branch, plain
from daafl.strategies.clock import WallClock
from daafl.strategies.collecting import CollectorState
from daafl.strategies.composing import Parts
from daafl.strategies.coordinator import CoordinatorState
from daafl.strategies.design import Design
from daafl.strategies.mailbox import MailboxState
from daafl.strategies.reflecting import ReflectorState
from daafl.strategies.roster import RosterState


@runtime_checkable
class ResumableGrid(Protocol):
    """A grid that can be made anew as it stood, with every message that was on its way."""

    def snapshot(self) -> Tree:
        """Return where the grid stands."""

    def restore(self, state: Tree) -> None:
        """Go on from a `snapshot`."""


def saved(parts: Parts, design: Design) -> dict[str, Tree]:
    """Return the state of a run between two steps; arrays are shared, not copied."""
    grid = parts.grid
    return {
        "clock_s": parts.clock.now_s(),
        "grid": grid.snapshot() if isinstance(grid, ResumableGrid) else None,
        "mailbox": plain(parts.mailbox.state()),
        "roster": plain(parts.roster.state()),
        "exchange": parts.exchange.state(),
        "collector": plain(parts.collector.state()),
        "reflector": plain(parts.reflector.state()),
        "coordinator": plain(parts.coordinator.state()),
        "branch": branch_state(parts.branch, design.branch_hub),
    }


def load(parts: Parts, design: Design, state: Tree) -> None:
    """Bring the parts of a new run to where an earlier one stood.

    Parameters
    ----------
    parts
        As `composing.composed` returns them.
    design
        The same as the earlier run's.
    state
        From `saved`.

    Raises
    ------
    StoreError
        If it is no such state.
    FederationError
        If too few nodes answer where they have to be greeted again.
    """
    try:
        _load(parts, design, cast(Mapping[str, Any], state))
    except (KeyError, TypeError, ValueError, AttributeError, CodecError) as error:
        raise StoreError(
            f"the checkpoint does not hold the state of such a run ({error!r}); "
            "resume with the release and the arguments that it was started with"
        ) from error


def _load(parts: Parts, design: Design, state: Mapping[str, Any]) -> None:
    mailbox = decode(MailboxState, state["mailbox"])
    is_same_grid = isinstance(parts.grid, ResumableGrid) and state["grid"] is not None
    if isinstance(parts.grid, ResumableGrid) and is_same_grid:
        parts.grid.restore(state["grid"])
    elif isinstance(parts.clock, WallClock):
        parts.clock.resume(state["clock_s"])
    parts.mailbox.load(mailbox, is_still_out=is_same_grid)
    parts.roster.load(decode(RosterState, state["roster"]), is_same_run=is_same_grid)
    parts.exchange.load(state["exchange"])
    held = parts.collector.spool.held
    load_branch(parts.branch, state["branch"], design.branch_hub, held=held)
    parts.collector.load(decode(CollectorState, state["collector"]), parts.branch)
    parts.reflector.load(decode(ReflectorState, state["reflector"]))
    parts.coordinator.load(decode(CoordinatorState, state["coordinator"]))
    if not is_same_grid:
        parts.roster.gather()
        out = [ticket for _, ticket in mailbox.out if ticket.is_live]
        parts.collector.send_again(parts.branch, out)
