"""The in-process Grid beside Flower's Ray simulation: the same apps, start-up included.

    python benchmarks/grid.py            # 3 pairs of runs, about 5 minutes
    python benchmarks/grid.py --quick    # 1 pair, 3 rounds

Each run is a process of its own, from its start to its end. Both sides run Flower's own FedAvg over
100 nodes of the digits task with one and the same ClientApp, on all cores. Flower runs its engine
directly, without the seconds that ``flwr run`` adds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from _report import Benchmark, Figure

SIDES = ("daafl", "ray")


def run_side(side: str, num_rounds: int) -> None:
    """Run one side in this process."""
    from _digits_app import NUM_NODES, app, server_app

    if side == "ray":
        from flwr.simulation import run_simulation

        run_simulation(
            server_app(num_rounds),
            app,
            num_supernodes=NUM_NODES,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
        )
        return
    from flwr.app import Context, RecordDict

    from daafl.simulation import InProcessGrid

    with InProcessGrid(app, NUM_NODES) as grid:
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        server_app(num_rounds)(grid, context)


def timed(side: str, num_rounds: int) -> tuple[float, float]:
    """Return seconds and final accuracy of one run of ``side`` in a fresh process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
        "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    command = [sys.executable, __file__, "--side", side, "--rounds", str(num_rounds)]
    started_s = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    seconds = time.perf_counter() - started_s
    reports = [line for line in done.stdout.splitlines() if line.startswith('{"accuracy"')]
    if done.returncode != 0 or not reports:
        raise SystemExit(f"{side} failed with exit {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, float(json.loads(reports[-1])["accuracy"])


def main() -> int:
    """Run pairs of both sides and report their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one pair of short runs")
    parser.add_argument("--side", choices=SIDES, help="run one side in this process, untimed")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    if options.side:
        run_side(options.side, options.rounds)
        return 0
    num_rounds = 3 if options.quick else options.rounds
    benchmark = Benchmark("grid", quick=options.quick, seeds=(0,))
    rows = []
    for pair in benchmark.progress(range(1 if options.quick else 3)):
        for side in SIDES:
            seconds, accuracy = timed(side, num_rounds)
            rows.append({"pair": pair, "side": side, "seconds": seconds, "accuracy": accuracy})
    seconds_of = {side: [r["seconds"] for r in rows if r["side"] == side] for side in SIDES}
    ratios = [ray / ours for ours, ray in zip(seconds_of["daafl"], seconds_of["ray"], strict=True)]
    figures = [
        Figure.of(f"100 nodes x {num_rounds} rounds, {side}", seconds_of[side], "s")
        for side in SIDES
    ]
    figures.append(Figure.of("Ray simulation over in-process Grid", ratios, "x", at_least=5.0))
    accuracies = {r["accuracy"] for r in rows}
    notes = [f"final accuracies: {sorted(accuracies)}"]
    return benchmark.finish(figures, rows=rows, notes=notes)


if __name__ == "__main__":
    sys.exit(main())
