"""What turns the updates of a step into a new model.

A `ServerOptimizer` owns the server's part of learning: averaging, momentum, adaptive rates, robust
rules. It decides neither who trains nor when; its state belongs to a branch and is saved and
restored with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from daafl.autonomy.plan import Value
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.store.tree import Tree, copied

__all__ = ["Needs", "ServerOptimizer", "Tree", "copied"]

Needs = Literal["mean", "individuals"]


class ServerOptimizer(Protocol):
    """Combines the updates of a step into a new model.

    ``needs`` says what it must see: ``"mean"`` if a weighted mean of updates gives the same model
    as the updates themselves, so that sums over cohorts suffice; ``"individuals"`` otherwise.

    Rules for implementations: arrays that come in are never written to; `state` and `load` copy
    (see `copied`), so that what is held elsewhere never changes; randomness comes from a seed kept
    in the state.

    Examples
    --------
    Gradient descent on the mean update with heavy-ball momentum, complete:

    >>> import numpy as np
    >>> from copy import deepcopy
    >>> from daafl.strategies.aggregation import weighted_mean
    >>> class Momentum:
    ...     needs = "mean"
    ...     def __init__(self, beta):
    ...         self.beta, self.factor, self.velocity = beta, 1.0, None
    ...     def init(self, layout, packed):
    ...         self.layout, self.velocity = layout, np.zeros(layout.num_parameters, layout.dtype)
    ...     def node_config(self):
    ...         return {}
    ...     def combine(self, packed, updates):
    ...         self.velocity = self.beta * self.velocity + weighted_mean(updates)[0]
    ...         return self.layout.packed(self.layout.vector(packed) + self.factor * self.velocity)
    ...     def scale(self, factor):
    ...         self.factor *= factor
    ...     def state(self):
    ...         return {"velocity": copied(self.velocity)}
    ...     def load(self, state):
    ...         self.velocity = copied(state["velocity"])
    ...     def fork(self):
    ...         return deepcopy(self)
    >>> layout = Layout.of({"w": np.zeros(2, np.float32)})
    >>> model, optimizer = layout.pack({"w": np.zeros(2, np.float32)}), Momentum(0.5)
    >>> optimizer.init(layout, model)
    >>> update = Update(np.array([1.0, 2.0], np.float32), 10, (0,), 0, {})
    >>> for _ in range(2):
    ...     model = optimizer.combine(model, [update])
    >>> layout.vector(model)
    array([2.5, 5. ], dtype=float32)
    """

    needs: Needs

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model, forgetting any earlier run."""

    def node_config(self) -> Mapping[str, Value]:
        """Return what nodes must know to train the present model; asked once per version."""

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model that follows ``packed``; ``updates`` are in their final order."""

    def scale(self, factor: float) -> None:
        """Multiply the server's step from now on, because steps combine more or fewer updates.

        The product of all factors belongs to the pacing, not to the model: it is no part of
        `state`, `load` leaves it as it is, and `init` sets it back to one.
        """

    def state(self) -> Tree:
        """Return everything that decides later steps, as a copy."""

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`, which is copied."""

    def fork(self) -> ServerOptimizer:
        """Return an independent optimiser in the same state, for another branch."""
