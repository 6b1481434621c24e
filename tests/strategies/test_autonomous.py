from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedProx,
)

from daafl.autonomy.journal import read
from daafl.autonomy.replay import replay
from daafl.errors import ConfigError, FederationError, JournalError
from daafl.loops import health, learning_rate
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies import (
    Autonomous,
    EarlyStopping,
    LocalTraining,
    Override,
    Pacing,
    Settings,
)

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]

START = ArrayRecord({"w": Array(np.zeros(3, np.float32))})


# ---- What goes in and out ----------------------------------------------------------------------


def test_a_run_of_no_rounds_returns_the_model_it_was_given(federate: Federate) -> None:
    federation = federate(num_rounds=0)
    assert federation.weights == [0.0] * 3
    assert federation.steps == []
    assert (federation.summary.status, federation.summary.rounds) == ("completed", 0)
    with pytest.raises(ConfigError, match="num_rounds is -1"):
        federate(num_rounds=-1)


def test_the_result_is_flowers(federate: Federate) -> None:
    federation = federate(settings=Settings(evaluate_every=1), num_rounds=2)
    assert federation.result.arrays["w"].numpy().dtype == np.float32
    assert set(federation.result.train_metrics_clientapp) == {1, 2}
    assert federation.result.train_metrics_clientapp[1]["train_loss"] > 0
    assert federation.autonomous.summary_of_run == federation.summary


class Polled(Grid):
    """A grid without a clock of its own, as Flower's are; its nodes answer at once."""

    def __init__(self, inner: InProcessGrid) -> None:
        self._inner = inner

    @property
    def run(self) -> Any:
        return self._inner.run

    def set_run(self, run: Any) -> None:
        self._inner.set_run(run)

    def create_message(self, *args: Any, **options: Any) -> Message:
        return self._inner.create_message(*args, **options)

    def get_node_ids(self) -> list[int]:
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return self._inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        return self._inner.send_and_receive(messages, timeout=timeout)


def test_a_grid_without_a_clock_is_polled_in_real_time(make_app: MakeApp) -> None:
    autonomous = Autonomous(loops=(), settings=Settings(evaluate_every=2))
    instant = Devices.uniform(3, seconds_per_step=0.0, latency_s=0.0)
    with InProcessGrid(make_app(), 3, fleet=instant, workers=0) as grid:
        result = autonomous.start(Polled(grid), START, num_rounds=2)
    assert result.arrays["w"].numpy().tolist() == [2.0] * 3
    summary = autonomous.summary_of_run
    assert summary is not None
    assert (summary.rounds, summary.virtual_seconds) == (2, None)


def test_an_instance_can_run_again_and_starts_afresh(make_app: MakeApp) -> None:
    autonomous = Autonomous(loops=(), settings=Settings(evaluate_every=0))
    ends = []
    for _ in range(2):
        with InProcessGrid(make_app(), 4, workers=0) as grid:
            result = autonomous.start(grid, START, num_rounds=3)
        ends.append(result.arrays["w"].numpy().tolist())
    assert ends == [[3.0] * 3] * 2


def test_settings_of_the_user_reach_the_nodes_together_with_the_strategys(
    federate: Federate, make_app: MakeApp
) -> None:
    def learn(weights: np.ndarray, assignment: Any, node: int) -> np.ndarray:
        return weights + float(assignment.settings["gain"] * assignment.settings["proximal-mu"])

    train_config = ConfigRecord({"gain": 3, "note": "hello"})
    federation = federate(
        FedProx(proximal_mu=0.5),
        app=make_app(learn=learn),
        num_rounds=2,
        start={"train_config": train_config},
    )
    assert federation.weights == [3.0] * 3
    assert dict(train_config) == {"gain": 3, "note": "hello"}


@pytest.mark.parametrize("key", ["lr", "local-steps", "version", "server-round", "seed"])
def test_settings_that_the_plan_decides_are_refused(federate: Federate, key: str) -> None:
    with pytest.raises(ConfigError, match=f"train_config sets '{key}', which the plan decides"):
        federate(start={"train_config": ConfigRecord({key: 1})})


def test_settings_must_be_scalars(federate: Federate) -> None:
    with pytest.raises(ConfigError, match="train_config sets 'many' to a list"):
        federate(start={"train_config": ConfigRecord({"many": [1, 2]})})
    with pytest.raises(ConfigError, match="evaluate_config is not used"):
        federate(start={"evaluate_config": ConfigRecord({"batch-size": 1})})


def test_a_timeout_bounds_what_the_pacing_allows(federate: Federate, make_app: MakeApp) -> None:
    app = make_app({3: "silent"})
    federation = federate(app=app, num_rounds=1, start={"timeout": 7.0})
    (step,) = federation.steps
    assert (step.clock_s, step.failures) == (7.0, {"timeout": 1})
    longer = federate(
        app=app, num_rounds=1, start={"timeout": 7.0}, pacing=Pacing(reply_timeout_s=2.0)
    )
    assert longer.steps[0].clock_s == 2.0


def test_a_timeout_bounds_probes_and_evaluations_too(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    # Nobody waits longer than 7 s for node 2 to answer the probe, nor for node 3 to evaluate.
    faults = {2: "probe silent", 3: "evaluate silent"}
    federation = federate(
        app=make_app(faults, learn=approach),
        loops=[learning_rate()],
        num_rounds=2,
        settings=Settings(evaluate_every=1),
        start={"timeout": 7.0},
        pacing=Pacing(concurrency=4, quorum=4),
    )
    (probe,) = federation.watcher.probes
    assert (probe.seconds, probe.failures) == (7.0, {"timeout": 1})
    assert [record.clock_s for record in federation.steps] == [8.0, 16.0]
    assert [record.num_updates for record in federation.steps] == [3, 2]
    assert [record.failures for record in federation.steps] == [{"timeout": 1}, {}]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"min_nodes": 0}, "min_nodes is 0"),
        ({"evaluate_every": -1}, "evaluate_every is -1"),
        ({"node_timeout_s": 0.0}, "node_timeout_s is 0.0"),
        ({"node_timeout_s": float("inf")}, "node_timeout_s is inf"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Settings(**wrong)


def test_too_few_nodes_fail_the_run_and_its_observers_hear_of_it(
    federate: Federate, watcher: Any
) -> None:
    with pytest.raises(FederationError, match="only 1 of at least 2 nodes answered within 60 s"):
        federate(num_nodes=1)
    assert watcher.info is None
    assert watcher.summary.status == "failed"
    assert watcher.summary.reason.startswith("only 1 of at least 2")


def test_a_journal_that_exists_is_not_overwritten(
    federate: Federate, watcher: Any, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("precious")
    with pytest.raises(JournalError, match="cannot be created"):
        federate(journal=journal)
    assert journal.read_text() == "precious"
    assert watcher.summary.status == "failed"


# ---- Around and inside other strategies --------------------------------------------------------


def test_it_does_not_wrap_itself() -> None:
    with pytest.raises(ConfigError, match="cannot wrap Autonomous"):
        Autonomous(Autonomous())


def test_it_refuses_to_be_wrapped(make_app: MakeApp) -> None:
    wrapped = DifferentialPrivacyServerSideFixedClipping(
        Autonomous(FedAvg()), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=4
    )
    with (
        InProcessGrid(make_app(), 4, workers=0) as grid,
        pytest.raises(ConfigError, match="must be the outermost strategy"),
    ):
        wrapped.start(grid, START, num_rounds=1)


@pytest.mark.parametrize(
    "hook", ["configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate"]
)
def test_every_hook_of_flower_refuses(hook: str) -> None:
    with pytest.raises(ConfigError, match="must be the outermost strategy"):
        getattr(Autonomous(), hook)(1, [])


# ---- Ending early ------------------------------------------------------------------------------


def weight(step: int, arrays: ArrayRecord) -> MetricRecord:
    """Return the first weight, up to 3, as accuracy."""
    return MetricRecord({"accuracy": min(float(arrays["w"].numpy()[0]), 3.0)})


def test_a_run_ends_at_its_target(federate: Federate) -> None:
    federation = federate(
        num_rounds=9,
        settings=Settings(evaluate_every=1),
        stopping=EarlyStopping(target=2.0),
        start={"evaluate_fn": weight},
    )
    assert len(federation.steps) == 2
    assert federation.summary.status == "completed"
    assert federation.summary.reason == "accuracy 2.0000 reached the target 2"


def test_a_run_ends_on_a_plateau(federate: Federate) -> None:
    # 1, 2, 3, 3, 3: two evaluations without a gain.
    federation = federate(
        num_rounds=9,
        settings=Settings(evaluate_every=1),
        stopping=EarlyStopping(patience=2),
        start={"evaluate_fn": weight},
    )
    assert len(federation.steps) == 5
    assert "has not improved" in federation.summary.reason


# ---- The same again ----------------------------------------------------------------------------

LIVELY = {
    "num_nodes": 6,
    "num_rounds": 30,
    "pacing": Pacing(concurrency=4, quorum=4),
    "training": LocalTraining(lr=0.05, local_steps=5),
    "overrides": [Override(12, "lr", 3.0), Override(20, "probe", 1)],
}


def lively(federate: Federate, make_app: MakeApp, approach: Any, **options: Any) -> Any:
    """Return a run with probes, a rollback, operator's edits and a node that sends NaN."""
    return federate(
        app=make_app({(2, 4): "nan"}, learn=approach),
        loops=[health(), learning_rate()],
        **{**LIVELY, **options},
    )


def test_the_same_seed_gives_the_same_bits_for_any_number_of_workers(
    federate: Federate, make_app: MakeApp, approach: Any, tmp_path: Path
) -> None:
    weights, journals = [], []
    for workers in (0, 1, 2):
        journal = tmp_path / f"{workers}.jsonl"
        run = lively(federate, make_app, approach, workers=workers, journal=journal)
        assert run.summary.rollbacks >= 1 and len(run.watcher.probes) >= 2
        weights.append(run.result.arrays["w"].numpy().tobytes())
        journals.append(journal.read_bytes())
    assert len(set(weights)) == 1
    assert len(set(journals)) == 1


def test_another_seed_gives_another_run(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    ends = [
        lively(federate, make_app, approach, settings=Settings(seed=seed, evaluate_every=0)).weights
        for seed in (0, 1)
    ]
    assert ends[0] != ends[1]


def test_a_buffered_run_is_the_same_for_any_number_of_workers(
    federate: Federate, make_app: MakeApp, approach: Any, tmp_path: Path
) -> None:
    runs = []
    for workers in (0, 2):
        journal = tmp_path / f"{workers}.jsonl"
        run = lively(
            federate,
            make_app,
            approach,
            workers=workers,
            journal=journal,
            pacing=Pacing(concurrency=5, quorum=2, max_staleness=10, refill="reply"),
            fleet=Devices.log_normal(6, sigma=1.0, seed=3),
        )
        runs.append((run.weights, journal.read_bytes()))
    assert runs[0] == runs[1]


def test_the_journal_of_a_lively_run_replays_and_tells_tampering(
    federate: Federate, make_app: MakeApp, approach: Any, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    run = lively(federate, make_app, approach, journal=journal)
    header, records = read(journal)
    kinds = {record["kind"] for record in records}
    assert kinds == {"decided", "closed", "override", "restored"}
    assert replay(run.autonomous.hubs, [header, *records]) is None
    tampered = deepcopy(records)
    cycle = next(line for line in tampered if (line["target"], line.get("tick")) == ("main", 9))
    cycle["after"]["values"]["lr"] *= 2
    difference = replay(run.autonomous.hubs, [header, *tampered])
    assert difference is not None
    assert (difference.target, difference.tick) == ("main", 9)
    assert difference.what.startswith("after.values.lr")


def test_the_journal_holds_nothing_of_the_wall_clock(
    federate: Federate, make_app: MakeApp, approach: Any, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    run = lively(federate, make_app, approach, journal=journal)
    text = journal.read_text()
    assert "wall" not in text
    for record in run.watcher.records:
        assert str(record.wall_seconds) not in text
