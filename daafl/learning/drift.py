"""Data that changes in the course of a run."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from daafl.learning.examples import Examples

Indices = npt.NDArray[np.int64]


class Drift(Protocol):
    """What becomes of a task's data as time passes; pure, so that every process sees the same.

    Time is cut into stages, in each of which the data stays as it is; stage 0 is the data as the
    task gives it.

    Examples
    --------
    After a minute every node sees its inputs with the opposite sign:

    >>> class Mirrored(Drift):
    ...     def stage(self, time_s):
    ...         return int(time_s >= 60.0)
    ...     def examples(self, stage, node, examples):
    ...         return Examples(-examples.inputs, examples.targets)
    >>> from daafl.learning.tasks.digits import Digits
    >>> task = Digits().drifting(Mirrored())
    >>> before, after = (task.node_data(0, 30, time_s).inputs for time_s in (59.0, 60.0))
    >>> bool((after == -before).all())
    True
    """

    def stage(self, time_s: float) -> int:
        """Return the number of the stage at a time, in seconds since the run began."""
        ...

    def indices(self, stage: int, node: int, indices: Indices, labels: npt.NDArray[Any]) -> Indices:
        """Return which examples of a pool a node holds; here: ``indices``, those it had at first.

        Parameters
        ----------
        stage
            Number of the stage, 1 or more.
        node
            Index of the node.
        indices
            What it holds in stage 0.
        labels
            `Task.labels` of the pool.
        """
        return indices

    def examples(self, stage: int, node: int | None, examples: Examples) -> Examples:
        """Return what a node sees of its examples; here: unchanged.

        Parameters
        ----------
        stage
            Number of the stage, 1 or more.
        node
            Index of the node; ``None`` for the examples on which the server judges the model.
        examples
            What it would see in stage 0.
        """
        return examples
