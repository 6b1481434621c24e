"""A connection to Ray: to a cluster that runs, or to one of this machine, made for the occasion."""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import ray
import ray._private.ray_constants
import ray._private.worker

from daafl.errors import ConfigError

AUTO: Final = "auto"

_CONNECT_S: Final = 5.0
_END_S: Final = 10.0

_MAX_FOLDER: Final = 30
"""Characters of a folder below which Ray's sockets have names the system still takes."""


_open: Final[list[RaySession]] = []
"""The sessions of this process, the oldest first: they share one connection."""


class RaySession:
    """Ray as long as it is needed; what runs already is used and left running.

    One that is started here listens on loopback only, reports to nobody, keeps its files in a
    private folder, and ends with the session. Ray allows one connection per process: if there is
    one and no other address is asked for, it is used.

    Parameters
    ----------
    address
        ``host:port`` or ``ray://host:port`` of a cluster, ``auto`` for the one that this machine
        belongs to, ``None`` for this machine alone.
    num_cpus
        Processors that a Ray of this machine alone may use.

    Raises
    ------
    ConfigError
        If there is no Ray at the address, none can be started, or the process has joined another.
    """

    def __init__(self, address: str | None, *, num_cpus: int) -> None:
        self._owner = os.getpid()
        self._folder: Path | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        if address not in (None, AUTO):
            _check_reachable(str(address))
        self._is_ours = not ray.is_initialized()
        self._address = address
        if not self._is_ours:
            _check_same(address)
        _open.append(self)
        if not self._is_ours:
            return
        try:
            if address is None:
                self._start(num_cpus)
            else:
                _join(address)
        except BaseException:
            self.close()
            raise

    @property
    def num_cpus(self) -> int:
        """Processors of all machines together, at least 1."""
        cluster: Any = ray  # that function of it has no types
        num_cpus: float = cluster.cluster_resources().get("CPU", 1.0)
        return max(1, math.floor(num_cpus))

    def close(self) -> None:
        """Disconnect, and end the Ray that was started here; harmless when repeated."""
        if self not in _open or os.getpid() != self._owner:
            return
        _open.remove(self)
        if not self._is_ours:
            return
        if _open:  # another session uses what this one has begun, and ends it in its place
            heir = _open[0]
            heir._is_ours, heir._folder, heir._processes = True, self._folder, self._processes
            return
        ray.shutdown()
        for process in self._processes:
            _reap(process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, num_cpus: int) -> None:
        short = tempfile.gettempdir()
        parent = short if len(short) <= _MAX_FOLDER else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="daafl-", dir=parent))
        try:
            with _on_loopback(), _quiet():
                ray.init(
                    address="local",  # whatever RAY_ADDRESS says
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    namespace=_namespace(),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(self._folder),
                )
        except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
            raise ConfigError(
                f"no Ray could be started on this machine: {sentence(error)}; use "
                "grid=in_process, which needs none"
            ) from error
        finally:
            self._processes = _started()


def _join(address: str) -> None:
    """Connect to a cluster that runs."""
    try:
        with _quiet():
            ray.init(
                address=address,
                namespace=_namespace(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"address={address}: there is no Ray that could be joined ({sentence(error)}); start "
            "one with `ray start --head`, or leave the address out for one on this machine"
        ) from error


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes."""
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdecimal():
        raise ConfigError(
            f"address={address} is no address of a Ray cluster; it must be host:port, "
            "ray://host:port or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"address={address}: nobody answers there ({sentence(error)}); start a cluster with "
            "`ray start --head`, which prints its address"
        ) from error


def _check_same(address: str | None) -> None:
    """Refuse an address other than that of the Ray this process is connected to."""
    known = {session._address for session in _open} | {ray.get_runtime_context().gcs_address}
    if address not in (None, AUTO, *known):
        raise ConfigError(
            f"address={address}: this process is connected to another Ray, and it can be to one "
            "only; disconnect with ray.shutdown(), or leave the address out to use that one"
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Keep a Ray of this machine off the network, where anyone could run code through it."""
    constants: Any = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Undo what Ray does to a program besides connecting it."""
    is_main = threading.current_thread() is threading.main_thread()
    on_termination = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        with warnings.catch_warnings():
            # Ray leaves the logs of the processes that it starts to the garbage collector, some in
            # cycles: they are collected here, where nobody is warned of them.
            warnings.simplefilter("ignore", ResourceWarning)
            # A tip about GPUs of tasks without one.
            warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)
            yield
            gc.collect()
    finally:
        if on_termination is not None:
            signal.signal(signal.SIGTERM, on_termination)


def _started() -> list[subprocess.Popen[bytes]]:
    """Return the processes that a Ray of this machine consists of, workers aside."""
    node: Any = ray._private.worker._global_node
    infos = [] if node is None else [info for of in node.all_processes.values() for info in of]
    return [info.process for info in infos]


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process that Ray has told to end."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
        return
    process.kill()
    process.wait()


def _namespace() -> str:
    return f"daafl-{uuid.uuid4().hex}"


def sentence(error: BaseException) -> str:
    """Return an error's kind and the first line of its text, of bounded length."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}"[:300]
