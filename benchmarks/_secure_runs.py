"""The quickstart when nobody sees a single update: what secrecy costs, without and under attack.

Without attack the main job runs in the clear, in masked sums and encrypted, 10 of 30 nodes to a
step. Under its attack, 6 of the 30 nodes send -3 times their update from round 15 on and lie about
losses, probes and votes. All 30 nodes take part in a step then: screened one by one in the clear,
as three sums of ten, and as those sums with the quality loop left out. Three groups bear one
hostile member group (``f g < K / 2``), so six hostile nodes are beyond what any rule over sums can
promise; a second attack of one node that sends -30 times its update is within it.

Accuracy is the mean over a run's last five rounds, so that single rounds do not decide.

Budget: half an hour on one core.
"""

from __future__ import annotations

import importlib.util
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _report import Figure

import daafl
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits
from daafl.loops import default_loops, health, learning_rate
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.secure.settings import EncryptedSums, MaskedSums, Security
from daafl.simulation.attacks import Attack, Lies, SignFlip
from daafl.strategies import Pacing

SEEDS: Final = (0, 1, 2, 3, 4)
ATTACKED_SEEDS: Final = (0, 1, 2)
NUM_NODES: Final = 30
NUM_ROUNDS: Final = 60
GROUP_SIZE: Final = 8
LAST: Final = 5

WITHIN: Final = "one node x -30"
QUICKSTART: Final = "six nodes x -3"
_LIES: Final = Lies(loss_factor=10.0, reverses_probes=True, inverts_votes=True)


@dataclass(frozen=True)
class Way:
    """How updates travel and what looks at them."""

    secure: Security | None
    is_screened: bool = True


OPEN: Final[Mapping[str, Way]] = {"plain": Way(None), "secagg": Way(MaskedSums())}
"""Ways to run the main job without attack; ``he`` joins them where its library is installed."""

ATTACKED: Final[Mapping[str, Way]] = {
    "individual": Way(None),
    "groups": Way(MaskedSums(group_size=GROUP_SIZE)),
    "no defence": Way(MaskedSums(group_size=GROUP_SIZE), is_screened=False),
}

NOTES: Final = (
    f"under attack three groups of ten bear one hostile group; {QUICKSTART} are in nearly all of "
    "them, and nothing over sums can be promised there",
    "hostile nodes do not keep to the clip bound that honest ones are told; only a proved bound "
    "would hold them to it",
)


class Trace:
    """Keeps a run's accuracy after each round, and counts what was left out."""

    def __init__(self) -> None:
        self.accuracies: list[float] = []
        self.num_left_out = self.num_restored = 0
        self.quarantined: set[int] = set()

    def started(self, info: RunInfo) -> None:
        """Nothing to note."""

    def stepped(self, record: StepRecord) -> None:
        """Note the step."""
        if record.kind == "train":
            self.accuracies.append(record.metrics["accuracy"])
        self.num_left_out += len(record.flags)
        self.num_restored += record.restored is not None
        self.quarantined.update(record.quarantined)

    def finished(self, summary: RunSummary) -> None:
        """Nothing to note."""


def attack_of(name: str, seed: int) -> Attack | None:
    """Return an attack by name; ``None`` for none."""
    if name == QUICKSTART:
        return Attack(SignFlip(3.0), share=0.2, start=15, lies=_LIES, seed=seed)
    if name == WITHIN:
        return Attack(SignFlip(30.0), share=1 / NUM_NODES, start=15, lies=_LIES, seed=seed)
    return None


def run(way: Way, *, attack: str, cohort: int, seed: int, num_rounds: int) -> dict[str, Any]:
    """Train the main job once and return what came of it."""
    trace, start_s = Trace(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        daafl.run(
            Digits(partitioner=Dirichlet(alpha=0.3, seed=seed)),
            num_nodes=NUM_NODES,
            num_rounds=num_rounds,
            secure=way.secure,
            pacing=Pacing(concurrency=cohort, quorum=cohort),
            loops=default_loops() if way.is_screened else (health(), learning_rate()),
            attack=attack_of(attack, seed),
            seed=seed,
            workers=0,
            trainer="eager",
            checkpoint_every=0,
            output_dir=Path(folder) / "run",
            progress=trace,
        )
    return {
        "attack": attack,
        "seed": seed,
        "cohort": cohort,
        "accuracy": statistics.fmean(trace.accuracies[-LAST:]),
        "left_out": trace.num_left_out,
        "restored": trace.num_restored,
        "quarantined": sorted(trace.quarantined),
        "cpu_s": time.process_time() - start_s,
    }


def ways() -> dict[str, Way]:
    """Return the ways to run the main job that can be measured here."""
    found = dict(OPEN)
    if importlib.util.find_spec("tenseal") is not None:
        found["he"] = Way(EncryptedSums())
    return found


def figures(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and a row per run."""
    logging.getLogger("daafl").setLevel(logging.ERROR)
    num_rounds, seeds = (20, (0,)) if quick else (NUM_ROUNDS, SEEDS)
    attacked_seeds = seeds if quick else ATTACKED_SEEDS
    rows = [
        {"way": name, **run(way, attack="none", cohort=10, seed=seed, num_rounds=num_rounds)}
        for name, way in ways().items()
        for seed in seeds
    ]
    rows += [
        {"way": name, **run(way, attack=attack, cohort=30, seed=seed, num_rounds=num_rounds)}
        for attack in (QUICKSTART, WITHIN)
        for name, way in ATTACKED.items()
        for seed in attacked_seeds
    ]
    return _figures(rows), rows


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    found: list[Figure] = []
    plain = _accuracies(rows, "plain", "none")
    found.append(Figure.of("no attack, plain: accuracy", plain, "%"))
    for name in ways():
        if name == "plain":
            continue
        hidden = _accuracies(rows, name, "none")
        lost = [a - b for a, b in zip(plain, hidden, strict=True)]
        found.append(Figure.of(f"no attack, {name}: accuracy", hidden, "%"))
        found.append(Figure.of(f"no attack, {name}: points lost", lost, "points", at_most=1.0))
    for attack in (QUICKSTART, WITHIN):
        of = {name: _accuracies(rows, name, attack) for name in ATTACKED}
        for name, values in of.items():
            found.append(Figure.of(f"{attack}, {name}: accuracy", values, "%"))
        lost = [a - b for a, b in zip(of["individual"], of["groups"], strict=True)]
        won = [a - b for a, b in zip(of["groups"], of["no defence"], strict=True)]
        found.append(Figure.of(f"{attack}, groups: points below individual", lost, "points"))
        found.append(Figure.of(f"{attack}, groups: points above no defence", won, "points"))
    return found


def _accuracies(rows: Sequence[Mapping[str, Any]], way: str, attack: str) -> list[float]:
    return [100 * row["accuracy"] for row in rows if (row["way"], row["attack"]) == (way, attack)]
