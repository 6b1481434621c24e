"""Examples: inputs with their targets, as numpy arrays or torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError


class Array(Protocol):
    """What a numpy array and a torch tensor have in common here."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each axis; the first one counts examples."""
        ...

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, indices: npt.NDArray[np.int64], /) -> Any:
        """Return the chosen examples, along the first axis."""
        ...


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets of equal length.

    Attributes
    ----------
    inputs
        What the model is called with; the first axis counts examples.
    targets
        What the loss compares the outputs with; class numbers are integers.
    groups
        Optional integer for each example that partitioners split by in place of the target: an
        author, a device, a hospital.

    Raises
    ------
    DataError
        If the lengths differ.

    Examples
    --------
    >>> examples = Examples(np.eye(3), np.array([0, 1, 2]))
    >>> examples.take(np.array([2, 0])).targets.tolist()
    [2, 0]
    """

    inputs: Array
    targets: Array
    groups: Array | None = None

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"there are {len(self.inputs)} inputs and {len(self.targets)} targets; "
                "every input needs one target"
            )
        if self.groups is not None and len(self.groups) != len(self.targets):
            raise DataError(
                f"there are {len(self.groups)} groups and {len(self.targets)} targets; "
                "every example needs one group"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    def take(self, indices: npt.NDArray[np.int64]) -> Self:
        """Return a copy of the examples at ``indices``, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return type(self)(self.inputs[indices], self.targets[indices], groups)
