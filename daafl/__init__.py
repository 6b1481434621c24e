"""Federated learning on Flower, with a federation that observes, steers and repairs itself.

``daafl.run``, ``daafl.resume`` and ``daafl.Task`` load on first use, so that ``import daafl`` costs
nothing on a node that has neither torch nor the server's part installed.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daafl.config.resuming import resume as resume
    from daafl.federation import RunResult as RunResult
    from daafl.federation import run as run
    from daafl.learning.task import Task as Task

__all__ = ["RunResult", "Task", "__version__", "resume", "run"]

__version__ = "0.1.0"

_PACKAGE = _Path(__file__).resolve().parent
if not (_PACKAGE / "strategies").is_dir() and (_PACKAGE.parent / "strategies").is_dir():
    # A source checkout: `daafl.strategies` lies in `../strategies`, and so do its mapped siblings.
    __path__.append(str(_PACKAGE.parent))

_HOMES = {
    "RunResult": "daafl.federation",
    "Task": "daafl.learning.task",
    "resume": "daafl.config.resuming",
    "run": "daafl.federation",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it, loading that module now."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
