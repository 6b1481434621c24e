"""A branch as plain data, and back.

The optimiser's state is not saved beside the restore points: that of the present version is the one
it had when the model was made, before it was asked about the next training. Asked again after a
restart, it answers the same; asked twice, a Flower strategy would not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from daafl.autonomy.codec import decode, encode
from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Plan
from daafl.learning.layout import Vector
from daafl.learning.update import Update
from daafl.store.tree import Tree
from daafl.strategies.branch import Branch, Buffered, RestorePoint
from daafl.strategies.reputation import Standing
from daafl.strategies.screening import Evidence
from daafl.strategies.spool import is_in_file


def branch_state(branch: Branch, hub: Hub) -> dict[str, Tree]:
    """Return everything about a branch that decides later steps; its arrays are shared.

    Parameters
    ----------
    branch
        A branch that holds a restore point of its present version.
    hub
        The hub of its loops.
    """
    return {
        "name": branch.name,
        "parent": branch.parent,
        "version": branch.version,
        "plan": plain(branch.plan),
        "loops": plain(hub.encode(branch.loops)),
        "members": _saved_members(branch.members),
        "bases": [[version, packed] for version, packed in branch.bases.items()],
        "points": [
            [version, {"packed": p.packed, "optimizer": p.optimizer, "knobs": dict(p.knobs)}]
            for version, p in branch.points.items()
        ],
        "buffer": [_saved(item, branch.version) for item in branch.buffer],
        "direction": branch.direction,
        "standing": plain(branch.standing),
        "accepted": branch.accepted,
        "draws": [[node, count] for node, count in branch.draws.items()],
    }


def load_branch(
    branch: Branch, state: Mapping[str, Any], hub: Hub, *, held: Callable[[Vector], Vector]
) -> None:
    """Make a new branch what an earlier one was.

    Parameters
    ----------
    branch
        A branch whose optimiser has been started on the same layout.
    state
        From `branch_state`.
    hub
        The hub of its loops.
    held
        Counts a vector as one that lies in memory; see `Spool.held`. What lay in a file takes none
        of the room now, so that later updates find as much of it as they would have found.

    Raises
    ------
    KeyError, TypeError, ValueError, CodecError
        If it is no such state.
    """
    branch.version = int(state["version"])
    branch.plan = decode(Plan, state["plan"])
    branch.loops = hub.decode(state["loops"])
    branch.members = _restored_members(state["members"])
    branch.points = {
        version: RestorePoint(point["packed"], point["optimizer"], point["knobs"])
        for version, point in state["points"]
    }
    branch.bases = dict(state["bases"])
    branch.buffer = [_restored(item, held) for item in state["buffer"]]
    branch.direction = state["direction"]
    branch.standing = decode(Standing, state["standing"])
    branch.accepted = state["accepted"]
    branch.draws = {node: count for node, count in state["draws"]}
    present = branch.points[branch.version]
    branch.packed = present.packed
    branch.optimizer.load(present.optimizer)


def plain(value: object) -> Tree:
    """Return a dataclass that the loops' codec knows as plain data."""
    tree: Any = encode(value)  # JSON is a tree
    data: Tree = tree
    return data


def _saved_members(members: Sequence[int]) -> Tree:
    """Return a range as its two ends, so that a million members take no more room than two."""
    if isinstance(members, range):
        return {"first": members.start, "end": members.stop}
    return list(members)


def _restored_members(saved: Any) -> Sequence[int]:
    if isinstance(saved, Mapping):
        return range(saved["first"], saved["end"])
    return tuple(saved)


def _saved(item: Buffered, version: int) -> dict[str, Tree]:
    """Return an update; one that is stale, and so will be damped, without what was received."""
    update, evidence = item.update, item.evidence
    return {
        "is_in_file": is_in_file(update.delta),
        "ticket": item.ticket,
        "delta": update.delta,
        "num_examples": update.num_examples,
        "senders": list(update.senders),
        "version": update.version,
        "metrics": dict(update.metrics),
        "damping": update.damping,
        "received": update.received if update.version == version else None,
        "evidence": None
        if evidence is None
        else {"sketch": evidence.sketch, "norm": evidence.norm},
    }


def _restored(item: Mapping[str, Any], held: Callable[[Vector], Vector]) -> Buffered:
    update = Update(
        delta=item["delta"] if item["is_in_file"] else held(item["delta"]),
        num_examples=item["num_examples"],
        senders=tuple(item["senders"]),
        version=item["version"],
        metrics=item["metrics"],
        damping=item["damping"],
        received=item["received"],
    )
    evidence = item["evidence"]
    return Buffered(item["ticket"], update, Evidence(**evidence) if evidence else None)
