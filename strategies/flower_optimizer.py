"""A Flower strategy as a server optimiser.

Nothing else calls a Flower strategy, and this does so for two things. ``configure_train`` is asked
once per version, on a grid of imaginary nodes, for the settings that nodes must know; that is also
where several strategies take note of the model they will compare replies with. ``aggregate_train``
is given replies and returns the next model. Selection, pacing and messages are not the strategy's.

With fresh updates, the result is that of Flower's own rounds bit for bit: a strategy gets each of
them as it was received, or, if it is known to use nothing but their mean, that mean as Flower
computes it. Three things need care for that, and are worth knowing:

- FedAdam turns float32 into float64 and is given its own float64 back in the next round. Where a
  strategy's output has another number type than the model, it is kept in the optimiser's state and
  handed back with the model it became.
- Integer entries, such as counters of batches seen, are handed over as float64, which is what
  NumPy's arithmetic in the strategies makes of them; QFedAvg computes in place and would fail.
- Rounds are counted here, from 1, and the count is restored with the state, because FedAdam's
  correction of its moments depends on it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from daafl.autonomy.plan import Value
from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.calling import aggregated, configured
from daafl.strategies.capabilities import capability_of, is_listed
from daafl.strategies.flower_mean import flower_mean
from daafl.strategies.flower_records import (
    Arrays,
    array_record,
    common_metrics,
    is_untouched,
    model_of,
    replies,
    returned_arrays,
    strategy_arrays,
)
from daafl.strategies.optimizer import Needs, Tree
from daafl.strategies.strategy_state import load_into, state_of, twin, unsaved

__all__ = ["MAX_INDIVIDUAL_BYTES", "FlowerOptimizer", "named_arrays"]

MAX_INDIVIDUAL_BYTES: Final = 256 * 2**20
"""Beyond this many bytes of models, a strategy that needs only a mean is given only a mean."""


class FlowerOptimizer:
    """Adapts a Flower strategy to `ServerOptimizer`.

    A strategy that needs individual updates is given one reply per update. One that needs only a
    mean is given a single reply. While the updates are all of one node each, fresh, and together
    not larger than 256 MiB, it carries their mean as Flower computes it; a strategy of a user's own
    is then given one reply per update all the same. Otherwise it carries the mean of the damped
    updates, which comes to the same by linearity, up to rounding.

    The strategy's settings for sampling and evaluation are not used. Flower's task identity must
    have been set, as every running grid does.

    Parameters
    ----------
    strategy
        Any Flower strategy but those in `capabilities.REFUSED`. It is used, not copied; `init`
        returns it to the state that it has now.

    Raises
    ------
    ConfigError
        If the strategy cannot be used.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAdam, FedMedian
    >>> FlowerOptimizer(FedAdam()).needs, FlowerOptimizer(FedMedian()).needs
    ('mean', 'individuals')
    """

    needs: Needs
    strategy: Strategy
    skipped: str | None
    """Why the last `combine` left the model as it was; ``None`` if it did not."""

    _packed: Packed | None  # the model that came of the last step
    _exact: Arrays  # what of it the strategy returned in another number type
    _settings: dict[str, Value] | None  # None: not asked since the last step

    def __init__(self, strategy: Strategy) -> None:
        if not isinstance(strategy, Strategy):
            raise ConfigError(
                f"FlowerOptimizer needs a Flower strategy, not a {type(strategy).__name__}"
            )
        capability = capability_of(strategy)
        self.needs = capability.needs
        self.takes_groups = capability.takes_groups
        self.strategy = strategy
        self._rate = capability.rate
        self._is_listed = is_listed(strategy)
        self._is_mean = capability.is_mean and self._is_listed
        # The scaled rate belongs to the pacing, and what is captured anew needs no saving.
        self._omit = {*capability.captured, *([self._rate] if self._rate else [])}
        self._pristine = state_of(strategy)
        self._layout: Layout | None = None
        self._start(None)

    @property
    def step(self) -> int:
        """Rounds combined so far, as the strategy counts them."""
        return self._step

    @property
    def unsaved(self) -> tuple[str, ...]:
        """Attributes of the strategy that `state` cannot hold and a rollback does not undo."""
        return unsaved(self.strategy)

    def init(self, layout: Layout, packed: Packed) -> None:
        """Start anew with a branch's first model."""
        load_into(self.strategy, self._pristine)
        self._layout = layout
        self._start(packed)

    def node_config(self) -> Mapping[str, Value]:
        """Return the strategy's settings for nodes, such as ``proximal-mu``.

        Raises
        ------
        ConfigError
            If they differ between nodes or are no plain numbers, texts or booleans.
        """
        if self._settings is None:
            self._settings = self._prime()
        return dict(self._settings)

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        """Return the model that the strategy makes of ``packed`` and the updates.

        A strategy that returns no arrays leaves the model as it is; `skipped` then says so.

        Raises
        ------
        FederationError
            If the strategy returns other arrays than the model has. What the strategy itself
            raises is passed on.
        """
        layout = self._started()
        if not updates:
            self.skipped = "there was no update to combine"
            return packed
        if self._packed is None or not np.array_equal(packed, self._packed):
            # Not the model that came of the last step: its unrounded values do not apply.
            self._packed, self._exact, self._settings = packed, {}, None
        mean = self._exact_mean(packed, updates)
        if mean is not None and self._is_mean and self._factor == 1.0:
            self._step += 1
            self.skipped, self._exact, self._packed = None, {}, mean
            return mean
        if self._settings is None:
            self._prime()
        old = self._present()
        messages = replies(layout, packed, self._handed(updates, mean), self.strategy)
        record = aggregated(self.strategy, self._step + 1, messages)
        self._step += 1
        self._settings = None
        if record is None:
            self.skipped = f"{self._name} made no model of {len(updates)} updates"
            return packed
        self.skipped = None
        new = returned_arrays(layout, record, self._name)
        if self._factor != 1.0 and self._rate is None:
            new = {name: old[name] + self._factor * (new[name] - old[name]) for name in old}
        self._exact = {
            entry.name: new[entry.name]
            for entry in layout.entries
            if new[entry.name].dtype.name != entry.dtype
        }
        self._packed = model_of(layout, new)
        return self._packed

    def scale(self, factor: float) -> None:
        """Multiply the server's learning rate, or the whole step where there is none.

        Raises
        ------
        ConfigError
            If the factor is not positive and finite.
        """
        if not (0 < factor < float("inf")):
            raise ConfigError(f"a step cannot be scaled by {factor}; use a positive number")
        self._factor *= factor
        if self._rate is not None:
            setattr(self.strategy, self._rate, self._configured_rate() * self._factor)

    def state(self) -> Tree:
        """Return what the strategy remembers, its round and its unrounded output.

        The model itself is shared, not copied: nobody writes to a packed model.
        """
        return {
            "step": self._step,
            "packed": self._packed,
            "exact": {name: array.copy() for name, array in self._exact.items()},
            "strategy": state_of(self.strategy, omit=self._omit),
        }

    def load(self, state: Tree) -> None:
        """Return to an earlier `state`."""
        match state:
            case {
                "step": int(step),
                "packed": (None | np.ndarray()) as packed,
                "exact": dict(exact),
                "strategy": dict(remembered),
            }:
                self._step, self._packed = step, packed
                self._exact = {
                    name: array.copy()
                    for name, array in exact.items()
                    if isinstance(array, np.ndarray)
                }
                load_into(self.strategy, remembered, omit=self._omit)
                self._settings = self.skipped = None
            case _:
                raise FederationError(f"the state given to {self._name} is not one of a strategy")

    def fork(self) -> FlowerOptimizer:
        """Return an optimiser around a copy of the strategy, in the same state."""
        other = copy.copy(self)
        other.strategy = twin(self.strategy)
        return other

    @property
    def _name(self) -> str:
        return type(self.strategy).__name__

    def _start(self, packed: Packed | None) -> None:
        self._step = 0
        self._factor = 1.0
        self._packed = packed
        self._exact = {}
        self._settings = self.skipped = None

    def _started(self) -> Layout:
        if self._layout is None:
            raise FederationError(f"{self._name} has no model yet; call init first")
        return self._layout

    def _configured_rate(self) -> float:
        rate = self._pristine[str(self._rate)]
        if not isinstance(rate, int | float):
            raise ConfigError(f"{self._name}.{self._rate} is {rate!r}, not a number")
        return float(rate)

    def _prime(self) -> dict[str, Value]:
        """Ask the strategy to configure training of the present model, and keep the settings."""
        present = array_record(self._present())
        self._settings = configured(self.strategy, self._step + 1, present)
        return self._settings

    def _present(self) -> Arrays:
        """Return the present model as the strategy knows it."""
        layout = self._started()
        if self._packed is None:
            raise FederationError(f"{self._name} has no model yet; call init first")
        return {**strategy_arrays(layout, self._packed), **self._exact}

    def _exact_mean(self, packed: Packed, updates: Sequence[Update]) -> Packed | None:
        """Return the mean of fresh updates as Flower computes it, for a strategy it is enough for.

        ``None`` if the strategy may look at more, or the updates are not as they were received.
        """
        if self.needs == "individuals" or not self._is_listed:
            return None
        return flower_mean(self._started(), updates) if _are_fresh(packed, updates) else None

    def _handed(self, updates: Sequence[Update], mean: Packed | None) -> Sequence[Update]:
        """Return the updates as they are handed over: themselves, or their mean as one."""
        if mean is not None:
            total = sum(update.num_examples for update in updates)
            return [_together(updates, updates[0].delta, total, received=mean)]
        packed = self._packed
        if self.needs == "individuals" or (packed is not None and _are_fresh(packed, updates)):
            return updates
        return [_together(updates, *weighted_mean(updates))]


def named_arrays(layout: Layout, packed: Packed) -> ArrayRecord:
    """Return a packed model as the record of named arrays that Flower's users know."""
    return array_record(layout.unpack(packed))


def _are_fresh(packed: Packed, updates: Sequence[Update]) -> bool:
    """Return whether updates are as they were received, and not too large to be kept so."""
    is_small = len(updates) * packed.nbytes <= MAX_INDIVIDUAL_BYTES
    return is_small and all(map(is_untouched, updates))


def _together(
    updates: Sequence[Update], delta: Vector, total: float, *, received: Packed | None = None
) -> Update:
    """Return one update in place of several; ``delta`` does not count if there is ``received``."""
    return Update(
        delta=delta,
        num_examples=total,
        senders=updates[0].senders[:1],
        version=max(update.version for update in updates),
        metrics=_mean_metrics(updates),
        received=received,
    )


def _mean_metrics(updates: Sequence[Update]) -> dict[str, float]:
    """Return the means, weighted by examples, of the metrics that all updates have."""
    total = sum(update.num_examples for update in updates)
    return {
        key: sum(update.metrics[key] * (update.num_examples / total) for update in updates)
        for key in common_metrics(updates)
    }
