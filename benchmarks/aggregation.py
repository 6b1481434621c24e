"""CPU time and memory of the weighted mean, beside Flower's own.

Both sides get the same serialised arrays and return the weighted mean of the models in them,
decoding included: Flower with ``ArrayRecord`` and ``aggregate_arrayrecords``, daafl with `decoded`
and `weighted_mean`. They take turns, and a repetition compares two turns next to each other. Every
measurement runs in a process of its own with one BLAS thread.

CPU time is measured on 20 distinct arrays that are used in turn, since 1,000 would be 4 GB;
together they are far larger than a core's cache. daafl's side is bound by memory traffic, so run
this on a machine that does nothing else. Memory is measured on arrays that arrive one by one and
each take memory of their own, as they do from a network.

Budget: two minutes on one core.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from _apart import measured_apart, peak_mib_of
from _report import Benchmark, Figure
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from daafl.decoding import decoded
from daafl.learning.update import Update
from daafl.strategies.aggregation import weighted_mean

SEED: Final = 0
NUM_VALUES: Final = 1_000_000
NUM_DISTINCT: Final = 20
FLOAT32: Final = np.dtype(np.float32)

Mean = Callable[[list[Array], np.ndarray[Any, Any]], Any]


def arrays_and_weights(num_updates: int) -> tuple[list[Array], np.ndarray[Any, Any]]:
    """Return ``num_updates`` serialised arrays, of which 20 are distinct, and their weights."""
    rng = np.random.default_rng(SEED)
    distinct = [
        Array(rng.standard_normal(NUM_VALUES, dtype=np.float32)) for _ in range(NUM_DISTINCT)
    ]
    weights = rng.integers(10, 1000, num_updates).astype(np.float64)
    return [distinct[index % NUM_DISTINCT] for index in range(num_updates)], weights


def flower(arrays: list[Array], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean as Flower's FedAvg computes it from replies."""
    contents = [
        RecordDict(
            {
                "arrays": ArrayRecord({"model": array}),
                "metrics": MetricRecord({"num-examples": float(weight)}),
            }
        )
        for array, weight in zip(arrays, weights, strict=True)
    ]
    return aggregate_arrayrecords(contents, "num-examples")["model"].numpy()


def daafl(arrays: list[Array], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean as a server optimiser computes it from updates."""
    return weighted_mean(_updates(iter(arrays), weights))[0]


def daafl_with_base(arrays: list[Array], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean of what models differ by from a base, the differences made on the way."""
    base = np.ones(NUM_VALUES, np.float32)
    updates = _updates(iter(arrays), weights, base)
    return base + weighted_mean(updates)[0]


def _updates(
    arrays: Iterator[Array],
    weights: np.ndarray[Any, Any],
    base: np.ndarray[Any, Any] | None = None,
) -> Iterator[Update]:
    for array, weight in zip(arrays, weights, strict=True):
        values = decoded(array, FLOAT32, (NUM_VALUES,))
        delta = values if base is None else values - base
        yield Update(delta, float(weight), (0,), 0, {})


def cpu_times(num_updates: int, repetitions: int) -> dict[str, list[float]]:
    """Return each side's CPU seconds for a mean, turn by turn, and how far the means differ."""
    arrays, weights = arrays_and_weights(num_updates)
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repetitions):
        for side, mean in SIDES.items():
            gc.collect()
            start = time.process_time()
            mean(arrays, weights)
            times[side].append(time.process_time() - start)
    apart = np.abs(flower(arrays, weights) - daafl(arrays, weights)).max()
    return {**times, "difference": [float(apart)]}


def arriving(num_updates: int) -> Iterator[Array]:
    """Yield arrays whose bytes nobody else holds, as if each had just been received."""
    data = bytearray(Array(np.ones(NUM_VALUES, np.float32)).data)
    for _ in range(num_updates):
        yield Array(dtype="float32", shape=(NUM_VALUES,), stype="numpy.ndarray", data=bytes(data))


def peak_mib(side: str, num_updates: int) -> float:
    """Return the peak memory of one mean above what the process held before it, in MiB."""
    arrays, weights = arriving(num_updates), np.ones(num_updates)
    if side == "Flower":
        return peak_mib_of(lambda: flower(list(arrays), weights))
    return peak_mib_of(lambda: weighted_mean(_updates(arrays, weights)))


def measure(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows."""
    num_updates, repetitions = (100, 3) if quick else (1000, 7)
    num_flower = num_updates // 10
    seconds = measured_apart(__file__, "cpu_times", num_updates, repetitions)
    difference = seconds.pop("difference")
    ms = {side: [1000 * s / num_updates for s in values] for side, values in seconds.items()}
    ratio = {
        side: [theirs / ours for theirs, ours in zip(ms["Flower"], values, strict=True)]
        for side, values in ms.items()
    }
    peaks = [measured_apart(__file__, "peak_mib", "daafl", num_updates) for _ in range(3)]
    theirs = [measured_apart(__file__, "peak_mib", "Flower", num_flower)]
    of = f"{num_updates:,} updates of {NUM_VALUES // 10**6}M float32"
    figures = [
        Figure.of(f"CPU time, Flower over daafl, {of}", ratio["daafl"], "x", at_least=4),
        Figure.of(f"peak memory above the base, daafl, {of}", peaks, "MiB", at_most=95),
        Figure.of("largest difference of the two means", difference, "", at_most=1e-5),
        Figure.of("CPU time per update, Flower", ms["Flower"], "ms"),
        Figure.of("CPU time per update, daafl", ms["daafl"], "ms"),
        Figure.of("CPU time per update, daafl, from models and a base", ms["with base"], "ms"),
        Figure.of("Flower over daafl, from models and a base", ratio["with base"], "x"),
        Figure.of(f"peak memory above the base, Flower, {num_flower} updates", theirs, "MiB"),
    ]
    rows: list[dict[str, Any]] = [
        {"side": side, "repetition": i, "cpu_seconds": value}
        for side, values in seconds.items()
        for i, value in enumerate(values)
    ]
    rows += [{"side": "daafl", "repetition": i, "peak_mib": p} for i, p in enumerate(peaks)]
    rows += [{"side": "Flower", "repetition": 0, "peak_mib": theirs[0], "updates": num_flower}]
    return figures, rows


SIDES: Final[dict[str, Mean]] = {"Flower": flower, "daafl": daafl, "with base": daafl_with_base}
MEASUREMENTS: Final[dict[str, Callable[..., Any]]] = {"cpu_times": cpu_times, "peak_mib": peak_mib}
NOTES: Final = (
    f"CPU time: {NUM_DISTINCT} distinct arrays are used in turn; "
    "memory: every array has bytes of its own.",
    "From models and a base: the difference of each model to a base is made on the way, as a step "
    "does to check it; Flower averages models and never makes it.",
)


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the updates")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, arguments = options.measure
        print(json.dumps(MEASUREMENTS[what](*json.loads(arguments))))
        return 0
    figures, rows = measure(quick=options.quick)
    benchmark = Benchmark("aggregation", quick=options.quick, seeds=[SEED])
    return benchmark.finish(figures, rows=rows, notes=NOTES)


if __name__ == "__main__":
    sys.exit(main())
