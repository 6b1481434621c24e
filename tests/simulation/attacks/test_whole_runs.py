"""What attacks do to whole federations, and that it does not matter who simulates them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import daafl
from daafl.data.partition import Dirichlet
from daafl.errors import ConfigError
from daafl.learning.tasks.digits import Digits
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation.attacks import (
    Alie,
    Attack,
    Behaviour,
    Duplicated,
    Gaussian,
    LabelFlip,
    Lies,
    NotFinite,
    Replayed,
    SignFlip,
    Sybils,
)
from daafl.strategies import Pacing

NUM_NODES = 10
TASK = Digits(partitioner=Dirichlet(alpha=1.0, seed=0))


class Watch:
    """Remembers what a run tells."""

    def __init__(self) -> None:
        self.info: RunInfo | None = None
        self.steps: list[StepRecord] = []

    def started(self, info: RunInfo) -> None:
        self.info = info

    def stepped(self, record: StepRecord) -> None:
        self.steps.append(record)

    def finished(self, summary: RunSummary) -> None:
        pass


def trained(
    folder: Path, attack: Attack | None, *, workers: int = 0, num_rounds: int = 12
) -> tuple[Mapping[str, np.ndarray], Watch]:
    """Return the final arrays of a plain mean over all nodes, and what the run told."""
    watch = Watch()
    result = daafl.run(
        TASK,
        num_nodes=NUM_NODES,
        num_rounds=num_rounds,
        pacing=Pacing(concurrency=NUM_NODES, quorum=NUM_NODES),
        loops=(),
        attack=attack,
        workers=workers,
        output_dir=folder / f"{workers}",
        progress=watch,
    )
    return result.arrays, watch


def accuracies(watch: Watch) -> list[float]:
    return [record.metrics["accuracy"] for record in watch.steps]


def test_sign_flips_of_triple_length_stop_a_plain_mean(tmp_path: Path) -> None:
    """Three of ten nodes with -3 outweigh seven with 1: what is learned is unlearned."""
    _, clean = trained(tmp_path / "clean", None)
    _, attacked = trained(tmp_path / "hit", Attack(SignFlip(3.0), share=0.3, start=7))
    assert accuracies(clean)[-1] > 0.85
    assert accuracies(attacked)[:6] == accuracies(clean)[:6]
    assert accuracies(attacked)[-1] < 0.3


def test_training_recovers_when_the_attack_ends(tmp_path: Path) -> None:
    attack = Attack(SignFlip(3.0), share=0.3, start=5, stop=6)
    _, watch = trained(tmp_path, attack, num_rounds=16)
    during, after = accuracies(watch)[5], accuracies(watch)[-1]
    assert during < accuracies(watch)[3] - 0.1
    assert after > 0.8


def test_a_run_tells_who_attacks(tmp_path: Path) -> None:
    attack = Attack(SignFlip(), share=0.3, seed=5)
    _, watch = trained(tmp_path / "hit", attack, num_rounds=1)
    assert watch.info is not None
    assert watch.info.attackers == attack.attackers(NUM_NODES)
    _, watch = trained(tmp_path / "clean", None, num_rounds=1)
    assert watch.info is not None
    assert watch.info.attackers == ()


def test_refused_updates_are_counted_and_the_rest_is_combined(tmp_path: Path) -> None:
    _, watch = trained(tmp_path, Attack(NotFinite(), share=0.3), num_rounds=2)
    assert [dict(record.rejected) for record in watch.steps] == [{"finiteness": 3}] * 2
    assert [record.num_updates for record in watch.steps] == [7, 7]


def test_false_counts_give_an_attacker_its_weight_in_a_plain_mean(tmp_path: Path) -> None:
    attack = Attack(SignFlip(), nodes=[0], lies=Lies(examples_factor=1e6))
    _, watch = trained(tmp_path, attack, num_rounds=3)
    count = len(TASK.node_data(0, NUM_NODES))
    others = sum(len(TASK.node_data(node, NUM_NODES)) for node in range(1, NUM_NODES))
    assert watch.steps[0].num_examples == count * 10**6 + others
    assert accuracies(watch)[-1] < 0.3


@pytest.mark.parametrize(
    "does",
    [Alie(), Sybils(LabelFlip()), Gaussian(1.0), Replayed(), Duplicated()],
    ids=lambda does: type(does).__name__,
)
def test_any_number_of_workers_gives_the_same_run(does: Behaviour, tmp_path: Path) -> None:
    attack = Attack(does, share=0.3, start=2, lies=Lies(10.0, 2.0, True, True))
    alone, watch = trained(tmp_path, attack, workers=0, num_rounds=3)
    for workers in (1, 2):
        arrays, same = trained(tmp_path, attack, workers=workers, num_rounds=3)
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in alone.items()
        }
        assert [dict(r.rejected) for r in same.steps] == [dict(r.rejected) for r in watch.steps]


def test_attackers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names node 99"):
        trained(tmp_path, Attack(SignFlip(), nodes=[99]))
