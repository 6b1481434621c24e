"""Tables that ship with scikit-learn: breast cancer (569 x 30) and wine (178 x 13)."""

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from torch import nn

from daafl.data.partition import Dirichlet, Partitioner
from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.splitting import train_test
from daafl.learning.task import Task


@dataclass(frozen=True)
class Tabular(Task):
    """Classes from rows of numbers, with a perceptron of one hidden layer.

    Columns have mean 0 and deviation 1 over the training rows.

    Attributes
    ----------
    partitioner
        How the training rows are divided among nodes.
    hidden
        Width of the hidden layer.
    seed
        Seed of the split in training (80 %) and evaluation (20 %).
    """

    partitioner: Partitioner = field(default=Dirichlet(0.3))
    hidden: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the width."""
        if self.hidden < 1:
            raise ConfigError(f"task {self.name} has hidden={self.hidden}; it must be at least 1")

    @abstractmethod
    def rows(self) -> Examples:
        """Return all rows with their classes, as the table has them."""

    def model(self) -> nn.Module:
        """Return a new perceptron columns-hidden-classes."""
        rows = self.training_data()
        num_columns, num_classes = rows.inputs.shape[1], int(np.max(np.asarray(rows.targets))) + 1
        return nn.Sequential(
            nn.Linear(num_columns, self.hidden), nn.ReLU(), nn.Linear(self.hidden, num_classes)
        )

    def training(self) -> Examples:
        """Return four fifths of the rows."""
        return self._standardised()[0]

    def evaluation(self) -> Examples:
        """Return one fifth of the rows."""
        return self._standardised()[1]

    def _standardised(self) -> tuple[Examples, Examples]:
        parts = train_test(self.rows(), self.seed)
        columns = np.asarray(parts[0].inputs)
        mean, deviation = columns.mean(0), columns.std(0)
        training, evaluation = (
            Examples(
                ((np.asarray(part.inputs) - mean) / deviation).astype(np.float32), part.targets
            )
            for part in parts
        )
        return training, evaluation


class BreastCancer(Tabular):
    """Malignant or benign, from 30 measures of cell nuclei (569 patients)."""

    name = "breast-cancer"

    def rows(self) -> Examples:
        """Return all rows with their classes, as the table has them."""
        return Examples(*load_breast_cancer(return_X_y=True))


class Wine(Tabular):
    """One of three growers, from 13 chemical measures (178 wines)."""

    name = "wine"

    def rows(self) -> Examples:
        """Return all rows with their classes, as the table has them."""
        return Examples(*load_wine(return_X_y=True))
