"""State as plain data: what a checkpoint can hold."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Tree: TypeAlias = (
    "bool | int | float | str | bytes | npt.NDArray[Any] | list[Tree] | tuple[Tree, ...]"
    " | dict[str, Tree] | None"
)
"""State as plain data: JSON, bytes and arrays, nothing that would need pickle."""

T = TypeVar("T", bound=Tree)


def copied(tree: T) -> T:
    """Return a deep copy of plain data.

    Raises
    ------
    TypeError
        If it holds anything that is not plain data; it names the type.

    Examples
    --------
    >>> copied({"rate": 0.1, "moments": [None, (1, 2)]})
    {'rate': 0.1, 'moments': [None, (1, 2)]}
    """
    return _copied(tree)  # type: ignore[return-value]  # a copy has the type of the original


def _copied(tree: Tree) -> Tree:
    match tree:
        case None | bool() | int() | float() | str() | bytes():
            return tree
        case np.ndarray():
            return tree.copy()
        case list():
            return [_copied(item) for item in tree]
        case tuple():
            return tuple(_copied(item) for item in tree)
        case dict():
            return {key: _copied(value) for key, value in tree.items()}
    raise TypeError(f"a state holds a {type(tree).__name__}, which is not plain data")
