"""One intra-op thread for local training.

Nodes are trained side by side, one process per core. Threads inside an operation would compete
for the same cores, and change the order of its sums with their number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_to_one_thread() -> None:
    """Let this process compute with one thread per operation, from now on.

    Libraries that load later read the environment; of those already loaded, torch is told.
    """
    for variable in _VARIABLES:
        os.environ[variable] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread per operation of torch, if it is loaded, for a while."""
    torch = sys.modules.get("torch")
    before = 1 if torch is None else torch.get_num_threads()
    if torch is None or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
