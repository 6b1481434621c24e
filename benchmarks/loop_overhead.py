"""What thinking costs: CPU time of all loops per cycle, and their share of the main job.

    python benchmarks/loop_overhead.py            # about a minute
    python benchmarks/loop_overhead.py --quick

The main job runs as the command line runs it, workers and report included; its loops are timed
around `Reflector.reflect`, which holds observations, hubs and the synced journal.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _report import Benchmark, Figure

from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Plan
from daafl.learning.update import Update
from daafl.loops import default_loops
from daafl.strategies.assignment import LOCAL_KNOBS
from daafl.strategies.monitor import StepFacts, cosine, norm, observations, reported_losses
from daafl.strategies.reflecting import Reflector

NUM_UPDATES = 50
NUM_CYCLES = 200


def cycle_ms(num_cycles: int) -> list[float]:
    """Return CPU milliseconds of each cycle: facts of 50 updates, observations, all loops."""
    rng = np.random.default_rng(0)
    loops = default_loops()
    hub = Hub(loops, {knob.name: knob for knob in LOCAL_KNOBS})
    state, plan = hub.init(), Plan.of(LOCAL_KNOBS)
    before = rng.normal(size=2410).astype(np.float32)
    times = []
    for step in range(num_cycles):
        losses = rng.uniform(0.5, 1.5, NUM_UPDATES) * 0.97**step
        updates = [
            Update(before, 40, (node,), step, {"train_loss": float(loss)})
            for node, loss in enumerate(losses)
        ]
        direction = before + rng.normal(size=before.size).astype(np.float32)
        started_s = time.process_time()
        report = reported_losses(updates)
        facts = StepFacts(
            step=step,
            version=step + 1,
            lr=float(plan["lr"]),
            loss=report.loss,
            trimmed_loss=report.trimmed,
            loss_mad=report.mad,
            loss_version=report.version,
            cosine=cosine(before, direction),
            update_norm=norm(direction),
            num_updates=NUM_UPDATES,
            accuracy=1.0 - 0.97**step,
            round_seconds=1.0,
        )
        cycle = hub.cycle(state, observations(loops, facts), plan)
        times.append(1e3 * (time.process_time() - started_s))
        state, plan, before = cycle.state, cycle.plan, direction
    return times


def main_job_share(folder: Path) -> tuple[float, float]:
    """Return CPU seconds of the loops and of the whole main job, worker processes included."""
    from daafl.cli import main as command_line

    spent = [0.0]
    reflect = Reflector.reflect

    def timed(self: Reflector, *arguments: object) -> object:
        started_s = time.process_time()
        result = reflect(self, *arguments)  # type: ignore[arg-type]  # passed on as they came
        spent[0] += time.process_time() - started_s
        return result

    Reflector.reflect = timed  # type: ignore[method-assign,assignment]  # measured from outside
    try:
        code = command_line(["run", "experiment=quickstart", f"output_dir={folder}", "--quiet"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        Reflector.reflect = reflect  # type: ignore[method-assign]
    if code:
        raise SystemExit(f"the main job ended with exit code {code}")
    usage = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return spent[0], sum(u.ru_utime + u.ru_stime for u in usage)


def in_fresh_process(folder: Path) -> tuple[float, float]:
    """Return `main_job_share` of a process of its own, so that imports and start-up count."""
    command = [sys.executable, __file__, "--job", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    (share,) = [line for line in done.stdout.splitlines() if line.startswith("share:")]
    spent, total = share.split()[1:]
    return float(spent), float(total)


def main() -> int:
    """Measure both and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one main job, fewer cycles")
    parser.add_argument("--job", type=Path, help="measure one main job into this folder")
    options = parser.parse_args()
    if options.job:
        print("\nshare:", *main_job_share(options.job), flush=True)
        return 0
    benchmark = Benchmark("loop_overhead", quick=options.quick, seeds=(0,))
    times = cycle_ms(40 if options.quick else NUM_CYCLES)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in benchmark.progress(range(1 if options.quick else 3)):
            spent, total = in_fresh_process(Path(folder) / str(repeat))
            shares.append({"loops_s": spent, "job_s": total, "percent": 100 * spent / total})
    figures = [
        Figure.of(f"all loops, one cycle at {NUM_UPDATES} updates", times, "ms", at_most=3.0),
        Figure.of(
            "loops' share of the main job's CPU time",
            [s["percent"] for s in shares],
            "%",
            at_most=2.0,
        ),
        Figure.of("CPU time of the main job", [s["job_s"] for s in shares], "s"),
    ]
    return benchmark.finish(
        figures, rows=[*shares, {"cycle_ms": times, "median": statistics.median(times)}]
    )


if __name__ == "__main__":
    sys.exit(main())
