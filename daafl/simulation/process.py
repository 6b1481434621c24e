"""A worker: a forked process that answers one message at a time."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final, NoReturn

from daafl.errors import WorkerError
from daafl.flower import ErrorCode
from daafl.simulation.jobs import Job
from daafl.simulation.node import Failure, Nodes, Outcome
from daafl.simulation.threads import limit_to_one_thread
from daafl.simulation.wire import Parcel, Shelf, packed, receive, send, unpacked

_PR_SET_PDEATHSIG: Final = 1  # from <linux/prctl.h>


@dataclass(frozen=True)
class _Order:
    """A packed job as it travels to a worker; large byte strings go by their key."""

    frame: bytes
    keys: tuple[int, ...]
    added: dict[int, bytes]
    dropped: tuple[int, ...]


class Worker:
    """The grid's end of a forked process.

    Forking, rather than starting a fresh interpreter, lets any ClientApp run: closures, classes
    from a notebook, data sets already in memory. On Linux the process dies with the thread that
    forked it, at the latest.

    Parameters
    ----------
    nodes
        The nodes it answers for.
    siblings
        Workers that live; the new process closes what it inherits of them.

    Raises
    ------
    WorkerError
        If the system refuses another process.
    """

    def __init__(self, nodes: Nodes, siblings: Iterable[Worker] = ()) -> None:
        self.connection, theirs = Pipe()
        self.sent_at_s = 0.0
        self._shelf = Shelf()
        self._owner = os.getpid()
        self._status: int | None = None
        inherited = [self.connection, *(sibling.connection for sibling in siblings)]
        _flush()  # text that waits in a buffer would be printed by both processes
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of forks in threaded processes. The child uses no lock that
                # another thread can hold at that moment: it computes, and its pipe is its own.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.pid = os.fork()
        except OSError as error:
            self.connection.close()
            theirs.close()
            raise WorkerError(
                f"no worker process could be started ({error}); use fewer workers"
            ) from error
        if self.pid == 0:
            _live(theirs, nodes, inherited, parent=self._owner)
        theirs.close()

    def start(self, job: Job) -> None:
        """Give the idle worker a job.

        Raises
        ------
        OSError
            If the process is gone; the job has not been started then.
        """
        parcel = packed(job)
        added, dropped = self._shelf.admit(parcel.blobs)
        self.sent_at_s = time.monotonic()
        order = _Order(parcel.frame, tuple(map(id, parcel.blobs)), added, dropped)
        try:
            send(self.connection, order)
        except BaseException:
            self.kill()  # half a job in the pipe: nothing else can be sent after it
            raise

    def outcomes(self) -> list[tuple[int, Outcome]] | Failure:
        """Return what became of the job's messages, or how the process ended.

        To be called once the connection is readable or the worker dead.

        Raises
        ------
        WorkerError
            If what the worker sent are no outcomes.
        """
        if not self.is_alive:
            self._end_group()  # what it started may hold the pipe open, and reading would not end
        try:
            outcomes = receive(self.connection)
        except (EOFError, OSError):
            self.kill()
            return Failure(ErrorCode.CLIENT_APP_CRASHED, f"the worker process {self._end()}")
        except BaseException:
            self.kill()
            raise
        if not isinstance(outcomes, list):
            raise WorkerError(f"a worker process sent a {type(outcomes).__name__}")
        return outcomes

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        if self._status is not None:
            return False
        # Left unreaped: its process group keeps its name, so that `kill` finds what it started.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is None
        except ChildProcessError:
            return False

    def kill(self) -> None:
        """End the process and what it has started, now; harmless if it has ended."""
        if os.getpid() != self._owner:
            return  # a fork of the owner: the process is not its child
        with suppress(OSError):
            self.connection.close()
        if self._status is not None:
            return
        self._end_group()
        try:
            _, self._status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            self._status = 0  # reaped by the program's own handler: how it ended is not known

    def _end_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may not have made its own group yet

    def _end(self) -> str:
        """Return in words how the process ended."""
        code = os.waitstatus_to_exitcode(self._status or 0)
        if code >= 0:
            return f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"


def _live(
    connection: Connection, nodes: Nodes, inherited: Iterable[Connection], *, parent: int
) -> NoReturn:
    """Be a worker process until the grid closes its end of the pipe."""
    status = 1
    try:
        for other in inherited:
            other.close()
        _settle_in(parent)
        _serve(connection, nodes)
        status = 0
    except OSError:
        pass  # the grid's process is gone, and so is everybody who could be told
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _settle_in(parent: int) -> None:
    """Detach from the terminal, and from all that was only right for the parent."""
    # A group of its own: Ctrl-C is for the parent, and a kill reaches what an app has started.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        # A worker that hangs would not notice the end of its pipe when the parent dies.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limit_to_one_thread()
    gc.freeze()  # inherited objects stay shared: the collector does not touch their pages


def _serve(connection: Connection, nodes: Nodes) -> None:
    shelf: dict[int, bytes] = {}
    while True:
        try:
            order = receive(connection)
        except EOFError:
            return
        if not isinstance(order, _Order):
            raise TypeError(f"the grid sent a {type(order).__name__}")
        for key in order.dropped:
            del shelf[key]
        shelf.update(order.added)
        job: Any = unpacked(Parcel(order.frame, tuple(shelf[key] for key in order.keys)))
        send(connection, nodes.run(job))
        _flush()


def _flush() -> None:
    """Write out what the program has printed; where to is not the worker's business."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()
