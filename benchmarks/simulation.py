"""daafl's simulator beside a plain loop, Flower on Ray, pfl-research and FedJAX: the same work.

    python benchmarks/peers/environments.py                  # once: an environment per peer
    python benchmarks/simulation.py                          # 5 repetitions, about 25 minutes
    python benchmarks/simulation.py --quick                  # 1 short repetition
    python benchmarks/simulation.py --only A --peers plain,pfl

Every run is a process of its own in the system's own environment; the systems take turns within a
repetition, in an order that changes from one to the next, and ratios are of runs of the same
repetition. All read the same data and starting weights from one file, draw their own cohorts, and
train one epoch. A round is timed from the end of the one before; a figure is the median of all but
the first three. Nobody evaluates in between.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from _peer_runs import SCRIPTS, Run, repetition
from _report import Benchmark, Figure
from peers import environments
from peers._work import WORKS

VARIANTS: Final = {
    "A": ("summed", "lazy", "default", "default with checkpoints"),
    "B": ("summed", "summed, all cores", "lazy", "default"),
    "C": ("lazy", "summed", "lazy, all cores"),
}
QUICK_ROUNDS: Final = 8

# Slower and faster system of a ratio of times per round, and its least value.
RATIOS: Final[dict[str, tuple[tuple[str, str, float | None], ...]]] = {
    "A": (
        ("flower", "summed", 60.0),
        ("pfl", "summed", 10.0),
        ("plain", "summed", 6.0),
        ("fedjax", "summed", None),
        ("flower", "lazy", 30.0),
        ("pfl", "lazy", 4.0),
        ("plain", "lazy", 2.5),
        ("lazy", "default", 0.5),
        ("lazy", "default with checkpoints", None),
    ),
    "B": (
        ("flower", "summed", None),
        ("pfl", "summed", None),
        ("plain", "summed", None),
    ),
    "C": (
        ("flower", "lazy, all cores", 2.0),
        ("plain", "lazy", 1.0),
        ("plain", "summed", None),
        ("fedjax", "lazy", None),
    ),
}
FEDJAX: Final = 0.9  # of FedJAX's time per round on work B
FIRST_ROUND_S: Final = 5.0
SAME_LEARNING: Final = 0.05


def figures(work: str, runs: Sequence[Run], fall: float) -> list[Figure]:
    """Return the figures of a work.

    Parameters
    ----------
    work
        Its name.
    runs
        All runs on it.
    fall
        By how much the plain loop, or else the first system, brings the loss down on average.
    """
    of = {system: [r for r in runs if r.system == system] for system in _systems(runs)}
    made = [
        Figure.of(f"{work}: {slow} over {fast}", _ratios(of[slow], of[fast]), "x", at_least=bar)
        for slow, fast, bar in RATIOS[work]
        if slow in of and fast in of
    ]
    if work == "B":
        if "fedjax" in of:
            for variant in ("summed, all cores", "summed", "lazy"):
                ratios = _ratios(of[variant], of["fedjax"])
                name = f"B: {variant}, time per round over FedJAX's"
                bar = FEDJAX if variant == "summed, all cores" else None
                made.append(Figure.of(name, ratios, "x", at_most=bar))
        for system, own in of.items():
            bar = FIRST_ROUND_S if system in VARIANTS["B"] else None
            name = f"B: {system}, start to first finished round"
            made.append(Figure.of(name, [run.first_s for run in own], "s", at_most=bar))
    losses = {s: statistics.mean(r.loss for r in own) for s, own in of.items()}
    reference = losses[_reference(runs)]
    # The loops of the default variants change how it trains, so those learn something else.
    apart = [
        abs(loss - reference) / fall for s, loss in losses.items() if not s.startswith("default")
    ]
    name = f"{work}: systems' final losses apart, of the fall in loss"
    return [*made, Figure.of(name, [max(apart)], "", at_most=SAME_LEARNING)]


def _ratios(slow: Sequence[Run], fast: Sequence[Run]) -> list[float]:
    return [a.ms / b.ms for a, b in zip(slow, fast, strict=True)]


def _systems(runs: Sequence[Run]) -> list[str]:
    return sorted({run.system for run in runs})


def _reference(runs: Sequence[Run]) -> str:
    systems = _systems(runs)
    return "plain" if "plain" in systems else systems[0]


def table(benchmark: Benchmark, work: str, runs: Sequence[Run]) -> None:
    """Print what the systems did."""
    rows = []
    for system in _systems(runs):
        own = [run for run in runs if run.system == system]
        ms = [run.ms for run in own]
        median = statistics.median(ms)
        rows.append(
            (
                system if system in SCRIPTS else f"daafl, {system}",
                f"{median:.1f}",
                f"{min(ms):.1f} to {max(ms):.1f}",
                f"{1e3 * WORKS[work].cohort / median:,.0f}",
                f"{statistics.median(run.first_s for run in own):.1f}",
                f"{statistics.mean(run.loss for run in own):.4f}",
                f"{statistics.mean(run.accuracy for run in own):.3f}",
            )
        )
    rows.sort(key=lambda row: float(row[1]))
    columns = ("system", "ms/round", "spread", "clients/s", "first round s", "loss", "accuracy")
    benchmark.table(f"{work}: {WORKS[work].title}", columns, rows)


def chosen_peers(named: str | None, into: Path) -> list[str]:
    """Return the peers to measure.

    Raises
    ------
    SystemExit
        If a peer is unknown, or has no environment.
    """
    peers = list(environments.PEERS) if named is None else [p for p in named.split(",") if p]
    if unknown := [peer for peer in peers if peer not in SCRIPTS]:
        raise SystemExit(f"no such peer: {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    if absent := [peer for peer in peers if not environments.is_made(peer, into)]:
        raise SystemExit(
            f"no environment in {into} for {', '.join(absent)}: run\n"
            f"    python benchmarks/peers/environments.py --into {into} {' '.join(absent)}\n"
            "or choose others with --peers"
        )
    return peers


def measured(
    benchmark: Benchmark, works: Mapping[str, int], peers: Sequence[str], into: Path
) -> tuple[list[Run], Mapping[str, list[float]]]:
    """Return all runs, and per work the losses of the starting weights.

    Parameters
    ----------
    benchmark
        Its seeds are the numbers of the repetitions.
    works
        Rounds of each work.
    peers
        The systems beside daafl's variants.
    into
        Where their environments lie.
    """
    runs: list[Run] = []
    initial: dict[str, list[float]] = {work: [] for work in works}
    pairs = [(number, work) for number in benchmark.seeds for work in works]
    with tempfile.TemporaryDirectory() as folder:
        for number, work in benchmark.progress(pairs):
            systems = [*peers, *VARIANTS[work]]
            loss, new = repetition(number, work, systems, works[work], Path(folder), into)
            initial[work].append(loss)
            runs += new
    return runs, initial


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition")
    parser.add_argument("--only", default="A,B,C", help="works (%(default)s)")
    parser.add_argument("--peers", help="peers, separated by commas; all of them by default")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--into", type=Path, default=environments.folder(), help="environments")
    options = parser.parse_args()
    named = options.only.split(",")
    if unknown := [work for work in named if work not in WORKS]:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    works = {work: QUICK_ROUNDS if options.quick else WORKS[work].rounds for work in named}
    peers = chosen_peers(options.peers, options.into)
    repetitions = 1 if options.quick else options.repetitions
    is_partial = len(works) < len(WORKS) or len(peers) < len(SCRIPTS)
    # What measures a part is a short run, too: it must not replace the result of a full one.
    benchmark = Benchmark("simulation", options.quick or is_partial, seeds=range(repetitions))
    runs, initial = measured(benchmark, works, peers, options.into)
    found: list[Figure] = []
    for work in works:
        own = [run for run in runs if run.work == work]
        table(benchmark, work, own)
        reference = [run.loss for run in own if run.system == _reference(own)]
        fall = statistics.mean(initial[work]) - statistics.mean(reference)
        found += figures(work, own, fall)
    return benchmark.finish(found, rows=[run.row() for run in runs], notes=notes(peers, options))


def notes(peers: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Return what is to be known on how this was measured."""
    principal = ("torch", "pfl", "fedjax", "jax", "flwr", "ray", "numpy")
    lines = []
    for peer in peers:
        found = environments.versions(peer, options.into)
        lines.append(f"{peer}: " + ", ".join(f"{n} {found[n]}" for n in principal if n in found))
    return [
        *lines,
        "daafl, the plain loop and pfl: one process of one thread, unless 'all cores'; Flower: one "
        "actor per core, one thread each; FedJAX: as many threads as JAX takes.",
        "default: default loops, screening and quality loop, no checkpoints, no evaluation; "
        "screening and validation need every client's update, so those are lazy replies.",
        "First finished round: from the start of the process, imports included; the data file is "
        "there.",
    ]


if __name__ == "__main__":
    sys.exit(main())
