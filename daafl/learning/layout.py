"""How a model's named arrays lie in the one packed array that travels.

A model is sent as a single one-dimensional ``uint8`` array, because Flower makes one request per
array. A `Layout` says which named array lies where in it, and turns the bytes into the flat vector
on which the server computes. Entries keep the order of ``state_dict``; each starts at a multiple of
its item size, with zero bytes between, and numbers are little-endian.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError

Packed: TypeAlias = npt.NDArray[np.uint8]
"""A whole model as bytes: one-dimensional and contiguous."""

Vector: TypeAlias = npt.NDArray[np.floating[Any]]
"""A whole model, or the difference of two, as one flat floating-point array."""

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
"""Names of the number types that a model may hold."""

MAX_ENTRIES = 100_000
MAX_NAME_LENGTH = 512
MAX_DIMENSIONS = 16
MAX_BYTES = 1 << 36

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What PyTorch calls the buffers that normalisation layers measure rather than train."""


@dataclass(frozen=True)
class Entry:
    """One named array of a model.

    Raises
    ------
    DataError
        If the name, the shape or the number type is not one that a model may have.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        """Refuse what no model has, since an entry may come from the network."""
        if not 0 < len(self.name) <= MAX_NAME_LENGTH:
            raise DataError(
                f"a model entry has a name of {len(self.name)} characters; "
                f"it must have 1 to {MAX_NAME_LENGTH}"
            )
        if self.dtype not in DTYPES:
            raise DataError(
                f"model entry {self.name!r} has number type {self.dtype}; "
                f"it must be one of {', '.join(DTYPES)} (convert it first, for example .float())"
            )
        if len(self.shape) > MAX_DIMENSIONS or any(length < 0 for length in self.shape):
            raise DataError(
                f"model entry {self.name!r} has shape {self.shape}; it must have at most "
                f"{MAX_DIMENSIONS} dimensions, none negative"
            )

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def is_trained(self) -> bool:
        """Whether gradients move it: a floating-point array that is no running statistic."""
        is_statistic = self.name.rpartition(".")[2] in STATISTICS
        return self.dtype.startswith("float") and not is_statistic

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Number type as it lies in the packed array."""
        return np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class Layout:
    """Where each named array of a model lies in its packed array.

    Raises
    ------
    DataError
        If there is no entry, a name occurs twice, or the model is larger than 64 GiB.

    Examples
    --------
    >>> arrays = {"weight": np.array([[1.0, 2.0]], np.float32), "steps": np.array(3)}
    >>> layout = Layout.of(arrays)
    >>> packed = layout.pack(arrays)
    >>> layout.vector(packed).tolist()
    [1.0, 2.0, 3.0]
    >>> layout.unpack(layout.packed(layout.vector(packed) * 0.9))["steps"].item()
    3
    """

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Refuse a layout that no model has, since it may come from the network."""
        if not 0 < len(self.entries) <= MAX_ENTRIES:
            raise DataError(
                f"a model has {len(self.entries)} arrays; it must have 1 to {MAX_ENTRIES}"
            )
        if len({entry.name for entry in self.entries}) < len(self.entries):
            raise DataError("a model has two arrays of the same name; names must be unique")
        if self.num_bytes > MAX_BYTES:
            raise DataError(f"a model has {self.num_bytes} bytes; at most {MAX_BYTES} are allowed")

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the layout of named arrays, in their order."""
        return cls(
            tuple(Entry(name, array.shape, array.dtype.name) for name, array in arrays.items())
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First byte of each entry."""
        return self._offsets_and_end[0]

    @property
    def num_bytes(self) -> int:
        """Length of the packed array."""
        return self._offsets_and_end[1]

    @cached_property
    def num_parameters(self) -> int:
        """Length of the vector: all values, running statistics and counters included."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the vector: float32, or float64 if some entry is."""
        is_double = any(entry.dtype == "float64" for entry in self.entries)
        return np.dtype(np.float64 if is_double else np.float32)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that differ for different layouts."""
        text = json.dumps(self.to_json(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pack(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Packed:
        """Return a copy of the arrays as one packed array.

        Raises
        ------
        DataError
            If names, shapes or number types are not those of this layout; it says which.
        """
        self._check_names(arrays)
        packed = np.zeros(self.num_bytes, np.uint8)
        for entry, view in zip(self.entries, self._views(packed), strict=True):
            array = arrays[entry.name]
            if array.shape != entry.shape:
                raise DataError(
                    f"model entry {entry.name!r} has shape {array.shape}; expected {entry.shape}"
                )
            if array.dtype.name != entry.dtype:
                raise DataError(
                    f"model entry {entry.name!r} has number type {array.dtype}; "
                    f"expected {entry.dtype}"
                )
            view[...] = array
        return packed

    def unpack(self, packed: Packed) -> dict[str, npt.NDArray[Any]]:
        """Return the named arrays as aligned views into the packed array.

        The views share memory with ``packed`` unless it starts at an odd address (such as a slice
        of a network buffer), in which case they share memory with an aligned copy.
        """
        views = self._views(self._checked(packed))
        return {entry.name: view for entry, view in zip(self.entries, views, strict=True)}

    def vector(self, packed: Packed) -> Vector:
        """Return all values as one flat array of number type `dtype`.

        It shares memory with ``packed`` when every entry has that type already.
        """
        packed = self._checked(packed)
        if self._is_uniform:
            return packed.view(self.entries[0].numpy_dtype)
        vector = np.empty(self.num_parameters, self.dtype)
        start = 0
        for entry, view in zip(self.entries, self._views(packed), strict=True):
            vector[start : start + entry.size] = view.reshape(-1)
            start += entry.size
        return vector

    def trained(self, vector: Vector) -> Vector:
        """Return the values of a vector that gradients move, without statistics and counters.

        A counter moves by the number of steps whatever the gradients say; in the direction of an
        update it would drown everything else. Shares memory with ``vector`` when all are trained.

        Examples
        --------
        >>> arrays = {"0.weight": np.ones(2, np.float32), "0.num_batches_tracked": np.array(7)}
        >>> layout = Layout.of(arrays)
        >>> layout.trained(layout.vector(layout.pack(arrays))).tolist()
        [1.0, 1.0]
        """
        if self._is_trained:
            return vector
        starts = np.cumsum([0, *(entry.size for entry in self.entries)])
        parts = [
            vector[start : start + entry.size]
            for entry, start in zip(self.entries, starts, strict=False)
            if entry.is_trained
        ]
        return np.concatenate(parts) if parts else vector[:0]

    def packed(self, vector: Vector) -> Packed:
        """Return the packed array of a vector, each entry in its own number type.

        Integers are rounded half to even and saturate (NaN becomes 0); booleans are true above 0.5.
        The result shares memory with ``vector`` when that has number type `dtype` and so does every
        entry.

        Raises
        ------
        DataError
            If the vector has not one value for each value of the model.
        """
        if vector.shape != (self.num_parameters,):
            raise DataError(
                f"a model vector has shape {vector.shape}; expected ({self.num_parameters},)"
            )
        # An overflowing float becomes infinite, which the checks on updates look for.
        with np.errstate(over="ignore"):
            if self._is_uniform:
                values = np.ascontiguousarray(vector, dtype=self.entries[0].numpy_dtype)
                return values.view(np.uint8)
            packed = np.zeros(self.num_bytes, np.uint8)
            start = 0
            for entry, view in zip(self.entries, self._views(packed), strict=True):
                part = vector[start : start + entry.size].reshape(entry.shape)
                view[...] = _cast(part, view.dtype)
                start += entry.size
        return packed

    def to_json(self) -> list[list[str | list[int]]]:
        """Return ``[[name, shape, dtype], ...]``."""
        return [[entry.name, list(entry.shape), entry.dtype] for entry in self.entries]

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the layout that `to_json` wrote; the value may come from an untrusted peer.

        Raises
        ------
        DataError
            If the value has another form or breaks a rule of `Entry` or `Layout`.
        """
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise DataError(f"a model layout must be a list of at most {MAX_ENTRIES} entries")
        return cls(tuple(_entry(item, position) for position, item in enumerate(value)))

    @cached_property
    def _offsets_and_end(self) -> tuple[tuple[int, ...], int]:
        offsets = []
        end = 0
        for entry in self.entries:
            itemsize = entry.numpy_dtype.itemsize
            start = -(-end // itemsize) * itemsize
            offsets.append(start)
            end = start + entry.size * itemsize
        return tuple(offsets), end

    @cached_property
    def _is_uniform(self) -> bool:
        return all(entry.dtype == self.dtype.name for entry in self.entries)

    @cached_property
    def _is_trained(self) -> bool:
        return all(entry.is_trained for entry in self.entries)

    def _views(self, packed: Packed) -> list[npt.NDArray[Any]]:
        views = []
        for entry, start in zip(self.entries, self.offsets, strict=True):
            end = start + entry.size * entry.numpy_dtype.itemsize
            views.append(packed[start:end].view(entry.numpy_dtype).reshape(entry.shape))
        return views

    def _checked(self, packed: Packed) -> Packed:
        if packed.dtype != np.uint8 or packed.shape != (self.num_bytes,):
            raise DataError(
                f"a packed model has number type {packed.dtype} and shape {packed.shape}; "
                f"expected uint8 and ({self.num_bytes},)"
            )
        is_usable = packed.flags.c_contiguous and packed.ctypes.data % 8 == 0
        return packed if is_usable else packed.copy()

    def _check_names(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        names = [entry.name for entry in self.entries]
        missing = [name for name in names if name not in arrays]
        extra = sorted(set(arrays) - set(names))
        if missing or extra:
            what = f"lacks {missing[0]!r}" if missing else f"has the unknown entry {extra[0]!r}"
            raise DataError(
                f"a model {what} ({len(missing)} missing, {len(extra)} unknown of {len(names)}); "
                "both sides must use the same model"
            )


def _entry(item: object, position: int) -> Entry:
    match item:
        case [str(name), list(shape), str(dtype)] if len(shape) <= MAX_DIMENSIONS and all(
            type(length) is int for length in shape
        ):
            return Entry(name, tuple(shape), dtype)
    raise DataError(f"entry {position} of a model layout must be [name, shape, dtype]")


def _cast(values: Vector, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    if dtype.kind == "b":
        return values > 0.5
    limits = np.iinfo(dtype)
    high = float(limits.max)
    if int(high) > limits.max:
        # 2**63 - 1 has no float64; the next one above it would wrap around to a negative number.
        high = float(np.nextafter(high, 0.0))
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=high, neginf=limits.min)
    return np.rint(np.clip(wide, limits.min, high)).astype(dtype)
