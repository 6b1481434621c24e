"""Nodes in a process that Ray has started, on this machine or another one."""

from __future__ import annotations

import pickle
import signal
from typing import Any

from ray import cloudpickle

from daafl import __version__
from daafl.errors import ConfigError, WorkerError
from daafl.flower import adopt_task_identity
from daafl.simulation.node import Nodes
from daafl.simulation.threads import limit_to_one_thread
from daafl.simulation.wire import Parcel, packed, unpacked


class NodeActor:
    """Runs jobs of the nodes that it was given with `load`, one at a time."""

    def __init__(self) -> None:
        limit_to_one_thread()  # libraries that load with the nodes read it from the environment
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends us
        self._nodes: Nodes | None = None

    def load(self, nodes: bytes, version: str) -> None:
        """Take on the nodes to run, which a daafl of this version has pickled."""
        if version != __version__:
            raise WorkerError(f"daafl is {__version__} there, but {version} here")
        loaded: Nodes = pickle.loads(nodes)
        limit_to_one_thread()
        adopt_task_identity(run_id=loaded.run_id)
        self._nodes = loaded

    def run(self, frame: bytes, *blobs: bytes) -> Parcel:
        """Return the packed outcomes of a packed job."""
        if self._nodes is None:
            raise WorkerError("an actor was given a job before it was given its nodes")
        job: Any = unpacked(Parcel(frame, blobs))
        return packed(self._nodes.run(job))

    def ping(self) -> None:
        """Show that the process lives."""


def pickled(nodes: Nodes) -> bytes:
    """Return nodes as `NodeActor.load` takes them.

    They are unpickled once per process, so what a module or the ClientApp remembers between
    messages is remembered, even if it is defined in ``__main__``, which travels by value.

    Raises
    ------
    ConfigError
        If the ClientApp, or what it holds, cannot be pickled.
    """
    pickler: Any = cloudpickle  # it has no types
    try:
        # One piece: numpy arrays that Ray keeps aside would be read-only at the other end.
        frame: bytes = pickler.dumps(nodes)
    except Exception as error:  # foreign objects may raise anything
        raise ConfigError(
            f"the ClientApp cannot be sent to Ray's processes: {type(error).__name__}: "
            f"{str(error)[:300]}; make such an object inside the function that uses it, or use "
            "grid=in_process, which sends nothing"
        ) from error
    return frame
