"""How a run's summary tells what nodes have spent, where their ledgers can be read."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from daafl.observability.events import RunSummary
from daafl.privacy.guarantee import LocalPrivacy, Privacy, SamplePrivacy
from daafl.privacy.spending import spent_by_nodes


def with_spending(
    summary: RunSummary, privacy: Privacy | None, ledgers: Path | None, spent_out: Set[int]
) -> RunSummary:
    """Return a summary with what nodes have spent; as it is where nobody here can know.

    That is where nodes keep their ledgers to themselves, and where noise comes from a seed, so that
    no privacy is claimed.
    """
    if not isinstance(privacy, SamplePrivacy | LocalPrivacy) or ledgers is None:
        return summary
    if privacy.rng == "seeded":
        return summary
    spent = spent_by_nodes(ledgers, privacy, spent_out=len(spent_out))
    if not spent.accounts and not spent.unreadable:
        return summary
    return replace(summary, epsilon=spent.epsilon_spent, delta=spent.delta, privacy=spent)
