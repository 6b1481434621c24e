"""How many rounds a self-chosen learning rate costs against the best rate known in hindsight.

Tasks x Dirichlet alpha x seeds; every fixed rate of a published grid, FedAdam and FedExP, beside
the learning-rate loop. A method's score on a scenario is the number of rounds to 95 % of the
quality that the best fixed rate ends at, over the rounds of that rate. The best fixed rate is
chosen on one half of the seeds and scored on the other half, both ways round.

    python benchmarks/learning_rate.py            # all of it, under two hours on 2 cores
    python benchmarks/learning_rate.py --quick    # one scenario per task, two seeds, few rates

The constants of the loop were tuned on the tasks digits, digits_raw and synthetic, with seeds from
10 up; cnn and next_character were first run here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from _federation import accuracies
from _report import RESULTS, Benchmark, Figure
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy

from daafl.data.partition import Dirichlet
from daafl.learning.task import Task
from daafl.learning.tasks.characters import NextCharacter
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.tasks.synthetic import Synthetic
from daafl.loops import learning_rate
from daafl.strategies import FedExP, LocalTraining, ServerOptimizer

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ALPHAS = (0.1, 0.3, 1.0)
SEEDS = (0, 1, 2, 3, 4)
CENSORED = 1.5  # times its rounds is what a run that never gets there is charged
ROWS = RESULTS / "learning_rate.rows.jsonl"  # finished runs, for --resume
LAST = 5  # evaluations that make up the final quality


@dataclass(frozen=True)
class World:
    """A task with the size of its federation and the length of a run."""

    task: Callable[[Dirichlet, int], Task]
    num_nodes: int
    cohort: int
    num_rounds: int


WORLDS: Mapping[str, World] = {
    "digits": World(lambda part, seed: Digits(partitioner=part, seed=seed), 30, 10, 100),
    "digits_raw": World(
        lambda part, seed: Digits(partitioner=part, seed=seed, scale="raw"), 30, 10, 100
    ),
    "synthetic": World(lambda part, seed: Synthetic(partitioner=part, seed=seed), 100, 20, 100),
    "cnn": World(lambda part, seed: DigitsCnn(partitioner=part, seed=seed), 30, 10, 60),
    "next_character": World(
        lambda part, seed: NextCharacter(
            partitioner=part, seed=seed, characters_per_author=2000, width=16
        ),
        30,
        10,
        60,
    ),
}


@dataclass(frozen=True)
class Job:
    """One run of one method on one scenario."""

    world: str
    alpha: float
    seed: int
    method: str


@dataclass(frozen=True)
class Run:
    """What came of a job."""

    job: Job
    accuracies: tuple[float, ...]
    rollbacks: int


def fixed(rate: float) -> str:
    """Return the name of the method that keeps a rate."""
    return f"fixed {rate:g}"


def run(job: Job) -> Run:
    """Train one federation and return its accuracy after each round."""
    world = WORLDS[job.world]
    task = world.task(Dirichlet(alpha=job.alpha, seed=job.seed), job.seed)
    strategy: Strategy | ServerOptimizer = FedAvg()
    rate, loops = 0.03, ()
    if job.method == "daafl":
        loops = (learning_rate(),)
    elif job.method == "fedadam":
        strategy = FedAdam(eta=0.03)
    elif job.method == "fedexp":
        strategy = FedExP()
    else:
        rate = float(job.method.removeprefix("fixed "))
    trace, summary = accuracies(
        task,
        strategy,
        training=LocalTraining(lr=rate),
        loops=loops,
        num_nodes=world.num_nodes,
        cohort=world.cohort,
        num_rounds=world.num_rounds,
        seed=job.seed,
    )
    return Run(job, tuple(trace), summary.rollbacks)


def rounds_to(trace: Sequence[float], target: float) -> float:
    """Return the first round at which the median of the last three reaches ``target``."""
    smooth = [float(np.median(trace[max(0, i - 2) : i + 1])) for i in range(len(trace))]
    return next(
        (i + 1.0 for i, value in enumerate(smooth) if value >= target), CENSORED * len(trace)
    )


def final(run: Run) -> float:
    """Return the quality a run ends at."""
    return float(np.mean(run.accuracies[-LAST:]))


@dataclass(frozen=True)
class Scenario:
    """Score of one method on one task and alpha, averaged over both halves."""

    world: str
    alpha: float
    method: str
    ratio: float
    rounds: float
    reached: float
    final_gap: float


def scored(runs: Sequence[Run], methods: Sequence[str]) -> list[Scenario]:
    """Return every method's score on the scenario that ``runs`` are all about."""
    by_method = {m: {r.job.seed: r for r in runs if r.job.method == m} for m in methods}
    rates = [m for m in methods if m.startswith("fixed")]
    seeds = sorted(by_method[rates[0]])
    half = (len(seeds) + 1) // 2
    halves = [(seeds[:half], seeds[half:]), (seeds[half:], seeds[:half])]
    scenarios = []
    for method in methods:
        logs, gaps, rounds = [], [], []
        for chosen_on, scored_on in halves:
            quality = {m: np.mean([final(by_method[m][s]) for s in chosen_on]) for m in rates}
            target = 0.95 * max(quality.values())
            best = min(rates, key=lambda m: _mean_log([by_method[m][s] for s in chosen_on], target))
            there = [by_method[method][s] for s in scored_on]
            reference = [by_method[best][s] for s in scored_on]
            logs.append(_mean_log(there, target) - _mean_log(reference, target))
            top = max(rates, key=lambda m: quality[m])
            gaps.append(
                np.mean([final(r) for r in there])
                - np.mean([final(by_method[top][s]) for s in scored_on])
            )
            rounds += [rounds_to(r.accuracies, target) for r in there]
        job = runs[0].job
        scenarios.append(
            Scenario(
                job.world,
                job.alpha,
                method,
                ratio=math.exp(float(np.mean(logs))),
                rounds=float(np.median(rounds)),
                reached=float(np.mean([r <= len(runs[0].accuracies) for r in rounds])),
                final_gap=float(np.mean(gaps)),
            )
        )
    return scenarios


def _mean_log(runs: Sequence[Run], target: float) -> float:
    return float(np.mean([math.log(rounds_to(r.accuracies, target)) for r in runs]))


def _row(run: Run) -> dict[str, object]:
    """Return a run for the results, with as many digits as an accuracy on 360 examples has."""
    return {**asdict(run.job), "rollbacks": run.rollbacks} | {
        "accuracies": [round(accuracy, 4) for accuracy in run.accuracies]
    }


def _kept() -> dict[Job, Run]:
    """Return the runs that an interrupted call had finished."""
    if not ROWS.exists():
        return {}
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    runs = [Run(Job(**r["job"]), tuple(r["accuracies"]), r["rollbacks"]) for r in rows]
    return {run.job: run for run in runs}


def main() -> int:
    """Run everything, print the tables, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small part, in minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="*", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--seeds", nargs="*", type=int, help="development seeds are 10 and up")
    parser.add_argument("--methods", nargs="*", help="default: all")
    parser.add_argument(
        "--resume", action="store_true", help="keep the finished runs of an interrupted call"
    )
    options = parser.parse_args()
    rates = RATES[2:5] if options.quick else RATES
    methods = options.methods or [*map(fixed, rates), "fedadam", "fedexp", "daafl"]
    alphas = ALPHAS[1:2] if options.quick else ALPHAS
    seeds = tuple(options.seeds or (SEEDS[:2] if options.quick else SEEDS))
    jobs = [Job(*job) for job in itertools.product(options.worlds, alphas, seeds, methods)]
    benchmark = Benchmark("learning_rate", quick=options.quick, seeds=seeds)
    finished = _kept() if options.resume else {}
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        ROWS.unlink(missing_ok=True)
    missing = [job for job in jobs if job not in finished]
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for done in benchmark.progress(pool.imap_unordered(run, missing), total=len(missing)):
            finished[done.job] = done
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done)) + "\n")
    runs = [finished[job] for job in jobs]
    scenarios = [
        scenario
        for world, alpha in itertools.product(options.worlds, alphas)
        for scenario in scored(
            sorted(
                (r for r in runs if (r.job.world, r.job.alpha) == (world, alpha)),
                key=lambda r: (r.job.seed, r.job.method),
            ),
            methods,
        )
    ]
    figures = []
    for method in methods:
        ours = [s for s in scenarios if s.method == method]
        ratios = [s.ratio for s in ours]
        mean = math.exp(float(np.mean(np.log(ratios))))
        is_ours = method == "daafl"
        spread = (min(ratios), max(ratios))
        figures += [
            Figure(
                f"{method}: rounds vs best fixed, geometric mean",
                mean,
                "x",
                bar=1.30 if is_ours else None,
                holds=mean <= 1.30 if is_ours else None,
                spread=spread,
            ),
            Figure(
                f"{method}: rounds vs best fixed, worst",
                max(ratios),
                "x",
                bar=2.0 if is_ours else None,
                holds=max(ratios) <= 2.0 if is_ours else None,
                spread=spread,
            ),
        ]
    benchmark.table(
        "Rounds to 95 % of the best fixed rate's quality, over the rounds of that rate",
        ["task", "alpha", *methods],
        [
            [world, f"{alpha:g}"]
            + [
                f"{s.ratio:.2f}"
                for m in methods
                for s in scenarios
                if (s.world, s.alpha, s.method) == (world, alpha, m)
            ]
            for world, alpha in itertools.product(options.worlds, alphas)
        ],
    )
    return benchmark.finish(
        figures,
        rows=[asdict(s) for s in scenarios] + [_row(r) for r in runs],
    )


if __name__ == "__main__":
    sys.exit(main())
