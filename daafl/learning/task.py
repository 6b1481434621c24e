"""What a user writes: a model, its data, and how to judge it."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import copy
from math import inf
from typing import Any, ClassVar, Self, TypeVar, final

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional

from daafl.data.partition import Iid, Indices, Partitioner
from daafl.errors import DataError
from daafl.learning.drift import Drift
from daafl.learning.examples import Examples

T = TypeVar("T")

_UNDRIFTED_S = -inf  # a time at which no data has drifted

MAX_CACHED_NODES = 256
"""Nodes whose examples stay in memory; more are divided out again when they are needed."""


class Task(ABC):
    """A model with data, the whole of what a user writes.

    Give `model`, and either `training` (one data set, divided by `partitioner`) or `partition`
    (each node's own data). Everything else has a default. Read data through `node_data`,
    `training_data` and `evaluation_data`, which check and remember what the user's methods return.

    Attributes
    ----------
    name
        Name in reports and on the command line; the class name unless given.
    partitioner
        How the training set is divided among nodes.
    drift
        How the data changes in the course of a run; ``None`` for not at all. See `drifting`.

    Examples
    --------
    >>> class Quadrants(Task):
    ...     def model(self):
    ...         return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))
    ...
    ...     def training(self):
    ...         points = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    ...         return Examples(points, (points > 0) @ np.array([1, 2]))
    >>> task = Quadrants()
    >>> len(task.node_data(0, num_nodes=10))
    20
    """

    name: ClassVar[str] = "task"
    partitioner: Partitioner = Iid()
    drift: ClassVar[Drift | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the task after its class unless it says otherwise."""
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @abstractmethod
    def model(self) -> nn.Module:
        """Return a new model with its starting weights, drawn from torch's global generator.

        The caller seeds the generator and restores it afterwards.
        """

    def training(self) -> Examples:
        """Return the whole training set."""
        raise DataError(f"task {self.name!r} has no data; write training() or partition()")

    def partition(self, node: int, num_nodes: int) -> Examples:
        """Return the training examples of node ``node`` of ``0 ... num_nodes - 1``."""
        indices = self._split(num_nodes)[node]
        examples = self.training_data().take(indices)
        return self.partitioner.transform(examples, node, num_nodes)

    def evaluation(self) -> Examples | None:
        """Return the examples on which the server judges the model.

        `None` stands for federated evaluation: the nodes judge it on their own data.
        """
        return None

    def validation(self, node: int, num_nodes: int) -> Examples | None:
        """Return examples on which a node judges models before they are adopted.

        They should be drawn as the node's training examples are, and never be trained on. `None`
        stands for the training examples: a node judges only models whose last step it had no part
        in, but it may have trained on them in steps before.
        """
        return None

    def labels(self, examples: Examples) -> npt.NDArray[Any]:
        """Return what partitioners split by: the groups if there are any, else the targets."""
        return np.asarray(examples.targets if examples.groups is None else examples.groups)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; here: cross entropy.

        Outputs are logits ``[examples, classes]`` or ``[examples, positions, classes]``.
        """
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return the means of other figures over a batch; here: ``{"accuracy": fraction}``."""
        return {"accuracy": float((outputs.argmax(-1) == targets).float().mean())}

    @final
    def drifting(self, drift: Drift) -> Self:
        """Return this task with data that changes in the course of a run."""
        changed = copy(self)
        memory = self.__dict__.get("_memory", {})
        shared = {kind: memory[kind] for kind in ("training", "split") if kind in memory}
        # Past the dataclass, which may be frozen.
        changed.__dict__.update(drift=drift, _memory=shared)
        return changed

    @final
    def node_data(self, node: int, num_nodes: int, time_s: float = 0.0) -> Examples:
        """Return what `partition` gives for a node, checked and remembered.

        Parameters
        ----------
        node
            Index of the node.
        num_nodes
            Nodes that the data is divided among.
        time_s
            Seconds since the run began: when, if the data drifts.

        Raises
        ------
        DataError
            If there is no such node, or `partition` does not return at least one example.
        """
        if not 0 <= node < num_nodes:
            raise DataError(
                f"task {self.name!r} was asked for node {node} of {num_nodes}; "
                f"nodes are numbered 0 to {num_nodes - 1}"
            )
        drift, stage = self._drift_at(time_s)

        def examples() -> Examples:
            if drift is None:
                given = self.partition(node, num_nodes)
            else:
                given = self._drifted(drift, stage, node, num_nodes)
            return self._checked(given, f"partition({node}, {num_nodes})")

        return self._remembered("partition", (node, num_nodes, stage), examples, MAX_CACHED_NODES)

    @final
    def validation_data(self, node: int, num_nodes: int, time_s: float = 0.0) -> Examples:
        """Return what `validation` gives for a node, or else `node_data`, checked and remembered.

        Data of its own follows a drift in what examples mean, not one in which classes a node has.

        Raises
        ------
        DataError
            If there is no such node, or `validation` returns neither `None` nor at least one
            example.
        """
        own = self.node_data(node, num_nodes, time_s)
        drift, stage = self._drift_at(time_s)

        def examples() -> Examples | None:
            given = self.validation(node, num_nodes)
            source = f"validation({node}, {num_nodes})"
            if given is None:
                return None
            checked = self._checked(given, source)
            return checked if drift is None else drift.examples(stage, node, checked)

        key = (node, num_nodes, stage)
        given = self._remembered("validation", key, examples, MAX_CACHED_NODES)
        return own if given is None else given

    @final
    def training_data(self) -> Examples:
        """Return what `training` gives, checked and remembered.

        Raises
        ------
        DataError
            If `training` does not return at least one example.
        """
        return self._remembered(
            "training", (), lambda: self._checked(self.training(), "training()"), 1
        )

    @final
    def evaluation_data(self, time_s: float = 0.0) -> Examples | None:
        """Return what `evaluation` gives, as it is at a time, checked and remembered.

        Raises
        ------
        DataError
            If `evaluation` returns neither `None` nor at least one example.
        """
        drift, stage = self._drift_at(time_s)

        def examples() -> Examples | None:
            if drift is not None:
                given = self.evaluation_data(_UNDRIFTED_S)
                return None if given is None else drift.examples(stage, None, given)
            given = self.evaluation()
            return None if given is None else self._checked(given, "evaluation()")

        return self._remembered("evaluation", (stage,), examples, 2)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is remembered behind when the task is copied or sent to a process."""
        return {key: value for key, value in self.__dict__.items() if key != "_memory"}

    @final
    def stage(self, time_s: float) -> int:
        """Return the stage of the drift at a time; 0 where no data has changed."""
        return self._drift_at(time_s)[1]

    def _drift_at(self, time_s: float) -> tuple[Drift | None, int]:
        """Return what has changed the data by a time, and how far; ``None`` before it begins."""
        if self.drift is None or time_s == _UNDRIFTED_S:
            return None, 0
        stage = self.drift.stage(time_s)
        return (self.drift, stage) if stage else (None, 0)

    def _drifted(self, drift: Drift, stage: int, node: int, num_nodes: int) -> Examples:
        """Return a node's examples in a stage of a drift."""
        if type(self).partition is Task.partition:
            pool, own = self.training_data(), self._split(num_nodes)[node]
            moved = drift.indices(stage, node, own, self.labels(pool))
            given = self.partitioner.transform(pool.take(moved), node, num_nodes)
        else:
            pool = self.node_data(node, num_nodes, _UNDRIFTED_S)
            moved = drift.indices(stage, node, np.arange(len(pool)), self.labels(pool))
            given = pool.take(moved)
        return drift.examples(stage, node, given)

    def _split(self, num_nodes: int) -> tuple[Indices, ...]:
        def parts() -> tuple[Indices, ...]:
            labels = self.labels(self.training_data())
            split = self.partitioner.split(labels, num_nodes)
            if len(split) != num_nodes:
                raise DataError(
                    f"{type(self.partitioner).__name__} made {len(split)} parts for {num_nodes} "
                    "nodes; it must make one for each"
                )
            return split

        return self._remembered("split", (num_nodes,), parts, 4)

    def _checked(self, examples: object, source: str) -> Examples:
        if not isinstance(examples, Examples):
            raise DataError(
                f"{source} of task {self.name!r} returned {type(examples).__name__}; it must "
                "return daafl.learning.Examples(inputs, targets)"
            )
        if len(examples) == 0:
            raise DataError(
                f"{source} of task {self.name!r} returned no examples; at least one is needed"
            )
        return examples

    def _remembered(self, kind: str, key: tuple[int, ...], make: Callable[[], T], limit: int) -> T:
        # Subclasses, frozen dataclasses among them, need not call __init__ of this class.
        memory: dict[str, OrderedDict[tuple[int, ...], Any]] = self.__dict__.setdefault(
            "_memory", {}
        )
        results = memory.setdefault(kind, OrderedDict())
        if key in results:
            results.move_to_end(key)
        else:
            results[key] = make()
            if len(results) > limit:
                results.popitem(last=False)
        result: T = results[key]
        return result


def pooled(task: Task, num_nodes: int) -> Examples:
    """Return the training examples of all nodes together, as numpy arrays.

    They are what the nodes hold, so a partitioner that shifts inputs or targets shows in them.

    Raises
    ------
    DataError
        If the nodes' examples have different shapes.
    """
    parts = [task.node_data(node, num_nodes) for node in range(num_nodes)]
    try:
        inputs = np.concatenate([np.asarray(part.inputs) for part in parts])
        targets = np.concatenate([np.asarray(part.targets) for part in parts])
    except ValueError as error:
        raise DataError(
            f"the examples of the {num_nodes} nodes of task {task.name!r} do not fit together: "
            f"{error}"
        ) from error
    return Examples(inputs, targets)
