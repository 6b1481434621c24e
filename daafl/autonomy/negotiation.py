"""Settles what loops want of the same knob, and which of them goes first.

Between levels the stronger one wins: ``privacy and safety > integrity > device > learning > cost``.
Requested bounds on a knob are met, strongest first; a request that would leave no value is dropped.
Inside a level the larger expected improvement goes first, and where that is within 5 %, TOPSIS
(Hwang and Yoon 1981) weighs it against the expected costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from daafl.autonomy.records import STRENGTH, Decision, Level, Request

TOLERANCE: Final = 0.05
"""Expected improvements this close to the best, relatively, count as equal."""


@dataclass(frozen=True)
class Merit:
    """What speaks for and against a decision.

    Parameters
    ----------
    benefit
        Expected improvement in standard deviations of its metric, times the confidence.
    costs
        Expected increases by criterion, smaller is better.
    """

    benefit: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, decision: Decision) -> "Merit":
        """Return the merit of a decision; one that expects nothing has no benefit."""
        effect = decision.expect
        if effect is None:
            return cls(0.0, decision.costs)
        return cls(decision.confidence * effect.mean / max(effect.sd, 1e-9), decision.costs)


@dataclass(frozen=True)
class LiveRequest:
    """A request, the first tick it no longer holds in, and what speaks for it."""

    request: Request
    until: int
    merit: Merit = Merit()


@dataclass(frozen=True)
class Agreement:
    """What the live requests leave of a knob.

    Parameters
    ----------
    low, high
        Bounds; ``None`` leaves a side open.
    is_held
        Whether the knob is to stay at its value.
    by
        Loops whose requests hold, strongest first.
    dropped
        Requests that would have left no value.
    """

    low: float | None = None
    high: float | None = None
    is_held: bool = False
    by: tuple[str, ...] = ()
    dropped: tuple[Request, ...] = ()


def agreement(live: Iterable[LiveRequest], knob: str, owner_level: Level | None) -> Agreement:
    """Return what requests leave of a knob, given its owner's level (``None``: no loop owns it).

    A request whose level is weaker than the owner's does not bind: no loop may trade a stronger
    loop's knob.

    Examples
    --------
    >>> asks = [
    ...     LiveRequest(Request("lr", "cost", "energy", "battery", high=0.1), until=9),
    ...     LiveRequest(Request("lr", "integrity", "quality", "attack", low=0.2), until=9),
    ... ]
    >>> met = agreement(asks, "lr", None)
    >>> met.low, met.high, met.by, [request.by for request in met.dropped]
    (0.2, None, ('quality',), ['energy'])
    """
    floor = STRENGTH[owner_level] if owner_level is not None else max(STRENGTH.values())
    binding = [
        ask for ask in live if ask.request.knob == knob and STRENGTH[ask.request.level] <= floor
    ]
    if not binding:
        return Agreement()
    low, high = -np.inf, np.inf
    is_held, by, dropped = False, [], []
    for ask in _by_precedence(binding):
        request = ask.request
        narrower_low = low if request.low is None else max(low, request.low)
        narrower_high = high if request.high is None else min(high, request.high)
        if narrower_low > narrower_high:
            dropped.append(request)
            continue
        low, high = narrower_low, narrower_high
        is_held |= request.low is None and request.high is None
        by.append(request.by)
    return Agreement(
        low=None if low == -np.inf else low,
        high=None if high == np.inf else high,
        is_held=is_held,
        by=tuple(dict.fromkeys(by)),
        dropped=tuple(dropped),
    )


def _by_precedence(asks: Sequence[LiveRequest]) -> list[LiveRequest]:
    """Sort by level, and inside a level by merit."""
    ordered = sorted(asks, key=lambda ask: STRENGTH[ask.request.level])
    result: list[LiveRequest] = []
    for _, same in groupby(ordered, key=lambda ask: STRENGTH[ask.request.level]):
        equals = list(same)
        result.extend(equals[i] for i in precedence([ask.merit for ask in equals]))
    return result


def precedence(merits: Sequence[Merit]) -> tuple[int, ...]:
    """Return the indices of `merits`, the one to prefer first; equals keep their order.

    Examples
    --------
    The second has the largest benefit, but the first is within 5 % of it and far cheaper.

    >>> precedence([Merit(0.97, {"bytes": 1.0}), Merit(1.0, {"bytes": 9.0}), Merit(0.5)])
    (0, 1, 2)
    """
    left = list(range(len(merits)))
    order: list[int] = []
    while left:
        best = max(merits[i].benefit for i in left)
        near = [i for i in left if merits[i].benefit >= best - TOLERANCE * abs(best)]
        chosen = near[0]
        if len(near) > 1:
            chosen = near[int(np.argmax(closeness(_criteria([merits[i] for i in near]))))]
        order.append(chosen)
        left.remove(chosen)
    return tuple(order)


def _criteria(merits: Sequence[Merit]) -> NDArray[np.float64]:
    """Return the matrix of alternatives by criteria, larger is better; a missing cost is 0."""
    names = sorted({name for merit in merits for name in merit.costs})
    rows = [[m.benefit, *(-m.costs.get(name, 0.0) for name in names)] for m in merits]
    return np.array(rows, dtype=np.float64)


def closeness(criteria: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return TOPSIS's relative closeness to the ideal of each alternative, within [0, 1].

    Parameters
    ----------
    criteria
        Shape (alternatives, criteria), larger is better. Columns are scaled to unit length and
        weigh the same; a column without differences has no say.

    Examples
    --------
    >>> closeness(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).round(3).tolist()
    [0.5, 0.5, 1.0]
    """
    lengths = np.linalg.norm(criteria, axis=0)
    scaled = criteria / np.where(lengths > 0, lengths, 1.0)
    to_best = np.linalg.norm(scaled - scaled.max(axis=0), axis=1)
    to_worst = np.linalg.norm(scaled - scaled.min(axis=0), axis=1)
    total = to_best + to_worst
    return np.where(total > 0, to_worst / np.where(total > 0, total, 1.0), 1.0)
