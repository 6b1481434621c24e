"""Memory that is used again: what one round leaves, the next one writes over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class Workspace:
    """Arrays by name, for what does not outlive a computation.

    New memory costs more than filling it: the system hands it out page by page, and for a few
    megabytes that takes as long as a small training.

    Examples
    --------
    >>> workspace = Workspace()
    >>> first = workspace.array("inputs", (2, 3), np.float32)
    >>> np.shares_memory(first, workspace.array("inputs", (1, 2), np.int64))
    True
    """

    def __init__(self) -> None:
        self._bytes: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array with any values in it, which shares memory with the last of its name."""
        dtype = np.dtype(dtype)
        num_bytes = math.prod(shape) * dtype.itemsize
        held = self._bytes.get(name)
        if held is None or len(held) < num_bytes:
            held = self._bytes[name] = np.empty(num_bytes, np.uint8)
        return held[:num_bytes].view(dtype).reshape(shape)
