"""What the nodes of a simulated federation have spent, read from their ledgers."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from daafl.errors import StoreError
from daafl.observability.events import PrivacySpent
from daafl.privacy.budget import Budgets, node_account
from daafl.privacy.guarantee import NodePrivacy
from daafl.privacy.ledger import FILE, Ledger

PREFIX = "node-"


def ledger_folder(ledgers: Path, node: int) -> Path:
    """Return the folder of a node's ledger."""
    return ledgers / f"{PREFIX}{node}"


def spent_by_nodes(ledgers: Path, settings: NodePrivacy, *, spent_out: int) -> PrivacySpent:
    """Return what the nodes with a ledger under a folder have spent.

    Parameters
    ----------
    ledgers
        Folder of the nodes' ledgers; it may be missing if nobody has spent anything.
    settings
        What they spent it for.
    spent_out
        Nodes that took no further part.

    Returns
    -------
    PrivacySpent
        Of those that can be read; it counts the others.
    """
    epsilons, unreadable = [], 0
    for file in sorted(ledgers.glob(f"{PREFIX}*/{FILE}")):
        node = int(file.parent.name.removeprefix(PREFIX))
        try:
            budgets = Budgets(Ledger(file.parent), settings.budget)
            epsilons.append(budgets.epsilon(node_account(node)))
        except StoreError:
            unreadable += 1
    return PrivacySpent(
        unit=settings.unit,
        epsilon_spent=max(epsilons, default=0.0),
        epsilon_median=median(epsilons) if epsilons else 0.0,
        delta=settings.delta,
        accounts=len(epsilons),
        nodes_spent_out=spent_out,
        unreadable=unreadable,
    )
