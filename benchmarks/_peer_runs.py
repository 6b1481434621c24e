"""Runs of daafl and its peers: each in a process and an environment of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from _apart import ONE_THREAD
from peers import environments
from peers._work import WORKS, make

PEERS: Final = Path(__file__).resolve().parent / "peers"
SCRIPTS: Final = {
    "plain": "plain_loop.py",
    "pfl": "with_pfl.py",
    "fedjax": "with_fedjax.py",
    "flower": "with_flower.py",
}
WARM_UP: Final = 3  # rounds that are not counted
TIMEOUT_S: Final = 900
SILENT: Final = {"RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0"}


@dataclass(frozen=True)
class Run:
    """What a system made of a work in one repetition.

    Attributes
    ----------
    work, system, repetition
        What ran.
    ms
        Median time of a round, warm-up left out, in milliseconds.
    first_s
        Seconds from the start of the process to the end of the first round.
    loss, accuracy
        Of the final model on the test examples.
    round_ms
        All rounds.
    """

    work: str
    system: str
    repetition: int
    ms: float
    first_s: float
    loss: float
    accuracy: float
    round_ms: tuple[float, ...]

    def row(self) -> dict[str, Any]:
        """Return the run for the raw rows of a result."""
        per_round = [round(ms, 3) for ms in self.round_ms]
        return {**self.__dict__, "round_ms": per_round}


def command(system: str, into: Path) -> list[str]:
    """Return the command that starts a system."""
    if system in SCRIPTS:
        return [str(environments.python_of(system, into)), str(PEERS / SCRIPTS[system])]
    return [sys.executable, str(PEERS / "with_daafl.py"), "--variant", system]


def started(arguments: Sequence[str]) -> float:
    """Run a process to its end and return when it was started.

    Raises
    ------
    SystemExit
        If it fails.
    """
    environment = {**os.environ, **ONE_THREAD, **SILENT, "PYTHONPATH": str(PEERS)}
    start_s = time.time()
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return start_s


def judged(work: str, data: Path, results: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what the judge says on the starting weights and on each result."""
    arguments = [sys.executable, str(PEERS / "judge.py"), work, str(data), *map(str, results)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def repetition(
    number: int, work: str, systems: Sequence[str], rounds: int, folder: Path, into: Path
) -> tuple[float, list[Run]]:
    """Return the loss of the starting weights, and one run of every system on a work."""
    data = folder / f"{work}-{number}.npz"
    make(WORKS[work], data, seed=number)
    turn = number % len(systems)
    results, starts = {}, {}
    for position, system in enumerate([*systems[turn:], *systems[:turn]]):
        results[system] = folder / f"{work}-{number}-{position}.npz"
        job = f"--work {work} --rounds {rounds} --seed {number}".split()
        files = ["--data", str(data), "--out", str(results[system])]
        starts[system] = started([*command(system, into), *job, *files])
    initial, *found = judged(work, data, list(results.values()))
    runs = []
    for system, one in zip(results, found, strict=True):
        stamps = one["stamps"]
        round_ms = [1e3 * (b - a) for a, b in pairwise(stamps)]
        runs.append(
            Run(
                work,
                system,
                number,
                statistics.median(round_ms[WARM_UP:]),
                stamps[1] - starts[system],
                one["loss"],
                one["accuracy"],
                tuple(round_ms),
            )
        )
    return initial["loss"], runs
