"""What nodes learn: tasks, examples, the trainer, and how a model travels.

Importing this package imports numpy at most; the names that need torch load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from daafl.learning.examples import Examples
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.learning.work import LocalWork

if TYPE_CHECKING:
    from daafl.learning.task import Task
    from daafl.learning.trainer import TorchTrainer

__all__ = ["Examples", "Layout", "LocalWork", "Task", "TorchTrainer", "Update"]

_MODULES = {"Task": "daafl.learning.task", "TorchTrainer": "daafl.learning.trainer"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
