"""Examples from any Hugging Face `datasets.Dataset`, divided by any flwr-datasets partitioner."""

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from flwr_datasets.partitioner import Partitioner as DatasetPartitioner

from daafl.data.partition import Indices, Partitioner
from daafl.errors import DataError
from daafl.learning.examples import Examples

_INDEX = "__daafl_index__"
_LABEL = "label"


def examples_from(
    dataset: Dataset,
    *,
    inputs: str | Sequence[str],
    targets: str,
    groups: str | None = None,
    transform: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
) -> Examples:
    """Return columns of a data set as examples.

    Parameters
    ----------
    dataset
        Any data set in memory or on disk; its columns are read whole.
    inputs
        One column of numbers, lists of equal length or images (as ``uint8``, unscaled), or several
        columns of numbers, which are joined to one float32 row for each example.
    targets
        Column of numbers or class labels.
    groups
        Optional column of numbers or strings that partitioners split by, such as an author.
    transform
        What becomes of all inputs at once, for example ``lambda pixels: pixels[:, None] / 255``.

    Raises
    ------
    DataError
        If a column is missing or does not hold numbers of equal shape.

    Examples
    --------
    >>> flowers = Dataset.from_dict({"petal": [1.0, 2.0], "sepal": [3.0, 4.0], "kind": [0, 1]})
    >>> examples_from(flowers, inputs=("petal", "sepal"), targets="kind").inputs.tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    if isinstance(inputs, str):
        values = _numbers(dataset, inputs)
    else:
        columns = [_numbers(dataset, name).astype(np.float32) for name in inputs]
        values = np.stack(columns, axis=1)
    if transform is not None:
        values = transform(values)
    codes = None if groups is None else np.unique(_column(dataset, groups), return_inverse=True)[1]
    return Examples(values, _numbers(dataset, targets), codes)


@dataclass(frozen=True, eq=False)
class FlowerPartitioner(Partitioner):
    """Division by a partitioner of flwr-datasets.

    Some of those leave examples out. Partitioners that divide columns among nodes are refused.

    Attributes
    ----------
    partitioner
        A partitioner without a data set, or a function that makes one for a number of nodes.
    dataset
        The data set that the training examples come from, in the same order. `None` gives the
        partitioner a single column, ``label``, with what `Task.labels` returns.

    Examples
    --------
    >>> from flwr_datasets.partitioner import IidPartitioner
    >>> parts = FlowerPartitioner(lambda nodes: IidPartitioner(nodes)).split(np.zeros(5, int), 2)
    >>> sorted(np.concatenate(parts).tolist())
    [0, 1, 2, 3, 4]
    """

    partitioner: DatasetPartitioner | Callable[[int], DatasetPartitioner]
    dataset: Dataset | None = None

    def split(self, labels: npt.NDArray[Any], num_nodes: int) -> tuple[Indices, ...]:
        """Return the indices of each node's examples.

        Raises
        ------
        DataError
            If the partitioner cannot divide the data set among that many nodes.
        """
        columns = Dataset.from_dict({_LABEL: labels}) if self.dataset is None else self.dataset
        if len(columns) != len(labels):
            raise DataError(
                f"the data set to divide by has {len(columns)} rows and the task has {len(labels)} "
                "training examples; they must be the same examples"
            )
        # A partitioner takes a data set once only, and remembers how it divided it.
        if isinstance(self.partitioner, DatasetPartitioner):
            partitioner = copy.deepcopy(self.partitioner)
        else:
            partitioner = self.partitioner(num_nodes)
        kind = type(partitioner).__name__
        indexed = columns.add_column(_INDEX, np.arange(len(columns)))
        try:
            partitioner.dataset = indexed.with_format(None)
            if partitioner.num_partitions != num_nodes:
                raise DataError(
                    f"{kind} makes {partitioner.num_partitions} partitions; the federation has "
                    f"{num_nodes} nodes, and the numbers must be equal"
                )
            partitions = [partitioner.load_partition(node) for node in range(num_nodes)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{kind} cannot divide {len(columns)} examples among {num_nodes} nodes: {error}"
            ) from error
        return _disjoint(kind, partitions)


def _disjoint(kind: str, partitions: Sequence[Dataset]) -> tuple[Indices, ...]:
    if any(_INDEX not in partition.column_names for partition in partitions):
        raise DataError(f"{kind} divides columns among nodes; only rows can be divided here")
    parts = tuple(np.sort(np.array(part[_INDEX][:], np.int64)) for part in partitions)
    everything = np.concatenate(parts)
    if len(np.unique(everything)) < len(everything):
        raise DataError(f"{kind} gives some examples to several nodes; each must go to one")
    return parts


def _column(dataset: Dataset, name: str) -> npt.NDArray[Any]:
    if name not in dataset.column_names:
        near = difflib.get_close_matches(name, dataset.column_names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(dataset.column_names)}"
        raise DataError(f"the data set has no column {name!r}; {hint}")
    return np.asarray(dataset.with_format("numpy")[name][:])


def _numbers(dataset: Dataset, name: str) -> npt.NDArray[Any]:
    values = _column(dataset, name)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"column {name!r} of the data set does not hold numbers of equal shape; map it to "
            "numbers, or pad its rows to one length, with Dataset.map"
        )
    return values
