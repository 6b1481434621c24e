"""Candidates for a cohort: a range of nodes with a few left out, looked at only where it is drawn.

To draw 1,000 out of a million nodes takes a thousand random positions. A position is mapped to its
node by counting those left out before it, and a node that is offline is replaced by another draw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from daafl.strategies.registry import Ids
from daafl.strategies.selection import NodeFacts

MAX_TRIED: Final = 0.25  # share of the nodes tried at random before all of them are looked at
_CHUNK: Final = 4096  # nodes looked at together when one that is online is searched for

FactsOf = Callable[[Sequence[int]], list[NodeFacts]]
OnlineOf = Callable[[Ids], NDArray[np.bool_]]


class Pool(Sequence[NodeFacts]):
    """The members of a branch that may be drawn; facts are made for those that are looked at.

    As a sequence it holds those that are online, in ascending order; to list them takes one look at
    every node. Drawing does not, unless few are online.

    Parameters
    ----------
    members
        Logical ids, ascending.
    out
        Nodes that are left out, members or not.
    facts
        Returns what is known about nodes, in the order given.
    online
        Returns which nodes are online now; ``None`` if all are.

    Examples
    --------
    >>> def facts(nodes):
    ...     return [NodeFacts(node, 1000 + node, 8, "") for node in nodes]
    >>> pool = Pool(range(1_000_000), {0, 2, 4}, facts)
    >>> len(pool), pool[0].node, pool[1].node, pool[-1].node
    (999997, 1, 3, 999999)
    >>> pool.drawn(3, np.random.default_rng(0))
    [511137, 636962, 850622]
    """

    def __init__(
        self,
        members: Sequence[int],
        out: Collection[int],
        facts: FactsOf,
        online: OnlineOf | None = None,
    ) -> None:
        self._facts = facts
        self._online = online
        if isinstance(members, range):
            self._members: Sequence[int] = members
            left_out = np.array(sorted(node for node in out if node in members), np.int64)
        else:
            self._members = [node for node in members if node not in out]
            left_out = np.empty(0, np.int64)
        # How many candidates come before each node left out: positions from there on are shifted.
        first = members[0] if members else 0
        self._shifts = left_out - first - np.arange(len(left_out))

    @overload
    def __getitem__(self, index: int) -> NodeFacts: ...

    @overload
    def __getitem__(self, index: slice) -> list[NodeFacts]: ...

    def __getitem__(self, index: int | slice) -> NodeFacts | list[NodeFacts]:
        """Return facts about the candidates at some positions."""
        places = range(len(self))[index]
        if isinstance(places, int):
            (one,) = self._facts(self._nodes(np.array([places])))
            return one
        return self._facts(self._nodes(np.array(places, np.int64)))

    def __len__(self) -> int:
        """Return how many candidates are online."""
        return self._num_here if self._online is None else len(self._all_online)

    def __bool__(self) -> bool:
        """Return whether there is a candidate, without counting them."""
        if self._online is None:
            return self._num_here > 0
        starts = range(0, self._num_here, _CHUNK)
        return any(
            self._online(self._at(np.arange(start, min(start + _CHUNK, self._num_here)))).any()
            for start in starts
        )

    def drawn(self, count: int, rng: np.random.Generator) -> list[int]:
        """Return ``count`` candidates drawn uniformly without replacement, in ascending order.

        All of them, if there are not as many.
        """
        num = self._num_here
        if count >= num:
            return _listed(self._all_here if self._online is None else self._all_online)
        chosen = self._at(rng.choice(num, size=count, replace=False))
        if self._online is not None:
            is_online = self._online(chosen)
            if not is_online.all():
                chosen = self._others(chosen, is_online, rng)
        return _listed(np.sort(chosen))

    def _others(self, first: Ids, is_online: NDArray[np.bool_], rng: np.random.Generator) -> Ids:
        """Return as many candidates as were tried ``first``, with others in place of those offline.

        Further nodes are tried in random order, so that those taken are a uniform draw; so is the
        rest, if it is drawn among all that are online.
        """
        if self._online is None:
            return first
        count, tried = len(first), set(first.tolist())
        taken = first[is_online]
        while len(taken) < count and len(tried) < MAX_TRIED * self._num_here:
            share = max(len(taken) / len(tried), 0.01)
            num_more = int(1.2 * (count - len(taken)) / share) + 8
            places = rng.integers(0, self._num_here, size=num_more)
            nodes = dict.fromkeys(self._at(places).tolist())  # each once, in the order drawn
            more = np.array([node for node in nodes if node not in tried], np.int64)
            tried.update(more.tolist())
            taken = np.concatenate([taken, more[self._online(more)]])[:count]
        if len(taken) < count:
            rest = np.setdiff1d(self._all_online, taken, assume_unique=True)
            num_more = min(count - len(taken), len(rest))
            taken = np.concatenate([taken, rng.choice(rest, size=num_more, replace=False)])
        return taken

    @property
    def _num_here(self) -> int:
        """Candidates, whether they are online or not."""
        return len(self._members) - len(self._shifts)

    @cached_property
    def _all_here(self) -> Ids:
        return self._at(np.arange(self._num_here))

    @cached_property
    def _all_online(self) -> Ids:
        here = self._all_here
        return here if self._online is None else here[self._online(here)]

    def _nodes(self, places: Ids) -> list[int]:
        return _listed(self._at(places) if self._online is None else self._all_online[places])

    def _at(self, places: Ids) -> Ids:
        """Return the candidates at positions among all that are here."""
        if len(self._shifts):
            places = places + np.searchsorted(self._shifts, places, side="right")
        if isinstance(self._members, range):
            return places + self._members.start
        return self._ids[places]

    @cached_property
    def _ids(self) -> Ids:
        return np.array(self._members, np.int64)


def _listed(nodes: Ids) -> list[int]:
    listed: list[int] = nodes.tolist()
    return listed
