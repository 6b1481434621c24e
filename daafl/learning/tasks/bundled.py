"""Data files that scikit-learn ships, read without importing scikit-learn.

Its data sets module takes a second to import, in every process that needs a few rows of numbers.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError


def bundled_table(name: str) -> npt.NDArray[Any]:
    """Return the rows of a compressed CSV file in scikit-learn's data folder.

    Parameters
    ----------
    name
        Name of the file, such as ``digits.csv.gz``.

    Raises
    ------
    DataError
        If scikit-learn is not installed, or no longer ships the file.
    """
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"{name} comes with scikit-learn, which is not installed: pip install 'daafl[data]'"
        )
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name
    if not path.is_file():
        raise DataError(f"this scikit-learn does not ship {name}; install 1.5 to 1.9")
    with gzip.open(path, "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",")
