"""What a federation that screens its updates loses to the best rule known in hindsight.

Attacks x rules x seeds: the plain mean, six robust rules, and daafl's screening over the plain
mean, all at the same learning rate. A run's quality is its mean accuracy after the last five
rounds. The regret under an attack is the quality of the best fixed rule for that attack, chosen in
hindsight on the same seeds, less that of daafl. Attackers also lie in losses, probes and votes;
under ``counts x10`` in numbers of examples too. The adaptive attacker searches for the update that
harms the rule in force most, anew for every rule.

    python benchmarks/attacks.py              # all of it, under an hour on 2 cores
    python benchmarks/attacks.py --quick      # a few attacks, two seeds, few rounds: minutes
    python benchmarks/attacks.py --only "digits/sign x3 20%" --rules mean daafl
    python benchmarks/attacks.py --own-rate   # every rule with the learning-rate loop

The convolutional network, and the federation that trains 15 of its 30 nodes at a time, meet fewer
attacks, so that the whole fits into an hour.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import _attacked
from _attacked import (
    ADAPTIVE,
    BACKDOOR,
    CLEAN,
    LATE,
    LATE_ROUNDS,
    OURS,
    RULES,
    WORLDS,
    Job,
    Run,
)
from _report import RESULTS, Benchmark, Figure

SEEDS = (0, 1, 2, 3, 4)
QUICK = {"digits": (CLEAN, "label flip 30%", "sign x3 20%", ADAPTIVE)}
QUICK_RULES = ("mean", "RFA", OURS)
BEST_EXCLUDES = (CLEAN, ADAPTIVE)  # scenarios with bars of their own
RECOVERED_WITHIN = 0.02

Runs = Mapping[Job, Run]


class Scores:
    """What came of all runs, looked up by world, scenario and rule.

    Parameters
    ----------
    runs
        Finished runs.
    rules, seeds
        What was run everywhere.
    """

    def __init__(self, runs: Runs, rules: Sequence[str], seeds: Sequence[int]) -> None:
        self.rules = rules
        self._seeds = seeds
        self._runs = {
            (job.world, job.scenario, job.rule, job.seed): run for job, run in runs.items()
        }
        self.scenarios = sorted(
            {(job.world, job.scenario) for job in runs},
            key=lambda pair: (
                list(WORLDS).index(pair[0]),
                WORLDS[pair[0]].scenarios.index(pair[1]),
            ),
        )

    def of(self, world: str, scenario: str, rule: str) -> list[Run]:
        """Return the runs of a rule, one per seed."""
        return [self._runs[world, scenario, rule, seed] for seed in self._seeds]

    def mean(
        self,
        world: str,
        scenario: str,
        rule: str,
        value: Callable[[Run], float] = lambda r: r.final,
    ) -> float:
        """Return the mean over the seeds of a figure of a rule's runs, by default the quality."""
        return statistics.mean(value(run) for run in self.of(world, scenario, rule))

    def regret(self, world: str, scenario: str) -> float:
        """Return what daafl loses to the fixed rule that does best against an attack."""
        fixed = [rule for rule in self.rules if rule != OURS]
        best = max(self.mean(world, scenario, rule) for rule in fixed)
        return best - self.mean(world, scenario, OURS)


def figures(scores: Scores) -> list[Figure]:
    """Return every figure that the runs at hand allow."""
    found: list[Figure] = []
    if OURS not in scores.rules or len(scores.rules) < 2:
        return found
    regrets = [scores.regret(*pair) for pair in scores.scenarios if pair[1] not in BEST_EXCLUDES]
    if regrets:
        spread = (min(regrets), max(regrets))
        found.append(
            _at_most("regret to the best rule, mean", statistics.mean(regrets), 0.01, spread)
        )
        found.append(_at_most("regret to the best rule, worst", max(regrets), 0.02, spread))
    for world, scenario in scores.scenarios:
        if scenario == CLEAN:
            found += _clean_figures(scores, world)
        elif scenario == ADAPTIVE and (world, CLEAN) in scores.scenarios:
            found += _adaptive_figures(scores, world)
        elif scenario.startswith(BACKDOOR):
            found += _backdoor_figures(scores, world, scenario)
        elif scenario == LATE and (world, CLEAN) in scores.scenarios:
            rounds = [float(count) for count in _rounds_to_recover(scores, world)]
            spread = (min(rounds), max(rounds))
            found.append(
                _at_most(f"{world}: rounds to recover, worst", max(rounds), 5, spread, "rounds")
            )
    return found


def _clean_figures(scores: Scores, world: str) -> list[Figure]:
    runs = scores.of(world, CLEAN, OURS)
    rates = [run.flagged_honest / max(run.updates, 1) for run in runs]
    spread = (min(rates), max(rates))
    found = [_at_most(f"{world}: false positives", statistics.mean(rates), 0.05, spread)]
    if "mean" in scores.rules:
        costs = [
            plain.final - ours.final
            for plain, ours in zip(scores.of(world, CLEAN, "mean"), runs, strict=True)
        ]
        bar = 0.01 if WORLDS[world].alpha >= 0.3 else 0.02
        spread = (min(costs), max(costs))
        found.append(_at_most(f"{world}: cost without attack", statistics.mean(costs), bar, spread))
    return found


def _adaptive_figures(scores: Scores, world: str) -> list[Figure]:
    found = []
    for rule in scores.rules:
        clean, hit = scores.of(world, CLEAN, rule), scores.of(world, ADAPTIVE, rule)
        losses = [before.final - after.final for before, after in zip(clean, hit, strict=True)]
        spread = (min(losses), max(losses))
        name, value = f"{world}: {rule} loses to the adaptive attacker", statistics.mean(losses)
        found.append(
            _at_most(name, value, 0.03, spread)
            if rule == OURS
            else Figure(name, value, "", spread=spread)
        )
    return found


def _backdoor_figures(scores: Scores, world: str, scenario: str) -> list[Figure]:
    rates = {
        rule: scores.mean(world, scenario, rule, lambda run: run.backdoor_success or 0.0)
        for rule in scores.rules
    }
    found = [
        Figure(f"{world}: {scenario}, success against {rule}", rate, "")
        for rule, rate in rates.items()
        if rule != OURS
    ]
    bar = min(rate for rule, rate in rates.items() if rule != OURS) + 0.05
    found.append(
        _at_most(f"{world}: {scenario}, success against {OURS}", rates[OURS], round(bar, 4))
    )
    return found


def _rounds_to_recover(scores: Scores, world: str) -> list[int]:
    """Return per seed the rounds after the attack until accuracy is that of a clean run again.

    Clean is daafl's own run without attack, in the same round, less two points. Rounds that are
    left count if it never gets there, and one more.
    """
    counts = []
    clean, late = scores.of(world, CLEAN, OURS), scores.of(world, LATE, OURS)
    for before, after in zip(clean, late, strict=True):
        pairs = list(zip(before.accuracies, after.accuracies, strict=True))[LATE_ROUNDS[1] :]
        back = [i for i, (c, a) in enumerate(pairs, start=1) if a >= c - RECOVERED_WITHIN]
        counts.append(back[0] if back else len(pairs) + 1)
    return counts


def _at_most(
    name: str,
    value: float,
    bar: float,
    spread: tuple[float, float] | None = None,
    unit: str = "",
) -> Figure:
    return Figure(name, value, unit, f"<= {bar:g}", value <= bar, spread)


def _tables(benchmark: Benchmark, scores: Scores) -> None:
    """Print accuracy by attack and rule, and what was left out of whom."""
    rows = []
    for world, scenario in scores.scenarios:
        values = [scores.mean(world, scenario, rule) for rule in scores.rules]
        shown = [f"{value:.3f}" for value in values]
        has_regret = OURS in scores.rules and len(scores.rules) > 1
        regret = f"{scores.regret(world, scenario):+.3f}" if has_regret else ""
        rows.append([f"{world} / {scenario}", *shown, regret])
    benchmark.table(
        "Accuracy at the end, mean over seeds", ["attack", *scores.rules, "regret"], rows
    )
    if OURS not in scores.rules:
        return
    flags = []
    for world, scenario in scores.scenarios:
        updates = scores.mean(world, scenario, OURS, lambda run: run.updates)
        honest = scores.mean(world, scenario, OURS, lambda run: run.flagged_honest)
        hostile = scores.mean(world, scenario, OURS, lambda run: run.flagged_hostile)
        flags.append([f"{world} / {scenario}", f"{updates:.0f}", f"{honest:.1f}", f"{hostile:.1f}"])
    benchmark.table(
        f"Updates that {OURS} left out, per run",
        ["attack", "updates", "of honest nodes", "of attackers"],
        flags,
    )


def _row(run: Run) -> dict[str, object]:
    """Return a run for the results, with as many digits as an accuracy on 360 examples has."""
    row = {**asdict(run.job), **asdict(run)}
    del row["job"]
    return row | {"accuracies": [round(accuracy, 4) for accuracy in run.accuracies]}


def _kept(path: str) -> dict[Job, Run]:
    """Return the runs that an interrupted call had finished."""
    file = RESULTS / path
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    runs = [
        Run(Job(**row.pop("job")), tuple(row.pop("accuracies")), **row) for row in map(dict, rows)
    ]
    return {run.job: run for run in runs}


def _chosen(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the pairs of world and scenario to run."""
    pairs = [
        (world, scenario)
        for world, setting in WORLDS.items()
        for scenario in setting.scenarios
        if not options.quick or scenario in QUICK.get(world, ())
    ]
    if options.only:
        pairs = [
            (world, scenario)
            for world, scenario in pairs
            if any(text in (world, scenario, f"{world}/{scenario}") for text in options.only)
        ]
    return pairs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small part, in minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="worlds, attacks, or WORLD/ATTACK pairs"
    )
    parser.add_argument("--rules", nargs="*", choices=list(RULES), help="default: all")
    parser.add_argument("--seeds", nargs="*", type=int, help="development seeds are 10 and up")
    parser.add_argument(
        "--own-rate", action="store_true", help="let every federation choose its learning rate"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the finished runs of an interrupted call"
    )
    return parser.parse_args()


def main() -> int:
    """Run everything, print the tables, write the results."""
    options = _options()
    rules = options.rules or (QUICK_RULES if options.quick else tuple(RULES))
    seeds = tuple(options.seeds or (SEEDS[:2] if options.quick else SEEDS))
    pairs = _chosen(options)
    if not pairs:
        sys.exit("nothing is called that; see WORLDS and ATTACKS in benchmarks/_attacked.py")
    jobs = [
        Job(world, scenario, rule, seed, options.own_rate)
        for world, scenario in pairs
        for rule in rules
        for seed in seeds
    ]
    name = "attacks_own_rate" if options.own_rate else "attacks"
    # A part, like a quick run, must not replace the full result.
    is_part = options.quick or bool(options.only or options.rules or options.seeds)
    benchmark = Benchmark(name, quick=is_part, seeds=seeds)
    path = f"{name}.rows.jsonl"
    finished = _kept(path) if options.resume else {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        (RESULTS / path).unlink(missing_ok=True)
    missing = [job for job in jobs if job not in finished]
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for done in benchmark.progress(
            pool.imap_unordered(_attacked.run, missing), total=len(missing)
        ):
            finished[done.job] = done
            with (RESULTS / path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done)) + "\n")
    runs = {job: finished[job] for job in jobs}
    scores = Scores(runs, rules, seeds)
    _tables(benchmark, scores)
    return benchmark.finish(figures(scores), rows=[_row(run) for run in runs.values()])


if __name__ == "__main__":
    sys.exit(main())
