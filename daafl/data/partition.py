"""Who gets which examples: the usual ways to divide one data set among nodes.

Every example goes to exactly one node. A partitioner is a frozen value with a seed, so the same
settings always give the same division.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, DataError
from daafl.learning.examples import Examples

Indices: TypeAlias = npt.NDArray[np.int64]


class Partitioner(Protocol):
    """Divides examples among nodes, and may change what a node's examples look like.

    Inherit from it and write `split`:

    >>> class Blocks(Partitioner):
    ...     def split(self, labels, num_nodes):
    ...         return tuple(np.array_split(np.arange(len(labels)), num_nodes))
    >>> [part.tolist() for part in Blocks().split(np.zeros(5), 2)]
    [[0, 1, 2], [3, 4]]
    """

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples.

        Parameters
        ----------
        labels
            What to split by, one for each example: `Task.labels` of the training set.
        num_nodes
            Number of nodes, at least 1.

        Raises
        ------
        DataError
            If there are too few examples for that many nodes, or the labels do not fit.
        """
        ...

    def transform(self, examples: Examples, node: int, num_nodes: int) -> Examples:
        """Return a node's examples as that node sees them; here: unchanged."""
        return examples


@dataclass(frozen=True)
class Iid(Partitioner):
    """Equal shares of one shuffled data set."""

    seed: int = 0
    min_examples: int = 1

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        _check_enough(len(labels), num_nodes, self.min_examples)
        order = np.random.default_rng(self.seed).permutation(len(labels))
        return tuple(np.sort(part) for part in np.array_split(order, num_nodes))


@dataclass(frozen=True)
class Dirichlet(Partitioner):
    """Label skew: each class is divided in proportions drawn from a Dirichlet distribution.

    Source: Hsu, Qi, Brown 2019, section 3, with proportions drawn for each class as in Yurochkin et
    al. 2019. Nodes left with fewer than ``min_examples`` get more from whoever then has the most.

    Attributes
    ----------
    alpha
        Concentration: 0.1 gives nodes one to three classes, 100 is nearly IID.
    """

    alpha: float = 0.3
    min_examples: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the concentration."""
        _check_positive("Dirichlet", "alpha", self.alpha)

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        _check_enough(len(labels), num_nodes, self.min_examples)
        rng = np.random.default_rng(self.seed)
        parts: list[list[int]] = [[] for _ in range(num_nodes)]
        for label in np.unique(_class_labels(labels)):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(num_nodes, self.alpha))
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
            for part, chunk in zip(parts, np.split(members, cuts), strict=True):
                part.extend(chunk.tolist())
        _top_up(parts, self.min_examples, rng)
        return tuple(np.sort(np.array(part, np.int64)) for part in parts)


@dataclass(frozen=True)
class Shards(Partitioner):
    """Label skew: examples sorted by label are cut into shards and dealt out.

    Source: McMahan et al. 2017, section 3 (two shards for each node).
    """

    shards_per_node: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the number of shards."""
        _check_positive("Shards", "shards_per_node", self.shards_per_node)

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        _check_enough(len(labels), num_nodes, self.shards_per_node)
        rng = np.random.default_rng(self.seed)
        shuffled = rng.permutation(len(labels))
        order = shuffled[np.argsort(_class_labels(labels)[shuffled], kind="stable")]
        shards = np.array_split(order, num_nodes * self.shards_per_node)
        hands = rng.permutation(len(shards)).reshape(num_nodes, self.shards_per_node)
        return tuple(np.sort(np.concatenate([shards[i] for i in hand])) for hand in hands)


@dataclass(frozen=True)
class QuantitySkew(Partitioner):
    """Size skew: IID examples, but node sizes in proportions from a Dirichlet distribution.

    Source: Li, Diao, Chen, He 2022 (NIID-Bench), section IV-C. Every node first gets
    ``min_examples``; the proportions hold for the rest.

    Attributes
    ----------
    alpha
        Concentration: at 0.5 a few nodes hold most examples, 100 is nearly equal.
    """

    alpha: float = 0.5
    min_examples: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the concentration."""
        _check_positive("QuantitySkew", "alpha", self.alpha)

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        _check_enough(len(labels), num_nodes, self.min_examples)
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(labels))
        spare = len(labels) - num_nodes * self.min_examples
        shares = rng.dirichlet(np.full(num_nodes, self.alpha))
        extra = np.diff(np.round(np.cumsum(shares)[:-1] * spare), prepend=0.0, append=spare)
        cuts = np.cumsum(extra.astype(np.int64) + self.min_examples)[:-1]
        return tuple(np.sort(part) for part in np.split(order, cuts))


@dataclass(frozen=True)
class FeatureShift(Partitioner):
    """Input skew: each node's sensor has its own gain, offset and noise.

    A node sees ``gain * x + offset + noise``, where ``gain = exp(strength * g)`` and ``offset =
    strength * s * h`` with ``g``, ``h`` standard normal, drawn once for each node, and ``s`` the
    standard deviation of the node's inputs; the noise has standard deviation ``noise * s``. Targets
    and evaluation data stay as they are.
    """

    strength: float = 0.3
    noise: float = 0.0
    base: Partitioner = Iid()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the strengths."""
        for name in ("strength", "noise"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"FeatureShift has {name}={value}; it must be finite and >= 0")

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        return self.base.split(labels, num_nodes)

    def transform(self, examples: Examples, node: int, num_nodes: int) -> Examples:
        """Return the examples with shifted inputs, as numpy arrays of the same number type."""
        examples = self.base.transform(examples, node, num_nodes)
        inputs = np.asarray(examples.inputs)
        if inputs.dtype.kind != "f":
            raise DataError(
                f"FeatureShift needs floating-point inputs; these are {inputs.dtype}. "
                "Convert them in Task.training()"
            )
        rng = np.random.default_rng([self.seed, node])
        gain = math.exp(self.strength * rng.standard_normal())
        scale = float(inputs.std())
        shifted = gain * inputs + self.strength * scale * rng.standard_normal()
        if self.noise:
            shifted += self.noise * scale * rng.standard_normal(inputs.shape)
        return Examples(shifted.astype(inputs.dtype), examples.targets, examples.groups)


@dataclass(frozen=True)
class ConceptShift(Partitioner):
    """Concept skew: groups of nodes disagree on what the classes are called.

    Node ``i`` belongs to group ``i % num_groups``. Group 0 keeps the classes; each other group has
    its own permutation of them.
    """

    num_groups: int = 2
    num_classes: int = 10
    base: Partitioner = Iid()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_positive("ConceptShift", "num_groups", self.num_groups)
        _check_positive("ConceptShift", "num_classes", self.num_classes)

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples."""
        return self.base.split(labels, num_nodes)

    def group(self, node: int) -> int:
        """Return the group of a node."""
        return node % self.num_groups

    def permutation(self, group: int) -> Indices:
        """Return the class that each class becomes in a group."""
        if group == 0:
            return np.arange(self.num_classes)
        return np.random.default_rng([self.seed, group]).permutation(self.num_classes)

    def transform(self, examples: Examples, node: int, num_nodes: int) -> Examples:
        """Return the examples with the targets of the node's group."""
        examples = self.base.transform(examples, node, num_nodes)
        targets = np.asarray(examples.targets)
        if targets.dtype.kind not in "iu" or (
            targets.size and not 0 <= targets.min() <= targets.max() < self.num_classes
        ):
            raise DataError(
                f"ConceptShift(num_classes={self.num_classes}) needs integer targets from 0 to "
                f"{self.num_classes - 1}"
            )
        renamed = self.permutation(self.group(node))[targets]
        return Examples(examples.inputs, renamed.astype(targets.dtype), examples.groups)


def _check_positive(owner: str, name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise ConfigError(f"{owner} has {name}={value}; it must be a positive number")


def _check_enough(num_examples: int, num_nodes: int, min_examples: int) -> None:
    if num_nodes < 1:
        raise DataError(f"examples cannot be divided among {num_nodes} nodes; it must be >= 1")
    if num_examples < num_nodes * min_examples:
        raise DataError(
            f"{num_examples} examples cannot be divided among {num_nodes} nodes with at least "
            f"{min_examples} each; use at most {num_examples // max(min_examples, 1)} nodes"
        )


def _class_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DataError(
            "label-skewed partitioners need one integer for each example; these labels have "
            f"shape {labels.shape} and type {labels.dtype}. Set Examples.groups, override "
            "Task.labels, or use Iid or QuantitySkew"
        )
    return labels


def _top_up(parts: list[list[int]], min_examples: int, rng: np.random.Generator) -> None:
    """Move random examples from the largest parts to those below the minimum, in place."""
    sizes = np.array([len(part) for part in parts])
    for poor in np.flatnonzero(sizes < min_examples):
        while sizes[poor] < min_examples:
            rich = int(sizes.argmax())
            parts[poor].append(parts[rich].pop(int(rng.integers(sizes[rich]))))
            sizes[poor] += 1
            sizes[rich] -= 1
