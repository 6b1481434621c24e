"""What checkpoints cost, and whether a run that is killed ends as if nothing had happened.

Size: everything under ``checkpoints/`` while a run goes on, two checkpoints that share what is
equal, over the bytes of the model, and over those of a version: the model with what the server
optimiser holds beside it, which is six more models for FedAdam. The largest after any step counts.
A complete run has no checkpoints. Time: from the state to the
disk, ``fsync`` included. Both for a small and a large model, three ways of keeping time and three
server optimisers, with all default loops on.

Kills: ``daafl run`` is killed with ``kill -9`` at random instants from outside, and resumed, and
killed again; in the end its model, journal and rounds are compared with those of a run in one go,
byte for byte but for the clock on the wall.

A full run takes about 20 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from _report import Benchmark, Figure
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, Strategy

import daafl
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits
from daafl.learning.tasks.synthetic import Synthetic
from daafl.learning.trainer import TorchTrainer
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import Devices
from daafl.store.checkpoint import Checkpoints
from daafl.store.tree import Tree
from daafl.strategies import Pacing
from daafl.strategies.playing import Attempt

NUM_NODES: Final = 30
SIZE_BAR: Final = 5.0  # times the model, in the setting that most runs use
NUM_KILLS: Final = 20

PACINGS: Final = {
    "synchronous": Pacing(),
    "deadline": Pacing(
        concurrency=13, quorum=10, deadline_s=1.5, max_staleness=3, reply_timeout_s=6.0
    ),
    "buffered": Pacing(concurrency=10, quorum=3, max_staleness=20, refill="reply"),
}
OPTIMIZERS: Final = ("FedAvg", "FedAvgM", "FedAdam")
COMMANDS: Final = {
    "synchronous": ["strategy=fedavg", "attack=scaled_sign_flip"],
    "deadline": ["pacing=deadline", "strategy=fedavgm", "fleet=log_normal"],
    "buffered": ["pacing=buffered", "strategy=fedadam", "fleet=log_normal"],
}


@dataclass
class Costs:
    """What the checkpoints of a run took, one number for each."""

    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    version_bytes: list[int] = field(default_factory=list)
    """Bytes of one version: the model, and what the server optimiser holds beside it."""


class Silent:
    """An observer that shows nothing."""

    def started(self, info: RunInfo) -> None:
        """Do nothing."""

    def stepped(self, record: StepRecord) -> None:
        """Do nothing."""

    def finished(self, summary: RunSummary) -> None:
        """Do nothing."""


def strategy(name: str) -> Strategy:
    """Return a fresh Flower strategy."""
    if name == "FedAdam":
        return FedAdam(eta=0.03)
    return FedAvgM(server_momentum=0.9) if name == "FedAvgM" else FedAvg()


def task(name: str) -> daafl.Task:
    """Return the digits, or points that a model of a million parameters learns."""
    if name == "digits":
        return Digits(partitioner=Dirichlet(0.3))
    return Synthetic(hidden=19_608)  # 51 parameters for each hidden unit


@contextmanager
def measured(folder: Path) -> Iterator[Costs]:
    """Measure every checkpoint that a run in ``folder`` writes within the block."""
    costs = Costs()
    save = Attempt._save

    def timed(self: Attempt) -> None:
        started_s = time.perf_counter()
        save(self)
        costs.seconds.append(time.perf_counter() - started_s)
        costs.sizes.append(folder_bytes(folder / "checkpoints"))
        branch = self.parts.branch
        point = branch.points[branch.version]
        costs.version_bytes.append(distinct_bytes([point.packed, point.optimizer]))
        if self.parts.coordinator.step % 5 == 0:
            started_s = time.perf_counter()
            Checkpoints(folder / "checkpoints").latest()
            costs.read_s.append(time.perf_counter() - started_s)

    Attempt._save = timed  # type: ignore[method-assign]  # measured from outside
    try:
        yield costs
    finally:
        Attempt._save = save  # type: ignore[method-assign]


def distinct_bytes(tree: Tree) -> int:
    """Return the bytes of the arrays in a state, equal ones once."""
    found: dict[bytes, int] = {}

    def look(node: Tree) -> None:
        match node:
            case np.ndarray():
                found[node.tobytes()] = node.nbytes
            case dict():
                for value in node.values():
                    look(value)
            case list() | tuple():
                for value in node:
                    look(value)

    look(tree)
    return sum(found.values())


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def checkpoint_costs(
    model: str, pacing: str, optimizer: str, *, num_rounds: int
) -> dict[str, str | float]:
    """Run a federation and return what its checkpoints cost."""
    trained = task(model)
    trainer = TorchTrainer(trained)
    model_bytes = trainer.initial(0).nbytes
    slow = pacing != "synchronous"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        with measured(folder) as costs:
            started_s = time.perf_counter()
            daafl.run(
                trained,
                num_nodes=NUM_NODES,
                num_rounds=num_rounds,
                strategy=strategy(optimizer),
                pacing=PACINGS[pacing],
                fleet=Devices.log_normal(NUM_NODES, sigma=1.0, seed=0) if slow else None,
                workers=0,
                output_dir=folder,
                progress=Silent(),
            )
            seconds = time.perf_counter() - started_s
    return {
        "model": model,
        "model_bytes": model_bytes,
        "pacing": pacing,
        "optimizer": optimizer,
        "times_model_max": max(costs.sizes) / model_bytes,
        "times_model_median": statistics.median(costs.sizes) / model_bytes,
        "times_version_max": max(
            size / one for size, one in zip(costs.sizes, costs.version_bytes, strict=True)
        ),
        "write_ms_median": 1e3 * statistics.median(costs.seconds),
        "write_ms_max": 1e3 * max(costs.seconds),
        "read_ms": 1e3 * statistics.median(costs.read_s),
        "percent_of_run": 100 * sum(costs.seconds) / seconds,
    }


def contents(run: Path) -> dict[str, Any]:
    """Return what a run leaves, without what a clock on the wall decides."""
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for line in rounds:
        del line["wall"]
    return {
        "journal": (run / "journal.jsonl").read_bytes(),
        "model": (run / "checkpoints" / "model.npz").read_bytes(),
        "rounds": rounds,
    }


def command(*words: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start ``daafl`` in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "daafl", *words, "--quiet"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_trials(setting: str, num_kills: int, *, num_rounds: int, seed: int) -> dict[str, Any]:
    """Kill and resume a run so often; return whether it ends as one in one go does."""
    rng = random.Random(f"{setting}-{seed}")
    options = [
        "task=digits", f"num_rounds={num_rounds}", f"seed={seed}", *COMMANDS[setting],
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, cut = folder / "whole", folder / "cut"
        if command("run", *options, "output_dir=whole", folder=folder).wait():
            raise SystemExit(f"the uninterrupted {setting} run failed")
        words = ["run", *options, "output_dir=cut"]
        reached = []
        for kill in range(num_kills):
            process = command(*words, folder=folder)
            while num_lines(cut) <= kill * num_rounds // (num_kills + 1):
                if process.poll() is not None:
                    raise SystemExit(f"the {setting} run ended before it was killed")
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.3))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reached.append(num_lines(cut))
            words = ["resume", "cut"]
        if command(*words, folder=folder).wait():
            raise SystemExit(f"the {setting} run could not be resumed")
        is_equal = contents(cut) == contents(whole)
    return {"setting": setting, "kills": num_kills, "after_lines": reached, "equal": is_equal}


def num_lines(run: Path) -> int:
    """Return how many steps a run has written."""
    rounds = run / "rounds.jsonl"
    return rounds.read_bytes().count(b"\n") if rounds.exists() else 0


def figures(
    costs: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]]
) -> list[Figure]:
    """Return the sizes and times per setting, and how many killed runs ended equal."""
    shown = []
    for row in costs:
        name = f"{row['model']}, {row['pacing']}, {row['optimizer']}"
        is_barred = (row["pacing"], row["optimizer"]) == ("synchronous", "FedAvg")
        bar = SIZE_BAR if is_barred else None
        shown.append(
            Figure.of(f"size: {name}", [row["times_model_max"]], "x the model", at_most=bar)
        )
    for row in costs:
        name = f"{row['model']}, {row['pacing']}, {row['optimizer']}"
        shown.append(Figure.of(f"time to write: {name}", [row["write_ms_median"]], "ms"))
    num_kills = sum(trial["kills"] for trial in trials)
    num_equal = sum(trial["kills"] for trial in trials if trial["equal"])
    shown.append(
        Figure.of("kill -9 after which the end was the same", [num_equal], "", at_least=num_kills)
    )
    return shown


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, small model, 3 kills")
    options = parser.parse_args()
    benchmark = Benchmark("resume", quick=options.quick, seeds=(0,))
    models = ("digits",) if options.quick else ("digits", "million")
    settings = [(m, p, o) for m in models for p in PACINGS for o in OPTIMIZERS]
    costs = [
        checkpoint_costs(*setting, num_rounds=8 if options.quick else 30)
        for setting in benchmark.progress(settings)
    ]
    share = 1 if options.quick else -(-NUM_KILLS // len(COMMANDS))
    trials = [
        kill_trials(setting, share, num_rounds=20 if options.quick else 60, seed=0)
        for setting in benchmark.progress(list(COMMANDS))
    ]
    benchmark.table(
        "checkpoints",
        ("setting", "largest", "median", "of a version", "write ms", "read ms", "% of run"),
        [
            (
                f"{row['model']}, {row['pacing']}, {row['optimizer']}",
                f"{row['times_model_max']:.2f}x",
                f"{row['times_model_median']:.2f}x",
                f"{row['times_version_max']:.2f}x",
                f"{row['write_ms_median']:.1f}",
                f"{row['read_ms']:.1f}",
                f"{row['percent_of_run']:.1f}",
            )
            for row in costs
        ],
    )
    return benchmark.finish(figures(costs, trials), rows=[*costs, *trials])


if __name__ == "__main__":
    sys.exit(main())
