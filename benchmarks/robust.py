"""CPU time and memory of the robust rules, beside Flower's own where Flower has one.

Both sides get the same serialised arrays and return the next model: Flower with its strategy's
``aggregate_train`` on replies that carry them, daafl with `decoded` and `ServerOptimizer.combine`.
They take turns, and a repetition compares two turns next to each other. The two coordinate-wise
rules are also compared as bare functions on arrays that are decoded already. Every measurement runs
in a process of its own with one BLAS thread; the arrays are 400 MB, far more than a core's cache,
so run this on a machine that does nothing else.

Budget: five minutes on one core.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from _apart import measured_apart, peak_mib_of
from _report import Benchmark, Figure
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, MultiKrum, Strategy
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean

from daafl import strategies
from daafl.decoding import decoded
from daafl.flower import adopt_task_identity
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.robust import Stack, coordinate_median, trimmed_mean
from daafl.strategies.calling import aggregated
from daafl.strategies.optimizer import ServerOptimizer

SEED: Final = 0
NUM_UPDATES: Final = 100
NUM_VALUES: Final = 1_000_000
NUM_MALICIOUS: Final = 20
FLOAT32: Final = np.dtype(np.float32)
NAME: Final = "model"
LAYOUT: Final = Layout.of({NAME: np.zeros(NUM_VALUES, np.float32)})

Vectors = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Contest:
    """A rule on both sides; ``theirs`` is ``None`` where Flower has no such rule."""

    ours: Callable[[], ServerOptimizer]
    theirs: Callable[[], Strategy] | None = None
    at_least: float | None = None


CONTESTS: Final[dict[str, Contest]] = {
    "median": Contest(strategies.CoordinateMedian, FedMedian, at_least=4),
    "trimmed mean": Contest(
        lambda: strategies.TrimmedMean(0.2), lambda: FedTrimmedAvg(beta=0.2), at_least=4
    ),
    "Krum": Contest(
        lambda: strategies.Krum(NUM_MALICIOUS), lambda: Krum(num_malicious_nodes=NUM_MALICIOUS)
    ),
    "multi-Krum": Contest(
        lambda: strategies.MultiKrum(NUM_MALICIOUS),
        lambda: MultiKrum(
            num_malicious_nodes=NUM_MALICIOUS, num_nodes_to_select=NUM_UPDATES - NUM_MALICIOUS
        ),
    ),
    "geometric median": Contest(strategies.GeometricMedian),
    "centred clipping": Contest(strategies.CentredClipping),
    "bucketing": Contest(lambda: strategies.Bucketing(strategies.GeometricMedian())),
}

FUNCTIONS: Final[dict[str, tuple[Callable[[Vectors], Any], Callable[[Vectors], Any]]]] = {
    "median": (
        lambda layers: np.median(np.stack(layers), axis=0),
        lambda layers: coordinate_median(Stack.of(layers), np.ones(len(layers))),
    ),
    "trimmed mean": (
        lambda layers: trim_mean(np.stack(layers), 0.2),
        lambda layers: trimmed_mean(Stack.of(layers), np.ones(len(layers)), share=0.2),
    ),
}
"""By rule what Flower computes on decoded arrays, and what daafl does."""


def vectors() -> Vectors:
    """Return what every node sends: small differences from nothing, so that they are models too."""
    rng = np.random.default_rng(SEED)
    return [
        rng.standard_normal(NUM_VALUES, dtype=np.float32) * np.float32(0.01)
        for _ in range(NUM_UPDATES)
    ]


def messages(arrays: list[Array]) -> list[Message]:
    """Return replies as Flower's strategies get them; they take the arrays out."""
    asked = Message(RecordDict(), dst_node_id=1, message_type=MessageType.TRAIN)
    contents = [
        RecordDict(
            {
                "arrays": ArrayRecord({NAME: array}),
                "metrics": MetricRecord({"num-examples": 10}),
            }
        )
        for array in arrays
    ]
    return [Message(content, reply_to=asked) for content in contents]


def flower(name: str, arrays: list[Array]) -> Callable[[], Any]:
    """Return what makes Flower's model of the arrays, once."""
    make = CONTESTS[name].theirs
    if make is None:
        raise ValueError(f"Flower has no {name}")
    strategy, replies = make(), messages(arrays)
    return lambda: aggregated(strategy, 1, replies)


def daafl(name: str, arrays: list[Array]) -> Callable[[], Any]:
    """Return what makes daafl's model of the arrays."""
    optimizer = CONTESTS[name].ours()
    model = LAYOUT.packed(np.zeros(NUM_VALUES, np.float32))
    optimizer.init(LAYOUT, model)

    def combine() -> Any:
        deltas = [decoded(array, FLOAT32, (NUM_VALUES,)) for array in arrays]
        updates = [Update(delta, 10, (i,), 0, {}) for i, delta in enumerate(deltas)]
        return optimizer.combine(model, updates)

    return combine


SIDES: Final = {"Flower": flower, "daafl": daafl}


def cpu_times(name: str, repetitions: int) -> dict[str, list[float]]:
    """Return each side's CPU seconds for a model, turn by turn, and how far the models differ."""
    adopt_task_identity(run_id=1)
    arrays = [Array(vector) for vector in vectors()]
    sides = {side: of for side, of in SIDES.items() if _takes_part(name, side)}
    times: dict[str, list[float]] = {side: [] for side in sides}
    models: dict[str, np.ndarray[Any, Any]] = {}
    for _ in range(repetitions):
        for side, of in sides.items():
            act = of(name, arrays)
            seconds, model = _timed(act)
            times[side].append(seconds)
            is_ours = side == "daafl"
            models[side] = LAYOUT.vector(model) if is_ours else model[NAME].numpy()
    apart = np.abs(models["daafl"] - models["Flower"]).max() if "Flower" in models else 0.0
    return {**times, "difference": [float(apart)]}


def function_times(name: str, repetitions: int) -> dict[str, list[float]]:
    """Return each side's CPU seconds for the bare rule on decoded arrays, turn by turn."""
    layers = vectors()
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repetitions):
        for side, rule in zip(SIDES, FUNCTIONS[name], strict=True):
            times[side].append(_timed(partial(rule, layers))[0])
    return times


def peak_mib(name: str, side: str) -> float:
    """Return the peak memory of one model above the serialised arrays, in MiB."""
    adopt_task_identity(run_id=1)
    act = SIDES[side](name, [Array(vector) for vector in vectors()])
    return peak_mib_of(act)


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.process_time()
    result = act()
    return time.process_time() - start, result


def _takes_part(name: str, side: str) -> bool:
    return side == "daafl" or CONTESTS[name].theirs is not None


def measure(benchmark: Benchmark) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows, and print the table."""
    repetitions = 2 if benchmark.quick else 5
    bars: list[Figure] = []
    details: list[Figure] = []
    rows: list[dict[str, Any]] = []
    lines: list[tuple[str, ...]] = []
    for name, contest in benchmark.progress(CONTESTS.items(), total=len(CONTESTS)):
        seconds = measured_apart(__file__, "cpu_times", name, repetitions)
        (difference,) = seconds.pop("difference")
        peaks = {side: measured_apart(__file__, "peak_mib", name, side) for side in seconds}
        cells = {side: f"{statistics.median(s):.2f} s" for side, s in seconds.items()}
        speed_up = _speed_up(f"{name}, from bytes to a model", seconds, contest.at_least)
        bars += speed_up
        for side, values in seconds.items():
            details.append(Figure.of(f"CPU time, {side}, {name}", values, "s"))
            details.append(
                Figure.of(f"peak memory above the arrays, {side}, {name}", [peaks[side]], "MiB")
            )
        rows += _rows(name, "model", seconds)
        rows += [{"rule": name, "side": side, "peak_mib": mib} for side, mib in peaks.items()]
        rows.append({"rule": name, "largest_difference": difference})
        lines.append(
            (
                name,
                *(cells.get(side, "-") for side in SIDES),
                f"{speed_up[0].value:.1f} x" if speed_up else "-",
                *(f"{peaks[side]:.0f} MiB" if side in peaks else "-" for side in SIDES),
            )
        )
    for name in FUNCTIONS:
        seconds = measured_apart(__file__, "function_times", name, repetitions)
        bars += _speed_up(f"{name}, decoded arrays", seconds, 4)
        rows += _rows(name, "function", seconds)
    columns = ("rule", "Flower", "daafl", "speed-up", "Flower's peak", "daafl's peak")
    benchmark.table(
        f"{NUM_UPDATES} updates of {NUM_VALUES:,} float32, from bytes to a model", columns, lines
    )
    return [*bars, *details], rows


def _speed_up(name: str, seconds: dict[str, list[float]], at_least: float | None) -> list[Figure]:
    """Return how many times as long Flower takes, if it takes part."""
    if "Flower" not in seconds:
        return []
    ratios = [
        theirs / ours for theirs, ours in zip(seconds["Flower"], seconds["daafl"], strict=True)
    ]
    return [Figure.of(f"CPU time, Flower over daafl, {name}", ratios, "x", at_least=at_least)]


def _rows(name: str, what: str, seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"rule": name, "what": what, "side": side, "repetition": i, "cpu_seconds": value}
        for side, values in seconds.items()
        for i, value in enumerate(values)
    ]


MEASUREMENTS: Final[dict[str, Callable[..., Any]]] = {
    "cpu_times": cpu_times,
    "function_times": function_times,
    "peak_mib": peak_mib,
}


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two repetitions instead of five")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, arguments = options.measure
        print(json.dumps(MEASUREMENTS[what](*json.loads(arguments))))
        return 0
    benchmark = Benchmark("robust", quick=options.quick, seeds=[SEED])
    figures, rows = measure(benchmark)
    return benchmark.finish(figures, rows=rows)


if __name__ == "__main__":
    sys.exit(main())
