"""FedExP: the server's step size from how much the nodes' updates disagree.

Source: Jhunjhunwala, Wang, Joshi, "FedExP: Speeding Up Federated Averaging via Extrapolation",
ICLR 2023 (arXiv 2301.09604), the step size of Algorithm 1. Symbols: ``eta_g`` is `FedExP.rate`,
``Delta_i`` a node's update, ``p_i`` its share of the examples, ``epsilon`` as there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from daafl.autonomy.plan import Value
from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.optimizer import Needs, Tree, copied


class FedExP:
    """Averages updates and extrapolates along their mean; a `ServerOptimizer`.

    With weights ``p_i`` the new model is ``w + rate * mean``, where ``mean = sum(p_i * Delta_i)``
    and ``rate = max(1, sum(p_i * |Delta_i|^2) / (2 * (|mean|^2 + epsilon)))``. Updates that agree
    give rate 1, which is FedAvg; updates that are orthogonal to each other give half their number.

    Deviations from the paper: weights are shares of examples, where the algorithm as printed counts
    every node once; integer entries, such as counters, follow the plain mean. The paper trains from
    the last iterate but evaluates the average of the last two, because extrapolated iterates
    oscillate: `combine` returns the last one, and `averaged` is there for whoever evaluates.

    Parameters
    ----------
    epsilon
        Keeps the rate small when updates nearly cancel. It is compared with ``|mean|^2`` and so
        depends on the model and the local learning rate; the paper chooses from 1e-3 to 1e-1.

    Raises
    ------
    ConfigError
        If ``epsilon`` is not positive.

    Examples
    --------
    >>> layout = Layout.of({"w": np.zeros(4, np.float32)})
    >>> model, optimizer = layout.pack({"w": np.zeros(4, np.float32)}), FedExP(epsilon=1e-9)
    >>> optimizer.init(layout, model)
    >>> updates = [Update(row, 5, (i,), 0, {}) for i, row in enumerate(np.eye(4, dtype=np.float32))]
    >>> layout.vector(optimizer.combine(model, updates))  # orthogonal: the mean, 4 / 2 times
    array([0.5, 0.5, 0.5, 0.5], dtype=float32)
    """

    needs: Needs = "individuals"

    def __init__(self, epsilon: float = 1e-3) -> None:
        if not epsilon > 0:
            raise ConfigError(f"epsilon of FedExP is {epsilon}; it must be positive")
        self.epsilon = epsilon
        self.rate = 1.0
        """Step size of the last step, before scaling."""
        self._factor = 1.0
        self._previous: Packed | None = None
        self._layout: Layout | None = None

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model."""
        self._layout = layout
        self._previous = None
        self._factor = self.rate = 1.0

    def node_config(self) -> Mapping[str, Value]:
        """Return nothing: nodes train as they do for FedAvg."""
        return {}

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the extrapolated model, from which nodes go on training."""
        layout = self._started()
        mean, total = weighted_mean(updates)
        is_float = _float_values(layout)
        spread = sum(
            (update.num_examples / total)
            * update.damping**2
            * _squared_norm(update.delta[is_float])
            for update in updates
        )
        ratio = spread / (2 * (_squared_norm(mean[is_float]) + self.epsilon))
        self.rate = max(1.0, ratio) if math.isfinite(ratio) else 1.0
        step = mean
        step[is_float] *= mean.dtype.type(self.rate * self._factor)
        self._previous = packed
        return layout.packed(layout.vector(packed) + step)

    def averaged(self, packed: Packed) -> Packed:
        """Return the mean of ``packed`` and the model before it, to be evaluated."""
        if self._previous is None:
            return packed
        layout = self._started()
        return layout.packed((layout.vector(self._previous) + layout.vector(packed)) / 2)

    def scale(self, factor: float) -> None:
        """Multiply the extrapolated step."""
        self._factor *= factor

    def state(self) -> Tree:
        """Return the model before the last one and the last rate."""
        return {"previous": copied(self._previous), "rate": self.rate}

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`."""
        match state:
            case {"previous": None | np.ndarray() as previous, "rate": float(rate)}:
                self._previous, self.rate = copied(previous), rate
            case _:
                raise FederationError("the state given to FedExP is not one of FedExP's")

    def fork(self) -> FedExP:
        """Return an independent optimiser in the same state."""
        return copy.copy(self)

    def _started(self) -> Layout:
        if self._layout is None:
            raise FederationError("FedExP has no model yet; call init first")
        return self._layout


def _float_values(layout: Layout) -> slice | npt.NDArray[np.bool_]:
    """Return an index of the vector's values that are floating-point in the model."""
    kinds = [np.dtype(entry.dtype).kind == "f" for entry in layout.entries]
    if all(kinds):
        return slice(None)
    return np.repeat(kinds, [entry.size for entry in layout.entries])


def _squared_norm(vector: Vector) -> float:
    """Return the sum of squares, added up in float64 so that float32 values cannot overflow."""
    return float(np.square(vector, dtype=np.float64).sum())
