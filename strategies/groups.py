"""Which members of a cohort are summed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

_GROUP_STREAM: Final = 4  # keeps these draws apart from other seeded draws of the run

T = TypeVar("T")


def divided(
    members: Sequence[T], size: int | None, *, seed: int, number: int
) -> list[tuple[T, ...]]:
    """Return members in random groups of at least ``size``, as equal as can be.

    Groups are drawn anew for every cohort, so that nobody chooses beside whom it stands.

    Parameters
    ----------
    members
        Of one cohort, in a fixed order.
    size
        Fewest members of a group; ``None`` for one group. Fewer than that many make one group.
    seed, number
        Seed of the run, and a number of the cohort.

    Examples
    --------
    >>> [len(group) for group in divided(range(20), 8, seed=0, number=1)]
    [10, 10]
    >>> sorted(divided(range(3), 8, seed=0, number=1)[0])
    [0, 1, 2]
    """
    if not members:
        return []
    num_groups = 1 if size is None else max(1, len(members) // size)
    order = np.random.default_rng([seed, _GROUP_STREAM, number]).permutation(len(members))
    return [
        tuple(members[index] for index in sorted(part.tolist()))
        for part in np.array_split(order, num_groups)
    ]
