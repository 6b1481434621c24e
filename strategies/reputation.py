"""What screening knows of the nodes, and which of them are under suspicion.

A node's record is the running mean of its updates' scores. It is under suspicion from a record of
2.25, or where the federation's records differ more, from one that stands out of them. It no longer
is when its record has halved. At most 45 % of the known nodes are under suspicion. Of the nodes of
a large federation, all suspects are known, and ten thousand in all: those that appeared last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import numpy as np

from daafl.robust.suspicion import MAD_TO_SD, Numbers

RECORD_WEIGHT: Final = 0.3  # of the newest score in a record
RECORD_LIMIT: Final = 6.0  # what a score counts for in a record at most
SUSPECT: Final = 2.25  # record from which a node is under suspicion, at least
SUSPECT_SDS: Final = 2.5  # and how far it is from the other nodes' records
PAROLE: Final = 0.5  # share of that record below which it no longer is
MOST_LEFT_OUT: Final = 0.45  # of the known nodes, and of the updates of those in good standing
NUM_TRACES: Final = 20
MOST_KNOWN: Final = 10_000  # nodes with a record; each step looks at all of them


@dataclass(frozen=True)
class Record:
    """What is known of a node.

    Parameters
    ----------
    score
        Running mean of its scores.
    num_seen
        Updates of its that were scored.
    is_suspect
        Whether it is under suspicion.
    """

    score: float = 0.0
    num_seen: int = 0
    is_suspect: bool = False

    def after(self, score: float) -> Record:
        """Return the record after an update with ``score``."""
        mean = (1 - RECORD_WEIGHT) * self.score + RECORD_WEIGHT * min(score, RECORD_LIMIT)
        return Record(mean, self.num_seen + 1, self.is_suspect)


@dataclass(frozen=True)
class Trace:
    """What small cohorts remember of an update: its log norm and its cosine."""

    log_norm: float
    cosine: float


@dataclass(frozen=True)
class Standing:
    """What screening has learned about the nodes.

    Parameters
    ----------
    records
        By node.
    traces
        Of the latest updates of nodes in good standing, oldest first.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    traces: tuple[Trace, ...] = ()

    @property
    def suspects(self) -> tuple[int, ...]:
        """Nodes under suspicion, ascending."""
        return tuple(sorted(int(n) for n, record in self.records.items() if record.is_suspect))

    @property
    def num_known(self) -> int:
        """Number of nodes with a record."""
        return len(self.records)

    def of(self, node: int) -> Record:
        """Return a node's record; an empty one if it was never seen."""
        return self.records.get(str(node), Record())

    @property
    def suspect_limit(self) -> float:
        """Record from which a node comes under suspicion."""
        scores = np.array([record.score for record in self.records.values()] or [0.0])
        middle = float(np.median(scores))
        spread = MAD_TO_SD * float(np.median(np.abs(scores - middle)))
        return max(SUSPECT, middle + SUSPECT_SDS * spread)

    def after(self, nodes: Sequence[int], scores: Numbers) -> Standing:
        """Return the standing after one update of each of ``nodes``."""
        records = dict(self.records)
        for node, score in zip(nodes, scores, strict=True):
            records[str(node)] = records.get(str(node), Record()).after(float(score))
        limit = Standing(records).suspect_limit
        for key in dict.fromkeys(map(str, nodes)):
            bar = PAROLE * limit if records[key].is_suspect else limit
            records[key] = replace(records[key], is_suspect=records[key].score > bar)
        suspects = [key for key, record in records.items() if record.is_suspect]
        num_pardoned = max(len(suspects) - int(MOST_LEFT_OUT * len(records)), 0)
        for key in sorted(suspects, key=lambda key: (records[key].score, int(key)))[:num_pardoned]:
            records[key] = replace(records[key], is_suspect=False)
        return replace(self, records=_latest(records))


def _latest(records: dict[str, Record]) -> Mapping[str, Record]:
    """Return the records to keep: all if they are few, else suspects and those made last."""
    surplus = len(records) - MOST_KNOWN
    if surplus <= 0:
        return records
    trusted = (key for key, record in records.items() if not record.is_suspect)
    forgotten = set(islice(trusted, surplus))
    return {key: record for key, record in records.items() if key not in forgotten}
