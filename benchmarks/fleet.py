"""What a federation costs against its size: 1,000 to 1,000,000 registered devices.

    python benchmarks/fleet.py            # a minute and a half
    python benchmarks/fleet.py --quick    # two sizes, few rounds

Every size is a process of its own: a mixed fleet of cloud machines, phones and browser tabs in
virtual time, of which 1,000 or a tenth train in a round, with data that is made when a node is
asked. Registration is from nothing to a grid on which the first round can begin. Scheduling is to
draw who takes part, among those who are online, and to compute whom messages reach, what becomes of
the work and when replies arrive; training and the making of data are not in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from _apart import measured_apart
from _report import ROOT, Benchmark, Figure
from torch import nn

import daafl
from daafl.keyed_random import mixed, uniforms
from daafl.learning import Examples
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import InProcessGrid, fates, timeline
from daafl.simulation.fleet import Fleet, browser_tab, cloud_machine, edge_phone
from daafl.simulation.registered import SimulatedNodes
from daafl.strategies import LocalTraining, Pacing
from daafl.strategies.collecting import Collector

SEED: Final = 0
SIZES: Final = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES: Final = (1_000, 1_000_000)
COHORT: Final = 1_000
WARM_UP: Final = 3
REPETITIONS: Final = 3
WEEK_S: Final = 7 * 86_400.0
CURVE: Final = ROOT / "docs" / "fleet.svg"

NUM_FEATURES: Final = 8
NUM_EXAMPLES: Final = 16


class OnDemand(daafl.Task):
    """A logistic regression whose data is a hash of the node: nothing is kept."""

    name: ClassVar[str] = "on_demand"

    def model(self) -> nn.Module:
        """Return a linear model of two classes."""
        return nn.Linear(NUM_FEATURES, 2)

    def partition(self, node: int, num_nodes: int) -> Examples:
        """Return the examples of a node."""
        keys = mixed(SEED, node, np.arange(NUM_EXAMPLES * NUM_FEATURES))
        inputs = uniforms(keys).astype(np.float32).reshape(NUM_EXAMPLES, NUM_FEATURES) - 0.5
        return Examples(inputs, (inputs.sum(1) > 0).astype(np.int64))


class Stopwatch:
    """Adds up the time in some functions, less what they spend in others."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def counted(self, function: Callable[..., Any], sign: int = 1) -> Callable[..., Any]:
        """Return a function that counts its time; with ``sign`` -1, leaves it out of others'."""

        def timed(*arguments: Any, **options: Any) -> Any:
            is_counted = self._depth > 0 if sign < 0 else self._depth == 0
            self._depth += sign > 0
            start_s = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= sign > 0
                self.seconds += sign * is_counted * (time.perf_counter() - start_s)

        return timed


@contextmanager
def hooked(owner: Any, name: str, wrapped: Callable[..., Any]) -> Iterator[None]:
    """Put a function in the place of another for a while."""
    original = getattr(owner, name)
    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, original)


class Marks:
    """Notes at the end of every step the wall time and what stopwatches show."""

    def __init__(self, drawing: Stopwatch, travelling: Stopwatch) -> None:
        self._watches = (drawing, travelling)
        self._marks: list[tuple[float, float, float]] = []
        self.virtual_s = 0.0

    def medians_ms(self) -> list[float]:
        """Return the median milliseconds per step: in all, to draw, to compute arrivals."""
        steps = np.diff(np.array(self._marks), axis=0)[WARM_UP:]
        medians: list[float] = (1e3 * np.median(steps, axis=0)).tolist()
        return medians

    def _mark(self) -> None:
        drawing, travelling = self._watches
        self._marks.append((time.perf_counter(), drawing.seconds, travelling.seconds))

    def started(self, info: RunInfo) -> None:
        """Note when the run begins."""
        self._mark()

    def stepped(self, record: StepRecord) -> None:
        """Note that a step is over."""
        self._mark()
        self.virtual_s = record.clock_s

    def finished(self, summary: RunSummary) -> None:
        """Do nothing: all is noted."""


def measure(num_nodes: int, num_rounds: int) -> dict[str, Any]:
    """Return what a federation of a size costs in this process."""
    cohort = min(COHORT, num_nodes // 10)
    start_s = time.perf_counter()
    fleet = Fleet.of(
        {"cloud": cloud_machine(), "edge": edge_phone(), "browser": browser_tab()},
        num_nodes,
        seed=SEED,
        shares={"cloud": 0.1, "edge": 0.6, "browser": 0.3},
    )
    fleet_s = time.perf_counter() - start_s
    grid_s = 0.0

    def grid(*arguments: Any, **options: Any) -> InProcessGrid:
        nonlocal grid_s
        made_s = time.perf_counter()
        made = InProcessGrid(*arguments, **options)
        grid_s = time.perf_counter() - made_s
        return made

    drawing, travelling = Stopwatch(), Stopwatch()
    marks = Marks(drawing, travelling)
    with (
        tempfile.TemporaryDirectory() as folder,
        hooked(Collector, "cohort", drawing.counted(Collector.cohort)),
        hooked(timeline, "gathered", travelling.counted(fates.gathered)),
        hooked(SimulatedNodes, "num_examples", drawing.counted(SimulatedNodes.num_examples, -1)),
    ):
        daafl.run(
            OnDemand(),
            num_nodes=num_nodes,
            num_rounds=num_rounds,
            pacing=Pacing(concurrency=cohort, quorum=cohort, reply_timeout_s=WEEK_S),
            exchange="summed",
            training=LocalTraining(lr=0.1, local_steps=2, batch_size=8),
            loops=(),
            fleet=fleet,
            grid=grid,
            workers=0,
            seed=SEED,
            evaluate_every=0,
            checkpoint_every=0,
            output_dir=Path(folder) / "run",
            progress=marks,
        )
    round_ms, drawing_ms, travelling_ms = marks.medians_ms()
    return {
        "num_nodes": num_nodes,
        "cohort": cohort,
        "registration_s": fleet_s + grid_s,
        "scheduling_ms": drawing_ms + travelling_ms,
        "drawing_ms": drawing_ms,
        "arrivals_ms": travelling_ms,
        "round_ms": round_ms,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "virtual_h": marks.virtual_s / 3600,
    }


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the medians of all measurements of each size, ascending."""
    sizes = sorted({row["num_nodes"] for row in rows})
    of = {size: [row for row in rows if row["num_nodes"] == size] for size in sizes}
    return [
        {name: statistics.median(row[name] for row in of[size]) for name in rows[0]}
        for size in sizes
    ]


def draw(found: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the cost against the number of devices, both on logarithmic scales."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fleet"  # the same figures make the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.0, 4.0), layout="constrained")
    sizes = [row["num_nodes"] for row in found]
    # What is drawn, and where beside its middle the label goes, in points.
    lines = (
        ("registration_s", 1e3, "registration, ms", (-8, 10)),
        ("round_ms", 1.0, "a round, all in, ms", (0, 6)),
        ("scheduling_ms", 1.0, "scheduling of a round, ms", (0, -14)),
        ("peak_mib", 1.0, "peak memory, MiB", (0, 6)),
    )
    middle = len(found) // 2
    for name, factor, label, shift in lines:
        values = [factor * row[name] for row in found]
        (line,) = axes.loglog(sizes, values, marker="o", markersize=3)
        axes.annotate(
            label,
            (sizes[middle], values[middle]),
            xytext=shift,
            textcoords="offset points",
            ha="right" if shift[0] < 0 else "left",
            fontsize=8,
            color=line.get_color(),
        )
    axes.set_xlabel("registered devices, of which 1,000 or a tenth train in a round")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return the figures of the largest fleet, and how costs grow."""
    largest = max(row["num_nodes"] for row in rows)
    own = [row for row in rows if row["num_nodes"] == largest]

    def of(what: str, name: str, unit: str, at_most: float | None = None) -> Figure:
        values = [float(row[name]) for row in own]
        return Figure.of(f"{largest:,} devices: {what}", values, unit, at_most=at_most)

    return [
        of("registration", "registration_s", "s", 5.0),
        of("scheduling per round", "scheduling_ms", "ms", 2.0),
        of("of that, to draw who takes part", "drawing_ms", "ms"),
        of("of that, to compute arrivals", "arrivals_ms", "ms"),
        of("peak memory", "peak_mib", "MiB", 1e9 / 2**20),
        of("a round, all in", "round_ms", "ms"),
    ]


def main() -> int:
    """Measure, report, draw, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, few rounds")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure[1]))))
        return 0
    sizes, repetitions = (QUICK_SIZES, 1) if options.quick else (SIZES, REPETITIONS)
    num_rounds = 8 if options.quick else 30
    benchmark = Benchmark("fleet", quick=options.quick, seeds=[SEED])
    turns = [(size, turn) for turn in range(repetitions) for size in sizes]
    rows = [
        {**measured_apart(__file__, "measure", size, num_rounds), "repetition": turn}
        for size, turn in benchmark.progress(turns)
    ]
    columns = ("devices", "registration s", "scheduling ms", "round ms", "peak MiB", "virtual h")
    names = ("registration_s", "scheduling_ms", "round_ms", "peak_mib", "virtual_h")
    found = medians(rows)
    cells = [[f"{row['num_nodes']:,.0f}", *(f"{row[n]:.3g}" for n in names)] for row in found]
    benchmark.table("Cost against the size of the fleet", columns, cells)
    if not options.quick:
        draw(found, CURVE)
    return benchmark.finish(figures(rows), rows=rows, notes=NOTES)


NOTES: Final = (
    "The exchange is summed: a cohort is asked and answers as a whole. Peak memory is of the whole "
    "process, Python and PyTorch included.",
)


if __name__ == "__main__":
    sys.exit(main())
