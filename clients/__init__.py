"""The nodes' side of a federation: Flower client apps built from a task.

`client_app` loads on first use: it trains with torch, which a node that runs something smaller
need not have.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ != "daafl.clients":
    # Found through the repository root: a second copy of every class would break `isinstance`.
    raise ImportError("import daafl.clients, not clients")

if TYPE_CHECKING:
    from daafl.clients.app import client_app as client_app

__all__ = ["client_app"]


def __getattr__(name: str) -> object:
    """Return `client_app` from the module that defines it, loading that module now."""
    if name != "client_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("daafl.clients.app").client_app
