"""What a Flower strategy remembers, as plain data.

Flower's strategies cannot be saved: what they remember lies in their attributes, beside settings,
functions and accountants. A snapshot takes the attributes that are plain data: numbers, texts,
arrays, ``ArrayRecord``, and lists, tuples, dicts and strategies of those.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

from daafl.strategies.optimizer import Tree

# Values that a tree has no form of its own for, as a dict with one such key.
_RECORD: Final = "~arrays"
_SCALAR: Final = "~scalar"
_PAIRS: Final = "~pairs"
_STRATEGY: Final = "~strategy"

S = TypeVar("S", bound=Strategy)


def state_of(strategy: Strategy, *, omit: Collection[str] = ()) -> dict[str, Tree]:
    """Return a copy of the attributes that are plain data, except those in ``omit``."""
    return {
        name: _encoded(value)
        for name, value in vars(strategy).items()
        if name not in omit and _is_plain(value)
    }


def load_into(strategy: Strategy, state: Mapping[str, Tree], *, omit: Collection[str] = ()) -> None:
    """Give ``strategy`` the attributes in ``state``, and remove plain ones that are not in it.

    Attributes named in ``omit`` and those that are no plain data stay as they are.
    """
    present = [name for name, value in vars(strategy).items() if _is_plain(value)]
    for name in present:
        if name not in state and name not in omit:
            delattr(strategy, name)
    for name, value in state.items():
        if name in omit:
            continue
        match value:
            case {"~strategy": dict(inner)}:
                load_into(getattr(strategy, name), inner)
            case _:
                setattr(strategy, name, _decoded(value))


def twin(strategy: S) -> S:
    """Return a strategy in the same state, independent in all that is plain data.

    Functions and objects of other kinds are shared.
    """
    other = copy.copy(strategy)
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            setattr(other, name, twin(value))
    load_into(other, state_of(strategy))
    return other


def unsaved(strategy: Strategy) -> tuple[str, ...]:
    """Return the names of attributes that a snapshot leaves out and that are no functions.

    What a strategy keeps there is neither saved nor undone by a rollback.
    """
    return tuple(
        name for name, value in vars(strategy).items() if not (_is_plain(value) or callable(value))
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, Strategy) or _is_data(value)


def _is_data(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcU"
    if value is None or isinstance(value, bool | int | float | str | ArrayRecord):
        return True
    # Exact types: a default dict or a named tuple would come back as something else.
    if type(value) in (list, tuple):
        return all(map(_is_data, value))
    if type(value) is dict:
        return all(
            isinstance(key, bool | int | float | str) and _is_data(item)
            for key, item in value.items()
        )
    return False


def _encoded(value: Any) -> Tree:
    match value:
        case Strategy():
            return {_STRATEGY: state_of(value)}
        case np.generic():
            return {_SCALAR: np.array(value)}
        case np.ndarray():
            return value.copy()
        case ArrayRecord():
            return {_RECORD: {name: array.numpy() for name, array in value.items()}}
        case list():
            return [_encoded(item) for item in value]
        case tuple():
            return tuple(_encoded(item) for item in value)
        case dict() if all(isinstance(key, str) and not key.startswith("~") for key in value):
            return {key: _encoded(item) for key, item in value.items()}
        case dict():
            return {_PAIRS: [[key, _encoded(item)] for key, item in value.items()]}
    plain: Tree = value
    return plain


def _decoded(tree: Any) -> Any:
    match tree:
        case np.ndarray():
            return tree.copy()
        case {"~scalar": scalar}:
            return scalar[()]
        case {"~arrays": arrays}:
            return ArrayRecord({name: Array(array) for name, array in arrays.items()})
        case {"~pairs": pairs}:
            return {key: _decoded(item) for key, item in pairs}
        case list():
            return [_decoded(item) for item in tree]
        case tuple():
            return tuple(_decoded(item) for item in tree)
        case dict():
            return {key: _decoded(item) for key, item in tree.items()}
    return tree
