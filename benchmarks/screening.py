"""CPU time and memory of screening 1,000 updates of a million parameters, beside the plain mean.

Both sides get the same replies of nodes and receive them as a step does, checks included. The plain
side takes the weighted mean of the updates as they come. The screened side takes down the evidence
of each, keeps what memory should not hold in a file, judges all of them at the end, and takes the
weighted mean of those kept. They take turns in one process with one BLAS thread, and a repetition
compares two turns next to each other.

The updates are as nodes with different data send them: a common direction, one of 20 own
directions, and noise; a fifth of the nodes sends -3 times its update. Building the replies is no
part of the times. Peak memory is of the process; the file's pages are the kernel's, which takes
them back when it needs them. The first step pays for getting these pages, later ones write to them
again.

Verdicts on sketches are compared with verdicts on whole updates for 100 of them.

Budget: five minutes on one core, 4 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
from _apart import measured_apart, peak_mib_of
from _report import Benchmark, Figure
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from daafl.learning.layout import Layout, Packed, Vector
from daafl.learning.update import Update
from daafl.messages import (
    ARRAYS,
    ENVELOPE,
    METRICS,
    NUM_EXAMPLES,
    PACKED,
    TRAIN_LOSS,
    Assignment,
    Envelope,
)
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.mailbox import Arrival, Ticket
from daafl.strategies.reputation import Standing
from daafl.strategies.screening import Evidence, Examiner, Screening, screened
from daafl.strategies.spool import Spool

SEED: Final = 0
NUM_VALUES: Final = 1_000_000
NUM_OWN: Final = 20
NUM_COMPARED: Final = 100
FEDERATION: Final = "federation"
BRANCH: Final = "main"
LAYOUT: Final = Layout.of({"model": np.zeros(NUM_VALUES, np.float32)})
EXAMINER: Final = Examiner(LAYOUT, SEED)


class Stream:
    """Replies of nodes that arrive one by one, each in memory of its own.

    Parameters
    ----------
    num_updates
        How many there are.
    """

    def __init__(self, num_updates: int) -> None:
        rng = np.random.default_rng(SEED)
        self.num_updates = num_updates
        self.base = rng.standard_normal(NUM_VALUES, dtype=np.float32)
        # Layers move by different amounts, and within them most values hardly at all.
        layers = np.repeat(rng.lognormal(-5.0, 1.0, 10).astype(np.float32), NUM_VALUES // 10)
        scale = layers * rng.standard_normal(NUM_VALUES, dtype=np.float32) ** 2
        common = rng.standard_normal(NUM_VALUES, dtype=np.float32)
        self._own = [
            scale * (common + rng.standard_normal(NUM_VALUES, dtype=np.float32))
            for _ in range(NUM_OWN)
        ]
        self._noise = scale * rng.standard_normal(NUM_VALUES, dtype=np.float32)
        self._starts = rng.integers(0, NUM_VALUES, num_updates)
        self._lengths = rng.lognormal(0.0, 0.3, num_updates).astype(np.float32)
        self.is_hostile = rng.random(num_updates) < 0.2
        self.counts = rng.integers(10, 100, num_updates)
        self.build_seconds = 0.0

    def deltas(self) -> Iterator[Vector]:
        """Yield what each model differs by from the base."""
        for index, start in enumerate(self._starts):
            noise = np.roll(self._noise, int(start))
            sign = -3.0 if self.is_hostile[index] else 1.0
            size = np.float32(sign * self._lengths[index])
            yield size * (self._own[index % NUM_OWN] + noise)

    def updates(self) -> Iterator[Update]:
        """Yield the updates as a step receives them."""
        exchange = PlainExchange(FEDERATION, LAYOUT)
        packed = LAYOUT.packed(self.base)
        start = time.process_time()
        for index, delta in enumerate(self.deltas()):
            arrival = _arrival(index, LAYOUT.packed(self.base + delta), int(self.counts[index]))
            del delta
            self.build_seconds += time.process_time() - start
            (update,) = exchange.receive(arrival, packed).updates
            del arrival
            yield replace(update, received=None)
            start = time.process_time()


def _arrival(node: int, packed: Packed, count: int) -> Arrival:
    """Return the reply of a node that trained this model."""
    envelope = Envelope(FEDERATION, BRANCH, 0, node, 1, "")
    content = RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(packed)}),
            METRICS: MetricRecord({NUM_EXAMPLES: count, TRAIN_LOSS: 1.0}),
            ENVELOPE: envelope.to_record(),
        }
    )
    assignment = Assignment(federation=FEDERATION)
    ticket = Ticket(node + 1, "train", node, BRANCH, 0, 0, 0.0, 1.0, True, assignment, count)
    return Arrival(ticket, content, "", 1.0)


def plain(stream: Stream) -> Vector:
    """Return the mean of all updates, as they come."""
    return weighted_mean(stream.updates())[0]


def screening(stream: Stream, spool: Spool) -> tuple[Vector, Screening]:
    """Return the mean of the updates that screening keeps, and the verdicts."""
    cohort: list[tuple[int, float, Evidence]] = []
    held: list[Update] = []
    for update in stream.updates():
        evidence = EXAMINER.evidence(update.delta)
        cohort.append((update.senders[0], update.num_examples, evidence))
        delta = spool.held(update.delta)
        held.append(replace(update, delta=delta))
    found = judged(cohort)
    kept = [
        replace(update, num_examples=verdict.num_examples, damping=verdict.damping)
        for update, verdict in zip(held, found.verdicts, strict=True)
        if verdict.is_kept
    ]
    return weighted_mean(spool.passing(kept))[0], found


def judged(cohort: list[tuple[int, float, Evidence]]) -> Screening:
    """Return the verdicts on a first step's updates."""
    return screened(Standing(), cohort, threshold=3.5, clip_factor=1.5, reference=None)


def seconds(num_updates: int, repetitions: int) -> dict[str, list[float]]:
    """Return each side's CPU seconds for a step, turn by turn, and what screening got wrong."""
    stream, spool = Stream(num_updates), Spool()
    times: dict[str, list[float]] = {"plain": [], "screened": [], "wrong": []}
    for _ in range(repetitions + 1):
        times["plain"].append(_timed(stream, lambda: plain(stream)))
        found: list[Screening] = []
        times["screened"].append(
            _timed(stream, lambda: found.append(screening(stream, spool)[1]))  # noqa: B023
        )
        kept = np.array([verdict.is_kept for verdict in found[0].verdicts])
        times["wrong"].append(float((kept == stream.is_hostile).sum()))
    return times


def peak_mib(num_updates: int) -> float:
    """Return the peak memory of a screened step above what the process held before it."""
    stream = Stream(num_updates)
    plain(Stream(1))
    return peak_mib_of(lambda: screening(stream, Spool()))


def agreement(num_updates: int) -> dict[str, float]:
    """Return how far verdicts and scores on sketches are from those on whole updates."""
    stream = Stream(num_updates)
    deltas = list(stream.deltas())
    counts = [float(count) for count in stream.counts]
    evidence = [EXAMINER.evidence(delta) for delta in deltas]
    sketched = judged(list(zip(range(num_updates), counts, evidence, strict=True)))
    whole = [Evidence(delta, float(np.linalg.norm(delta))) for delta in deltas]
    full = judged(list(zip(range(num_updates), counts, whole, strict=True)))
    pairs = list(zip(sketched.verdicts, full.verdicts, strict=True))
    return {
        "same": float(np.mean([one.is_kept == other.is_kept for one, other in pairs])),
        "apart": max(abs(one.score - other.score) for one, other in pairs),
    }


def _timed(stream: Stream, act: Callable[[], object]) -> float:
    stream.build_seconds = 0.0
    start = time.process_time()
    act()
    return time.process_time() - start - stream.build_seconds


def measure(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows."""
    num_updates, repetitions = (200, 2) if quick else (1000, 5)
    times = measured_apart(__file__, "seconds", num_updates, repetitions)
    pairs = list(zip(times["screened"], times["plain"], strict=True))
    ratios = [screened_s / plain_s for screened_s, plain_s in pairs]
    peaks = [measured_apart(__file__, "peak_mib", num_updates) for _ in range(3)]
    same = measured_apart(__file__, "agreement", NUM_COMPARED)
    of = f"{num_updates:,} updates of {NUM_VALUES // 10**6}M float32"
    figures = [
        Figure.of(
            f"CPU time of a screened step over the plain mean, {of}", ratios[1:], "x", at_most=2
        ),
        Figure.of(f"peak memory above the base, {of}", peaks, "MiB", at_most=250),
        Figure.of(
            f"same verdicts on sketches as on {NUM_COMPARED} whole updates",
            [100 * same["same"]],
            "%",
            at_least=100,
        ),
        Figure.of("largest difference of two such scores", [same["apart"]], "sd"),
        Figure.of("wrong verdicts in a step", times["wrong"], "updates"),
        Figure.of("first step, whose file is new, over the plain mean", ratios[:1], "x"),
        Figure.of("CPU time per update, plain", _ms(times["plain"][1:], num_updates), "ms"),
        Figure.of("CPU time per update, screened", _ms(times["screened"][1:], num_updates), "ms"),
    ]
    rows: list[dict[str, Any]] = [
        {"side": side, "repetition": index, "seconds": value}
        for side in ("plain", "screened")
        for index, value in enumerate(times[side])
    ]
    rows += [{"side": "screened", "repetition": i, "peak_mib": p} for i, p in enumerate(peaks)]
    return figures, rows


def _ms(seconds_of_step: list[float], num_updates: int) -> list[float]:
    return [1000 * value / num_updates for value in seconds_of_step]


MEASUREMENTS: Final[dict[str, Callable[..., Any]]] = {
    "seconds": seconds,
    "peak_mib": peak_mib,
    "agreement": agreement,
}
NOTES: Final = (
    "Time: from the replies to the mean, all checks included on both sides; of later steps, whose "
    "file has its pages.",
    "Memory: of the process. Up to 4 GB of the file's pages are the kernel's and reclaimable.",
)


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the updates")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, arguments = options.measure
        print(json.dumps(MEASUREMENTS[what](*json.loads(arguments))))
        return 0
    figures, rows = measure(quick=options.quick)
    benchmark = Benchmark("screening", quick=options.quick, seeds=[SEED])
    return benchmark.finish(figures, rows=rows, notes=NOTES)


if __name__ == "__main__":
    sys.exit(main())
