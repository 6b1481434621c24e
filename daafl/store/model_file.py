"""A model in one file that ``numpy.load`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from daafl.store.atomic import write_bytes


def write_model(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as an uncompressed ``.npz`` file.

    Unlike ``numpy.savez`` it takes any name, such as ``file``, and equal arrays always give equal
    bytes.

    Parameters
    ----------
    path
        The file; replaced as a whole if it exists.
    arrays
        Arrays of numbers, by name.
    """
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            # A `ZipInfo` without a date has the same one each time.
            with archive.open(ZipInfo(f"{name}.npy"), "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())
