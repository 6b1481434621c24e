"""Models and updates in the records that Flower's strategies read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from daafl.errors import FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.messages import ARRAYS, METRICS, NUM_EXAMPLES, TRAIN_LOSS

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def array_record(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Return a record that holds copies of the arrays."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def strategy_arrays(layout: Layout, packed: Packed) -> Arrays:
    """Return a model's arrays as strategies compute on them: integers and booleans as float64."""
    return {
        name: array if array.dtype.kind == "f" else array.astype(np.float64)
        for name, array in layout.unpack(packed).items()
    }


def model_of(layout: Layout, arrays: Arrays) -> Packed:
    """Return the packed model of arrays as strategies return them, in the model's own types."""
    ordered = [arrays[entry.name].reshape(-1) for entry in layout.entries]
    return layout.packed(np.concatenate(ordered))


def returned_arrays(layout: Layout, record: ArrayRecord, strategy: str) -> Arrays:
    """Return the arrays in what a strategy returned, in the order of the layout.

    Raises
    ------
    FederationError
        If names or shapes are not those of the model.
    """
    arrays = {name: array.numpy() for name, array in record.items()}
    for entry in layout.entries:
        if entry.name not in arrays:
            raise FederationError(f"{strategy} returned a model without {entry.name!r}")
        if arrays[entry.name].shape != entry.shape:
            raise FederationError(
                f"{strategy} returned {entry.name!r} with shape {arrays[entry.name].shape}; "
                f"the model has {entry.shape}"
            )
    if len(arrays) != len(layout.entries):
        extra = sorted(set(arrays) - {entry.name for entry in layout.entries})
        raise FederationError(f"{strategy} returned {extra[0]!r}, which the model does not have")
    return {entry.name: arrays[entry.name] for entry in layout.entries}


def replies(
    layout: Layout, packed: Packed, updates: Sequence[Update], strategy: Strategy
) -> list[Message]:
    """Return a reply for each update, under the keys that ``strategy`` reads.

    A fresh, untouched update carries the weights as they were received; another one carries
    ``packed`` plus its damped delta, in the number types of the model. Of the metrics, only those
    that every update has are passed on, because Flower's strategies refuse replies that differ.
    """
    vector = layout.vector(packed)
    keys = common_metrics(updates)
    loss_key = getattr(strategy, "train_loss_key", TRAIN_LOSS)
    weight_key = getattr(strategy, "weighted_by_key", NUM_EXAMPLES)
    arrays_key = getattr(strategy, "arrayrecord_key", ARRAYS)
    messages = []
    for update in updates:
        if is_untouched(update) and update.received is not None:
            weights = update.received
        else:
            weights = layout.packed(vector + vector.dtype.type(update.damping) * update.delta)
        metrics = {loss_key if key == TRAIN_LOSS else key: update.metrics[key] for key in keys}
        metrics[weight_key] = _number(update.num_examples)
        content = RecordDict(
            {
                arrays_key: array_record(strategy_arrays(layout, weights)),
                METRICS: MetricRecord(dict(metrics)),
            }
        )
        asked = Message(RecordDict(), dst_node_id=update.senders[0], message_type=MessageType.TRAIN)
        messages.append(Message(content, reply_to=asked))
    return messages


def common_metrics(updates: Sequence[Update]) -> list[str]:
    """Return the metrics that all updates have, apart from the number of examples, sorted."""
    keys = set.intersection(*(set(update.metrics) for update in updates))
    return sorted(keys - {NUM_EXAMPLES})


def is_untouched(update: Update) -> bool:
    """Return whether an update still is what was sent for the present model."""
    return update.received is not None and update.damping == 1.0


def _number(weight: float) -> int | float:
    """Return a count of examples as the whole number that it is, as nodes report it."""
    return int(weight) if float(weight).is_integer() else weight
