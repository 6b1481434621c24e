"""The model in a message: packed, as daafl's coordinator sends it, or named, as Flower's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, RecordDict

from daafl.decoding import decoded
from daafl.errors import MessageError
from daafl.learning.layout import DTYPES, Layout, Packed
from daafl.learning.trainer import TorchTrainer
from daafl.messages import ACCEPTED, ARRAYS, PACKED

_KNOWN_TYPES: Final = frozenset(DTYPES)

Named = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ReceivedModel:
    """A model from a message.

    Parameters
    ----------
    packed
        Its values, as the node's trainer takes them.
    names
        Names of the arrays as they came, in their order; ``None`` if they came packed.
    """

    packed: Packed
    names: tuple[str, ...] | None


def received_model(content: RecordDict, trainer: TorchTrainer) -> ReceivedModel:
    """Return the model in a message for a trainer of the same model.

    Named arrays may have another number type than the node's: Flower's strategies average
    counters into float64. They are converted, integers rounded half to even.

    Raises
    ------
    MessageError
        If there is no model, or not the trainer's: ``schema``, ``dtype``, ``shape`` or ``size``.
    """
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise MessageError("schema", f"the message has no record {ARRAYS!r} of arrays")
    if list(record) == [PACKED]:
        shape = (trainer.layout.num_bytes,)
        return ReceivedModel(decoded(record[PACKED], np.dtype(np.uint8), shape), names=None)
    expected = trainer.unpack(np.zeros(trainer.layout.num_bytes, np.uint8))
    _check_names(record, expected)
    arrays = {name: _decoded_as_is(record[name], expected[name].shape) for name in record}
    return ReceivedModel(_packed(arrays, expected, trainer), names=tuple(record))


def received_pair(content: RecordDict, trainer: TorchTrainer) -> tuple[Packed, Packed]:
    """Return the candidate and the accepted model of a vote, both packed.

    Raises
    ------
    MessageError
        If there are not exactly these two, of the trainer's size.
    """
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord) or set(record) != {PACKED, ACCEPTED}:
        raise MessageError(
            "schema", f"a vote needs a record {ARRAYS!r} of two arrays, {PACKED} and {ACCEPTED}"
        )
    dtype, shape = np.dtype(np.uint8), (trainer.layout.num_bytes,)
    return decoded(record[PACKED], dtype, shape), decoded(record[ACCEPTED], dtype, shape)


def model_record(packed: Packed, received: ReceivedModel, trainer: TorchTrainer) -> ArrayRecord:
    """Return the record of a trained model, in the form the model was `received` in."""
    if received.names is None:
        return ArrayRecord({PACKED: Array(packed)})
    arrays = trainer.unpack(packed)
    return ArrayRecord({name: Array(arrays[name]) for name in received.names})


def _check_names(record: ArrayRecord, expected: Named) -> None:
    missing = [name for name in expected if name not in record]
    unknown = [name for name in record if name not in expected]
    if missing or unknown:
        which = f"lacks {missing[0]!r}" if missing else f"has the unknown {unknown[0][:100]!r}"
        raise MessageError(
            "schema",
            f"the model in the message {which} ({len(missing)} missing, {len(unknown)} unknown of "
            f"{len(expected)}); both sides must use the same model",
        )


def _decoded_as_is(array: Array, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array of any number type that a model may have."""
    if array.dtype not in _KNOWN_TYPES:
        raise MessageError("dtype", f"an array of type {str(array.dtype)[:40]!r}, expected numbers")
    return decoded(array, np.dtype(array.dtype), shape)


def _packed(arrays: Named, expected: Named, trainer: TorchTrainer) -> Packed:
    converted = {}
    for name, array in arrays.items():
        converted[name] = array
        if array.dtype != expected[name].dtype:
            own = Layout.of({name: expected[name]})
            # Through the widest type there is, so that a counter loses nothing below 2**53.
            values = own.packed(array.reshape(-1).astype(np.float64))
            converted[name] = own.unpack(values)[name]
    return trainer.pack(converted)
