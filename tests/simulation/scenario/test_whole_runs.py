"""Whole federations in which things go wrong on a schedule."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import daafl
from daafl.data.partition import Iid
from daafl.errors import ConfigError, FederationError
from daafl.learning.tasks.digits import Digits
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation.attacks import Attack, SignFlip
from daafl.simulation.scenario import (
    Attackers,
    Churn,
    ConceptDrift,
    Crash,
    Duplication,
    Event,
    LabelDrift,
    LateReplies,
    MessageLoss,
    Reordering,
    Scenario,
    Stragglers,
)
from daafl.strategies import Pacing

NUM_NODES = 10
TASK = Digits(partitioner=Iid())
IMPATIENT = Pacing(
    concurrency=6, quorum=4, deadline_s=2.0, reply_timeout_s=4.0, max_staleness=8, refill="reply"
)
TROUBLE = (
    MessageLoss(probability=0.1),
    Duplication(probability=0.3, delay_s=2.0),
    Reordering(delay_s=1.0),
    LateReplies(fraction=0.3, delay_s=1.5, at_s=3.0),
    Stragglers(nodes="0-2", factor=5.0, at_s=2.0, until_s=10.0),
    Churn(nodes="3-6", present_s=4.0, away_s=1.0),
    Crash(nodes=9, at_s=6.0),
    Attackers(nodes=[1], at_s=4.0, does="sign_flip"),
    Attackers(nodes=[7, 8], at_s=2.0, until_s=8.0, does="sybils"),
    LabelDrift(at_s=1.0, over_s=10.0, share=0.5),
    ConceptDrift(at_s=5.0, cycles=[[0, 1]], fraction=0.5),
)


class Watch:
    """Remembers what a run tells, and presses Ctrl-C after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.accuracies: list[tuple[float, float]] = []
        self.info: RunInfo | None = None

    def started(self, info: RunInfo) -> None:
        self.info = info

    def stepped(self, record: StepRecord) -> None:
        if "accuracy" in record.metrics:
            self.accuracies.append((record.clock_s, record.metrics["accuracy"]))
        if record.kind == "train" and record.step == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, summary: RunSummary) -> None: ...


def run(folder: Path, events: Sequence[Event], **options: Any) -> daafl.RunResult:
    values: dict[str, Any] = {
        "num_nodes": NUM_NODES,
        "num_rounds": 15,
        "pacing": IMPATIENT,
        "workers": 0,
        "progress": "quiet",
        "scenario": Scenario(NUM_NODES, events, seed=4),
    }
    return daafl.run(TASK, output_dir=folder, **{**values, **options})


def told(folder: Path) -> list[dict[str, Any]]:
    """Return a run's steps without what a clock on the wall decides."""
    steps = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for step in steps:
        del step["wall"]
    return steps


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run through all kinds of trouble, in one process and in one go."""
    folder = tmp_path_factory.mktemp("troubled") / "run"
    run(folder, TROUBLE)
    return folder


def test_a_troubled_run_gets_through(troubled: Path) -> None:
    steps = told(troubled)
    assert [step["step"] for step in steps if step["kind"] == "train"][-1] == 15
    clock = [step["clock_s"] for step in steps]
    assert clock == sorted(clock)


def test_two_processes_make_the_same_run(troubled: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", TROUBLE, workers=2)
    assert told(tmp_path / "run") == told(troubled)
    model = "checkpoints/model.npz"
    assert (tmp_path / "run" / model).read_bytes() == (troubled / model).read_bytes()


@pytest.mark.parametrize("step", [3, 8])
def test_going_on_in_the_middle_makes_the_same_run(
    troubled: Path, tmp_path: Path, step: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", TROUBLE, progress=Watch(stop_after=step))
    run(tmp_path / "run", TROUBLE, resume=True)
    assert told(tmp_path / "run") == told(troubled)
    model = "checkpoints/model.npz"
    assert (tmp_path / "run" / model).read_bytes() == (troubled / model).read_bytes()


def test_a_run_goes_on_with_its_own_scenario_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", TROUBLE, progress=Watch(stop_after=3))
    with pytest.raises(FederationError):
        run(tmp_path / "run", TROUBLE[:-1], resume=True)


def test_attackers_join_and_leave(tmp_path: Path) -> None:
    """Half the nodes send -5 times their update for a while: the plain mean goes backwards."""
    watch = Watch()
    everybody = Pacing(concurrency=NUM_NODES, quorum=NUM_NODES)
    attackers = Attackers(
        nodes="0-4", at_s=6.0, until_s=10.0, does="sign_flip", parameters={"scale": 5.0}
    )
    run(tmp_path, [attackers], progress=watch, pacing=everybody, num_rounds=30, loops=())
    before = max(accuracy for clock_s, accuracy in watch.accuracies if clock_s < 6.0)
    meanwhile = min(a for clock_s, a in watch.accuracies if 7.5 < clock_s < 10.5)
    assert before > 0.6
    assert meanwhile < before - 0.3
    assert watch.accuracies[-1][1] > meanwhile + 0.2
    assert watch.info is not None and watch.info.attackers == (0, 1, 2, 3, 4)


def test_the_server_judges_by_what_examples_mean_now(tmp_path: Path) -> None:
    """All ten classes get the name of the next one: what was right is wrong, and is learned."""
    watch = Watch()
    drift = ConceptDrift(at_s=8.0, cycles=[list(range(10))])
    run(tmp_path, [drift], progress=watch, num_rounds=40, loops=())
    before = [accuracy for clock_s, accuracy in watch.accuracies if clock_s < 8.0]
    after = [accuracy for clock_s, accuracy in watch.accuracies if clock_s >= 8.0]
    assert before[-1] > 0.8
    assert after[0] < 0.5
    assert after[-1] > 0.8


def test_a_file_is_read_with_the_seed_of_the_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("events: [{kind: churn, present_s: 3, away_s: 1, fraction: 0.5}]")
    run(tmp_path / "run", [], scenario=file, num_rounds=2)
    file.write_text("events: [{kind: churn, present_s: 3, away_s: -1}]")
    with pytest.raises(ConfigError, match=r"mine.yaml, line 1: events\[0\].away_s is -1, but must"):
        run(tmp_path / "again", [], scenario=str(file))
    assert not (tmp_path / "again").exists()


def test_nobody_is_hostile_twice(tmp_path: Path) -> None:
    attack = Attack(SignFlip(), nodes=[3, 4])
    with pytest.raises(ConfigError, match="node 4 is hostile by the attack and by the scenario"):
        run(tmp_path / "run", [Attackers(nodes="4-6", does="alie")], attack=attack)
    watch = Watch()
    events = [Attackers(nodes="5-6", does="alie")]
    run(tmp_path / "run", events, attack=attack, progress=watch, num_rounds=1)
    assert watch.info is not None and watch.info.attackers == (3, 4, 5, 6)


def test_a_scenario_for_another_federation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_nodes is 10, but the federation has 9 nodes"):
        run(tmp_path / "run", TROUBLE, num_nodes=9)
