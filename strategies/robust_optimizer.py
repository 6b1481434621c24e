"""What is the same for every robust rule as a server optimiser."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NoReturn

import numpy as np

from daafl.autonomy.plan import Value
from daafl.errors import FederationError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update
from daafl.robust.coordinates import coordinate_median
from daafl.robust.stack import Numbers, Spans, Stack
from daafl.store.tree import Tree
from daafl.strategies.optimizer import Needs


class RobustOptimizer(ABC):
    """Adds one robust combination of the damped updates to the model; a `ServerOptimizer`.

    Only what gradients move is left to the rule. Running statistics and counters follow the
    coordinate median: between counters a distance means nothing, and an update that is honest in
    its weights alone could otherwise set a variance to anything.

    Numbers of examples are claims of the nodes, which one node could use to outweigh all others.
    No rule here reads them unless it says so.

    Examples
    --------
    A rule of your own, complete:

    >>> class Shortest(RobustOptimizer):
    ...     def combined(self, stack, weights, spans):
    ...         return min(stack.vectors, key=lambda vector: float(vector @ vector))
    >>> layout = Layout.of({"w": np.zeros(2, np.float32)})
    >>> model, optimizer = layout.pack({"w": np.zeros(2, np.float32)}), Shortest()
    >>> optimizer.init(layout, model)
    >>> rows = np.array([[1.0, 2.0], [30.0, 40.0]], np.float32)
    >>> updates = [Update(row, 5, (i,), 0, {}) for i, row in enumerate(rows)]
    >>> layout.vector(optimizer.combine(model, updates))
    array([1., 2.], dtype=float32)
    """

    needs: Needs = "individuals"
    takes_groups: bool = True
    _layout: Layout | None = None
    _factor: float = 1.0

    @abstractmethod
    def combined(self, stack: Stack, weights: Numbers, spans: Spans) -> Vector:
        """Return what the model is to change by, of shape ``[num_parameters]``.

        Parameters
        ----------
        stack
            The damped updates, one or more; not to be written to.
        weights
            Examples behind each update.
        spans
            Columns of the model that gradients move. What is returned for the others is not used.
        """

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model."""
        self._layout = layout
        self._factor = 1.0

    def node_config(self) -> Mapping[str, Value]:
        """Return nothing: nodes train as they do for FedAvg."""
        return {}

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model moved by the rule's combination of the updates."""
        layout = self._layout
        if layout is None:
            raise FederationError(f"{self.name} has no model yet; call init first")
        stack = Stack.of([u.delta for u in updates], [u.damping for u in updates])
        weights = np.array([update.num_examples for update in updates], np.float64)
        step = self.combined(stack, weights, list(_spans(layout, is_trained=True)))
        measured = list(_spans(layout, is_trained=False))
        if measured:
            step = step.copy()
            medians = coordinate_median(stack, weights, spans=measured)
            for start, stop in measured:
                step[start:stop] = medians[start:stop]
        return layout.packed(layout.vector(packed) + step * step.dtype.type(self._factor))

    def scale(self, factor: float) -> None:
        """Multiply the step."""
        self._factor *= factor

    def state(self) -> Tree:
        """Return nothing: most rules keep nothing from one step to the next."""
        return {}

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`."""
        if state != {}:
            self.refuse_state()

    def fork(self) -> RobustOptimizer:
        """Return an independent optimiser in the same state."""
        return copy.deepcopy(self)

    @property
    def name(self) -> str:
        """Name of the class, as messages to people call it."""
        return type(self).__name__

    def refuse_state(self) -> NoReturn:
        """Refuse what `load` was given.

        Raises
        ------
        FederationError
            Always.
        """
        raise FederationError(f"the state given to {self.name} is not one of {self.name}'s")


def _spans(layout: Layout, *, is_trained: bool) -> Iterator[tuple[int, int]]:
    """Yield the columns of the entries that gradients move, or of the others, in long runs."""
    stop = 0
    for kind, entries in groupby(layout.entries, key=lambda entry: entry.is_trained):
        start, stop = stop, stop + sum(entry.size for entry in entries)
        if kind is is_trained and stop > start:
            yield start, stop
