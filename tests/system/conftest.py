"""A SuperLink of the tests' own: on loopback, on a free port, with its own folders.

`flwr run` would otherwise start a detached one per machine that outlives the tests and keeps the
environment and the folder of its first caller.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONNECTION = "tests"
START_S = 60.0
RUN_S = 300.0
STOP_S = 30.0


@dataclass(frozen=True)
class FlowerRun:
    """How a run ended: ``status`` as in `flwr ls`, such as ``finished:completed``, and its log."""

    status: str
    log: str


class SuperLink:
    """A SuperLink in simulation mode, with what is needed to submit runs to it."""

    def __init__(self, folder: Path, ray_folder: Path) -> None:
        self._neutral = folder / "neutral"
        self._neutral.mkdir()
        self._home = folder / "home"
        self._home.mkdir()
        self._log = folder / "superlink.log"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self._address = f"127.0.0.1:{port}"
        (self._home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "{self._address}"\ninsecure = true\n'
        )
        self._environment = _environment(self._home, ray_folder)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    "flower-superlink",
                    "--insecure",
                    "--simulation",
                    "--disable-runtime-dependency-installation",
                    *("--host", "127.0.0.1", "--port", str(port)),
                ],
                cwd=self._neutral,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        end_s = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end_s:
            try:
                urllib.request.urlopen(f"http://{self._address}/health", timeout=1.0).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"the SuperLink does not answer:\n{self._log.read_text()}")

    def run(self, arguments: list[str]) -> FlowerRun:
        """Submit a run with `flwr run` and return when it is over; ``arguments`` follow the app."""
        app, *options = arguments
        before = {run["run-id"] for run in self._listed()}
        done = self._flwr("run", app, CONNECTION, *options)
        new = [run for run in self._listed() if run["run-id"] not in before]
        assert len(new) == 1, f"{len(new)} runs were started:\n{done.stdout}"
        # The exit code of `flwr run --stream` is 0 whatever becomes of the run.
        return FlowerRun(new[0]["status"], done.stdout)

    def stop(self) -> None:
        """End the SuperLink and whatever it has left behind."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_s = time.monotonic() + STOP_S
        while (left := _processes_with("FLWR_HOME", self._home)) and time.monotonic() < end_s:
            time.sleep(0.2)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _listed(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(
            self._flwr("ls", CONNECTION, "--format", "json").stdout
        )["runs"]
        return listed

    def _flwr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["flwr", *arguments],
            cwd=self._neutral,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if arguments[0] == "run" else None,
            text=True,
            timeout=RUN_S,
            check=False,
        )


def _environment(home: Path, ray_folder: Path) -> Mapping[str, str]:
    """Return an environment in which Flower finds its programs and nothing leaves the machine."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray then listens on loopback only, here too.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(ray_folder),
    }


def _processes_with(variable: str, value: Path) -> list[int]:
    """Return the processes, however detached, that were started with a variable of this value."""
    wanted, found = f"{variable}={value}".encode(), []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
        except OSError:  # it has ended meanwhile, or belongs to somebody else
            continue
    return found


@pytest.fixture(scope="session")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    """Return a SuperLink that lives as long as the tests."""
    # Paths of Unix sockets are short: Ray's own would not fit below pytest's folders.
    ray_folder = Path(tempfile.mkdtemp(prefix="daafl-"))
    link = SuperLink(tmp_path_factory.mktemp("superlink"), ray_folder)
    try:
        link.wait_until_ready()
        yield link
    finally:
        link.stop()
        shutil.rmtree(ray_folder, ignore_errors=True)


@dataclass(frozen=True)
class Quickstart:
    """The quickstart app's run, and the folder it wrote."""

    run: FlowerRun
    folder: Path


@pytest.fixture(scope="session")
def quickstart(superlink: SuperLink, tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """Return what became of the README's own `flwr run` command."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    app, *options = readme_arguments()
    run = superlink.run([str(ROOT / app), *options, "-c", f'output-dir="{folder}"'])
    return Quickstart(run, folder)


def readme_arguments() -> list[str]:
    """Return what follows `flwr run` in the README: the app and the options."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (command,) = [line for line in lines if line.startswith("flwr run ")]
    return shlex.split(command)[2:]
