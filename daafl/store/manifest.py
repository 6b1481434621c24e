"""The file that describes a checkpoint: state as packed JSON, large arrays by their hash.

::

    daafl checkpoint 1     the format and its version, one line
    32 bytes               SHA-256 of the rest
    the rest, packed       8 bytes: length of the document
                           the document: JSON
                           the tail: arrays and byte strings too small for a file of their own

Arrays and byte strings of at least `INLINE_BYTES` are not in it: it names the SHA-256 of their
bytes, under which they are found. The same bytes are stored once, however often they occur and
whether they are an array, a piece of one, or a message. There is no pickle in it, so reading one
runs nobody's code. Numbers come back as they were, to the last bit: JSON holds the shortest text
that gives the same float, and what it has no form for is an object with one such key:

====== ===========================================================================
``~a`` an array: number type, shape, where its bytes are (C order)
``~s`` a NumPy scalar: the same
``~b`` a byte string: where it is
``~t`` a tuple: its items
``~f`` a number that is not finite: ``nan``, ``inf`` or ``-inf``
``~d`` a dict that has a key that begins with ``~``: itself
====== ===========================================================================

Where bytes are is either the number of a hash or, in the tail, ``[first, length]``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from daafl.errors import StoreError
from daafl.store.packing import packed, unpacked
from daafl.store.tree import Tree

INLINE_BYTES: Final = 1024
"""Below this size a file of its own costs more than repeating the bytes in the next manifest."""

MAX_MANIFEST_BYTES: Final = 256 * 1024 * 1024

_MAGIC: Final = b"daafl checkpoint 1\n"
_MAGIC_OF_ANY: Final = re.compile(rb"daafl checkpoint (\d{1,9})\n")
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 8
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DTYPE: Final = re.compile(r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)|[<>]U\d{1,9}")

_ARRAY: Final = "~a"
_SCALAR: Final = "~s"
_BYTES: Final = "~b"
_TUPLE: Final = "~t"
_NOT_FINITE: Final = "~f"
_DICT: Final = "~d"

Buffer: TypeAlias = bytes | memoryview


@dataclass(frozen=True)
class Encoded:
    """A checkpoint in memory: its manifest, and by SHA-256 what lies beside it."""

    manifest: bytes
    blobs: Mapping[str, Buffer]


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read.

    Parameters
    ----------
    step
        The step that the checkpoint follows.
    blobs
        SHA-256 of what lies beside the manifest, and its size in bytes.
    """

    step: int
    blobs: Mapping[str, int]
    _document: object
    _tail: bytes

    def state(self, blob: Callable[[str, int], bytes]) -> Tree:
        """Return the state; every array in it is new and may be written to.

        Parameters
        ----------
        blob
            Returns the bytes of a SHA-256 and size; called once for each.

        Raises
        ------
        StoreError
            If the document is not one that `encoded` makes.
        """
        contents = [blob(digest, size) for digest, size in self.blobs.items()]
        try:
            return _decoded(self._document, contents, self._tail)
        except RecursionError as error:
            raise StoreError("its state is nested too deeply") from error


def encoded(step: int, state: Tree) -> Encoded:
    """Return the manifest of a state, and what it refers to.

    Arrays must not change until what is returned has been used.

    Raises
    ------
    TypeError
        If the state holds anything that is not plain data; names the type.
    StoreError
        If it is too large, or a whole number in it is.
    """
    binary = _Binary()
    document = {"step": step, "state": _encoded(state, binary)}
    try:
        text = json.dumps(
            {"blobs": [[name, len(blob)] for name, blob in binary.blobs.items()], **document},
            allow_nan=False,
            separators=(",", ":"),
        ).encode()
    except ValueError as error:
        raise StoreError(f"the state after step {step} is not JSON ({error})") from error
    body = len(text).to_bytes(_LENGTH_BYTES, "big") + text + binary.tail
    if len(body) > MAX_MANIFEST_BYTES:
        raise StoreError(
            f"the state after step {step} has {len(body)} bytes beside its arrays; "
            f"at most {MAX_MANIFEST_BYTES} can be kept"
        )
    rest = packed(body)
    return Encoded(_MAGIC + hashlib.sha256(rest).digest() + rest, binary.blobs)


def parsed(data: bytes) -> Manifest:
    """Return the manifest in a file's bytes.

    Raises
    ------
    StoreError
        If they are not exactly what `encoded` made; the sentence has no subject.
    """
    magic = _MAGIC_OF_ANY.match(data)
    if magic is not None and magic[0] != _MAGIC:
        raise StoreError(f"it has format {int(magic[1])}, and this release reads format 1")
    start = len(_MAGIC) + _DIGEST_BYTES
    head, rest = data[:start], data[start:]
    if head != _MAGIC + hashlib.sha256(rest).digest():
        raise StoreError("its manifest does not have the checksum it names")
    try:
        document, tail = _opened(unpacked(rest, MAX_MANIFEST_BYTES))
        match document:
            case {"blobs": list(pairs), "step": int(step), "state": state, **more} if not more:
                return Manifest(step, dict(map(_reference, pairs)), state, tail)
    except (ValueError, RecursionError, StoreError) as error:
        raise StoreError(f"its manifest cannot be parsed ({error})") from error
    raise StoreError("its manifest lacks a part")


def digest_of(data: Buffer) -> str:
    """Return the SHA-256 of some bytes, as it stands in a manifest."""
    return hashlib.sha256(data).hexdigest()


class _Binary:
    """Collects the bytes of arrays and byte strings, equal ones once."""

    def __init__(self) -> None:
        self.tail = bytearray()
        self.blobs: dict[str, Buffer] = {}
        self._numbers: dict[str, int] = {}
        self._slices: dict[bytes, list[int]] = {}
        self._known: dict[int, tuple[bytes | npt.NDArray[Any], int | list[int]]] = {}

    def place(self, leaf: bytes | npt.NDArray[Any]) -> int | list[int]:
        """Return where the bytes of a part of the state are, now that they are collected."""
        if id(leaf) not in self._known:
            # The part is kept as well, so that its identity stands for nothing else meanwhile.
            self._known[id(leaf)] = (leaf, self._placed(leaf))
        return self._known[id(leaf)][1]

    def _placed(self, leaf: bytes | npt.NDArray[Any]) -> int | list[int]:
        data = leaf if isinstance(leaf, bytes) else _raw(leaf)
        if len(data) < INLINE_BYTES:
            small = bytes(data)
            if small not in self._slices:
                self._slices[small] = [len(self.tail), len(small)]
                self.tail += small
            return self._slices[small]
        digest = digest_of(data)
        if digest not in self._numbers:
            self._numbers[digest] = len(self.blobs)
            self.blobs[digest] = data
        return self._numbers[digest]


def _raw(array: npt.NDArray[Any]) -> Buffer:
    """Return an array's bytes in C order, without a copy where it has that order."""
    if array.nbytes == 0:
        return b""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _encoded(tree: object, binary: _Binary) -> object:
    kind = type(tree)
    if tree is None or kind in (bool, int, str):
        return tree
    if kind is float:
        return tree if math.isfinite(tree) else {_NOT_FINITE: repr(tree)}  # type: ignore[arg-type]
    match tree:
        case dict():
            if not all(type(key) is str for key in tree):
                raise TypeError("a state holds a dict with a key that is not a string")
            items = {key: _encoded(value, binary) for key, value in tree.items()}
            return {_DICT: items} if any(key.startswith("~") for key in tree) else items
        case list():
            return [_encoded(item, binary) for item in tree]
        case tuple():
            return {_TUPLE: [_encoded(item, binary) for item in tree]}
        case bytes():
            return {_BYTES: binary.place(tree)}
        case np.ndarray():
            return {_ARRAY: _described(tree, binary)}
        case np.generic():
            return {_SCALAR: _described(np.asarray(tree), binary)}
    raise TypeError(f"a state holds a {kind.__name__}, which is not plain data")


def _described(array: npt.NDArray[Any], binary: _Binary) -> list[object]:
    if _DTYPE.fullmatch(array.dtype.str) is None:
        raise TypeError(f"a state holds an array of {array.dtype}, which is not plain data")
    return [array.dtype.str, list(array.shape), binary.place(array)]


def _opened(body: bytes) -> tuple[object, bytes]:
    """Return the document and the tail."""
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    if end > len(body):
        raise ValueError("its document is longer than the file")
    return json.loads(body[_LENGTH_BYTES:end]), body[end:]


def _reference(pair: object) -> tuple[str, int]:
    match pair:
        case [str(digest), int(size)] if _DIGEST.fullmatch(digest) and size >= 0:
            return digest, size
    raise ValueError(f"{str(pair)[:80]!r} is no hash with a size")


def _decoded(node: object, blobs: list[bytes], tail: bytes) -> Tree:
    match node:
        case None | bool() | int() | float() | str():
            return node
        case list():
            return [_decoded(item, blobs, tail) for item in node]
        case dict():
            if any(key.startswith("~") for key in node):
                return _marked(node, blobs, tail)
            return {key: _decoded(value, blobs, tail) for key, value in node.items()}
    raise StoreError(f"its state has a part of type {type(node).__name__}")


def _marked(node: dict[str, object], blobs: list[bytes], tail: bytes) -> Tree:
    """Return what JSON has no form for."""
    match list(node.items()):
        case [("~a", [str(dtype), list(shape), place])]:
            return _array(dtype, shape, _bytes_at(place, blobs, tail))
        case [("~s", [str(dtype), [], place])]:
            scalar: Tree = _array(dtype, [], _bytes_at(place, blobs, tail))[()]
            return scalar
        case [("~b", place)]:
            return _bytes_at(place, blobs, tail)
        case [("~t", list(items))]:
            return tuple(_decoded(item, blobs, tail) for item in items)
        case [("~f", "nan" | "inf" | "-inf" as text)]:
            return float(text)
        case [("~d", dict(items))]:
            return {key: _decoded(value, blobs, tail) for key, value in items.items()}
    raise StoreError(f"its state has a part {str(node)[:80]!r} that means nothing")


def _bytes_at(place: object, blobs: list[bytes], tail: bytes) -> bytes:
    match place:
        case bool():
            pass
        case int() if 0 <= place < len(blobs):
            return blobs[place]
        case [int(first), int(length)] if 0 <= first <= first + length <= len(tail):
            return tail[first : first + length]
    raise StoreError(f"its state refers to bytes {str(place)[:80]!r} that are not there")


def _array(dtype: str, shape: list[object], data: bytes) -> npt.NDArray[Any]:
    """Return a new array; its claimed shape must be that of the bytes before any is made."""
    lengths = tuple(length for length in shape if type(length) is int and length >= 0)
    if _DTYPE.fullmatch(dtype) is None or len(lengths) != len(shape):
        raise StoreError(f"its state has an array of type {dtype[:80]!r} and shape {shape[:32]}")
    kind = np.dtype(dtype)
    if math.prod(lengths) * kind.itemsize != len(data):
        raise StoreError(
            f"its state has an array of {len(data)} bytes; {dtype} {shape[:32]} has others"
        )
    try:
        if not data:
            return np.empty(lengths, kind)
        return np.frombuffer(data, kind).reshape(lengths).copy()
    except ValueError as error:
        raise StoreError(f"its state has an array that cannot be made ({error})") from error
