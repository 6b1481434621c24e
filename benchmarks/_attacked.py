"""Federations under attack, for `attacks.py`: the worlds, the attacks, the rules, and one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from _federation import accuracies
from flwr.serverapp.strategy import FedAvg, Strategy

from daafl.autonomy.policy import Loop
from daafl.data.partition import Dirichlet
from daafl.learning.layout import Packed
from daafl.learning.task import Task
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer
from daafl.loops import health, learning_rate, quality
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation.attacks import (
    Adaptive,
    Alie,
    Attack,
    Backdoor,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    Lies,
    SignFlip,
    Sleeper,
    Sybils,
    attack_success_rate,
    hostile,
)
from daafl.strategies import (
    Bucketing,
    CentredClipping,
    CoordinateMedian,
    GeometricMedian,
    LocalTraining,
    MultiKrum,
    ServerOptimizer,
    TrimmedMean,
)

NUM_NODES: Final = 30
FIXED_RATE: Final = 0.1
OURS: Final = "daafl"
CLEAN: Final = "none"
ADAPTIVE: Final = "adaptive"
BACKDOOR: Final = "backdoor"  # how the names of such attacks begin
LATE: Final = "late"
LATE_ROUNDS: Final = (15, 35)  # first and last round of the attack that ends
BACKDOOR_SUCCESS: Final = "backdoor_success"

LIES: Final = Lies(loss_factor=10.0, reverses_probes=True, inverts_votes=True)
COUNTS: Final = Lies(
    loss_factor=10.0, examples_factor=10.0, reverses_probes=True, inverts_votes=True
)

ATTACKS: Final[Mapping[str, Callable[..., Attack]]] = {
    "label flip 30%": partial(Attack, LabelFlip(), share=0.3, lies=LIES),
    "sign x3 20%": partial(Attack, SignFlip(3.0), share=0.2, lies=LIES),
    "sign x1 30%": partial(Attack, SignFlip(1.0), share=0.3, lies=LIES),
    "gaussian 30%": partial(Attack, Gaussian(10.0), share=0.3, lies=LIES),
    "ALIE 20%": partial(Attack, Alie(1.5), share=0.2, lies=LIES),
    "IPM 30%": partial(Attack, InnerProduct(1.0), share=0.3, lies=LIES),
    "free rider 20%": partial(Attack, FreeRider(), share=0.2),
    "sybils 30%": partial(Attack, Sybils(LabelFlip()), share=0.3, lies=LIES),
    "sleeper 20%": partial(Attack, Sleeper(SignFlip(3.0)), share=0.2, lies=LIES),
    "counts x10 20%": partial(Attack, LabelFlip(), share=0.2, lies=COUNTS),
    LATE: partial(
        Attack, SignFlip(3.0), share=0.2, lies=LIES, start=LATE_ROUNDS[0], stop=LATE_ROUNDS[1]
    ),
    "backdoor x3 20%": partial(Attack, Backdoor(scale=3.0), share=0.2),
    "backdoor x1 20%": partial(Attack, Backdoor(scale=1.0), share=0.2),
}
"""Attacks by name; each is called with the seed of the draw of the attackers."""


@dataclass(frozen=True)
class Rule:
    """A way to combine updates.

    Parameters
    ----------
    make
        Makes the server optimiser.
    known_as
        Its name to the adaptive attacker.
    """

    make: Callable[[], Strategy | ServerOptimizer]
    known_as: str


RULES: Final[Mapping[str, Rule]] = {
    "mean": Rule(FedAvg, "mean"),
    "median": Rule(CoordinateMedian, "median"),
    "trimmed": Rule(lambda: TrimmedMean(share=0.3), "trimmed_mean"),
    "multi-Krum": Rule(MultiKrum, "multi_krum"),
    "RFA": Rule(GeometricMedian, "geometric_median"),
    "clipping": Rule(CentredClipping, "centred_clipping"),
    "bucketing": Rule(lambda: Bucketing(TrimmedMean(share=0.35)), "bucketing"),
    OURS: Rule(FedAvg, "screening"),
}
"""Fixed rules by name, and daafl's screening over the plain mean."""


@dataclass(frozen=True)
class World:
    """A task with the size of its federation, the length of a run, and what is run in it."""

    task: Callable[[Dirichlet, int], Task]
    alpha: float
    cohort: int
    num_rounds: int
    scenarios: Sequence[str]


WORLDS: Final[Mapping[str, World]] = {
    "digits": World(
        lambda part, seed: Digits(partitioner=part, seed=seed),
        alpha=0.3,
        cohort=30,
        num_rounds=50,
        scenarios=(CLEAN, *ATTACKS, ADAPTIVE),
    ),
    "digits, 15 of 30": World(
        lambda part, seed: Digits(partitioner=part, seed=seed),
        alpha=0.3,
        cohort=15,
        num_rounds=50,
        scenarios=(CLEAN, "sign x3 20%"),
    ),
    "digits, alpha 0.1": World(
        lambda part, seed: Digits(partitioner=part, seed=seed),
        alpha=0.1,
        cohort=30,
        num_rounds=50,
        scenarios=(CLEAN,),
    ),
    "cnn": World(
        lambda part, seed: DigitsCnn(partitioner=part, seed=seed),
        alpha=0.3,
        cohort=15,
        num_rounds=25,
        scenarios=(CLEAN, "label flip 30%", "sign x3 20%", ADAPTIVE),
    ),
}


@dataclass(frozen=True)
class Job:
    """One run: a rule in a world under an attack."""

    world: str
    scenario: str
    rule: str
    seed: int
    own_rate: bool = False


@dataclass(frozen=True)
class Run:
    """What came of a job.

    Parameters
    ----------
    accuracies
        After each round.
    backdoor_success
        Share of triggered inputs that the final model takes for the target; ``None`` without a
        backdoor.
    flagged_honest, flagged_hostile
        Updates left out, by who sent them.
    updates
        Updates that were combined or left out.
    """

    job: Job
    accuracies: tuple[float, ...]
    backdoor_success: float | None
    flagged_honest: int
    flagged_hostile: int
    updates: int

    @property
    def final(self) -> float:
        """Quality the run ends at: the mean accuracy after its last five rounds."""
        last = self.accuracies[-5:]
        return sum(last) / len(last)


class Watch:
    """Counts what screening leaves out, and keeps the last success of a backdoor."""

    def __init__(self, attackers: Sequence[int]) -> None:
        self._attackers = frozenset(attackers)
        self.flagged_honest = self.flagged_hostile = self.updates = 0
        self.backdoor_success: float | None = None

    def started(self, info: RunInfo) -> None:
        """Nothing to note."""

    def stepped(self, record: StepRecord) -> None:
        """Count the step's flags."""
        hostile_flags = sum(flag.node in self._attackers for flag in record.flags)
        self.flagged_hostile += hostile_flags
        self.flagged_honest += len(record.flags) - hostile_flags
        self.updates += record.num_updates + len(record.flags)
        self.backdoor_success = record.metrics.get(BACKDOOR_SUCCESS, self.backdoor_success)

    def finished(self, summary: RunSummary) -> None:
        """Nothing to note."""


def attack_of(job: Job) -> Attack | None:
    """Return the attack of a job; the adaptive one is prepared for the job's rule."""
    if job.scenario == CLEAN:
        return None
    if job.scenario == ADAPTIVE:
        does = Adaptive(RULES[job.rule].known_as)
        return Attack(does, share=0.2, lies=LIES, seed=job.seed)
    return ATTACKS[job.scenario](seed=job.seed)


def run(job: Job) -> Run:
    """Train one federation and return its accuracy after each round, and what was flagged."""
    world = WORLDS[job.world]
    task = world.task(Dirichlet(alpha=world.alpha, seed=job.seed), job.seed)
    attack = attack_of(job)
    watch = Watch(() if attack is None else attack.attackers(NUM_NODES))
    loops: tuple[Loop, ...] = (health(), quality()) if job.rule == OURS else ()
    trace, _ = accuracies(
        task,
        RULES[job.rule].make(),
        training=LocalTraining(lr=FIXED_RATE),
        loops=(*loops, learning_rate()) if job.own_rate else loops,
        num_nodes=NUM_NODES,
        cohort=world.cohort,
        num_rounds=world.num_rounds,
        seed=job.seed,
        mods=[] if attack is None else [hostile(attack, task, NUM_NODES)],
        observers=[watch],
        measure=partial(_success, attack.does)
        if attack is not None and isinstance(attack.does, Backdoor)
        else None,
    )
    return Run(
        job,
        tuple(trace),
        watch.backdoor_success,
        watch.flagged_honest,
        watch.flagged_hostile,
        watch.updates,
    )


def _success(backdoor: Backdoor, trainer: TorchTrainer, packed: Packed) -> Mapping[str, float]:
    examples = trainer.task.evaluation_data()
    if examples is None:
        raise ValueError(f"task {trainer.task.name} has no evaluation data")
    return {BACKDOOR_SUCCESS: attack_success_rate(backdoor, trainer, packed, examples)}
