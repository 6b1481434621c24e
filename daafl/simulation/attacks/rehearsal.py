"""What attackers compute for themselves: honest updates of their own and of their accomplices.

Attackers know each other's data. Since a training depends on the message and the data alone, each
of them can repeat what the others do without a word being exchanged; that is what "non-omniscient"
attacks in the literature may use. The answer to the same question is kept, so that one process
computes it once, however many attackers it plays.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np

from daafl.learning.assigned import assigned_key, assigned_work
from daafl.learning.examples import Examples
from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.messages import Assignment

MAX_REMEMBERED: Final = 8  # answers that are kept: the few versions that are out at a time

T = TypeVar("T")


class Rehearsal:
    """Trains as the nodes of a federation would, and remembers the latest results.

    Parameters
    ----------
    task
        What the federation trains.
    num_nodes
        Nodes that the data is divided among.
    """

    def __init__(self, task: Task, num_nodes: int) -> None:
        self._task = task
        self._num_nodes = num_nodes
        self._trainer = TorchTrainer(task)
        self._remembered: OrderedDict[str, object] = OrderedDict()

    @property
    def layout(self) -> Layout:
        """Layout of the model."""
        return self._trainer.layout

    def examples(self, node: int, time_s: float = 0.0) -> Examples:
        """Return the training examples of a node at a virtual time."""
        return self._task.node_data(node, self._num_nodes, time_s)

    def trained(
        self, node: int, base: Packed, assignment: Assignment, examples: Examples
    ) -> Vector:
        """Return the update of a node that trains on ``examples``, drawn as the node would."""
        trained = self._trainer.train(
            base, examples, assigned_work(assignment), assigned_key(assignment, node)
        )
        return self.layout.vector(trained.packed) - self.layout.vector(base)

    def honest(
        self, node: int, base: Packed, assignment: Assignment, time_s: float = 0.0
    ) -> Vector:
        """Return the update that a node sends if it follows the protocol."""
        return self.trained(node, base, assignment, self.examples(node, time_s))

    def once(
        self,
        what: str,
        base: Packed,
        assignment: Assignment,
        make: Callable[[], T],
        time_s: float = 0.0,
    ) -> T:
        """Return ``make()``, or what it returned for the same ``what``, model and assignment.

        The ticket is the only thing that may differ, since it tells the nodes apart, and the time
        as long as the data has not drifted.
        """
        # Hashed with the model: another run in this process may have come to the same version.
        digest = hashlib.sha256(base.data)
        stage = self._task.stage(time_s)
        digest.update(f"{what} {stage} {replace(assignment, ticket=0)!r}".encode())
        key = digest.hexdigest()
        if key not in self._remembered:
            self._remembered[key] = make()
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        result: T = self._remembered[key]  # type: ignore[assignment]  # what this key was made for
        return result


def stacked(updates: Sequence[Vector]) -> Vector:
    """Return updates as the rows of a read-only matrix, since several attackers share it."""
    matrix = np.stack(updates)
    matrix.flags.writeable = False
    return matrix
