"""A run that goes on after a kill ends as if nothing had happened, to the last bit."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, Strategy

from daafl.autonomy.codec import decode
from daafl.autonomy.knowledge import Knowledge
from daafl.errors import ConfigError, FederationError, StoreError
from daafl.learning.layout import Layout
from daafl.messages import ARRAYS, CONFIG, PACKED, QUERY_HELLO, Assignment
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import Devices, InProcessGrid
from daafl.simulation.node import FIRST_NODE_ID
from daafl.store.checkpoint import Checkpoint, Checkpoints
from daafl.strategies import (
    Autonomous,
    EarlyStopping,
    LocalTraining,
    Override,
    Pacing,
    Settings,
)

MakeApp = Callable[..., ClientApp]
KillAfter = Callable[..., Any]

NUM_NODES = 8
SIZE = 300  # parameters; large enough for files of their own
LAYOUT = Layout.of({"w": np.zeros(SIZE, np.float32)})
START = ArrayRecord({"w": Array(np.zeros(SIZE, np.float32))})
ROUNDS = 8

# Training takes 0.5 to 2.1 seconds, messages included: of eight nodes, one or two are never
# in time.
PACINGS = {
    "synchronous": Pacing(concurrency=4, quorum=4),
    "deadline": Pacing(
        concurrency=8, quorum=7, deadline_s=1.0, max_staleness=3, reply_timeout_s=1.6
    ),
    "buffered": Pacing(
        concurrency=6, quorum=2, max_staleness=10, refill="reply", reply_timeout_s=1.2
    ),
}
# Evaluation by the nodes waits for all of them, so that nothing is out after it.
SETTINGS = Settings(seed=5, evaluate_every=4)
OPTIMIZERS: dict[str, Callable[[], Strategy]] = {
    "FedAvg": FedAvg,
    "FedAvgM": lambda: FedAvgM(server_momentum=0.9, server_learning_rate=0.3),
    "FedAdam": lambda: FedAdam(eta=0.05),
}
EVERY = [(pacing, optimizer) for pacing in PACINGS for optimizer in OPTIMIZERS]
SOME = [("synchronous", "FedAvg"), ("deadline", "FedAvgM"), ("buffered", "FedAdam")]


def approach(weights: np.ndarray, assignment: Assignment, node: int) -> np.ndarray:
    """Return the weights after noisy gradient descent on ``|w - 5 - node / 8|^2 / 2``."""
    rng = np.random.default_rng([assignment.seed, node, assignment.version, assignment.draw])
    for _ in range(assignment.local_steps):
        noise = rng.normal(0.0, 0.1, weights.shape)
        weights = weights - np.float32(assignment.lr) * (weights - 5 - node / 8 + noise)
    return weights.astype(np.float32)


class EndedError(BaseException):
    """The process has ended."""


@dataclass(frozen=True)
class EndAfter:
    """An observer that ends the process in the step after ``step``, when its line is written."""

    step: int

    def started(self, info: RunInfo) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        if record.kind == "train" and record.step > self.step:
            raise EndedError

    def finished(self, summary: RunSummary) -> None: ...


class Federation:
    """The same run as often as it takes, in any folder."""

    def __init__(self, app: ClientApp, pacing: str, optimizer: str, **options: Any) -> None:
        self.app = app
        self.pacing = PACINGS[pacing]
        self.optimizer = optimizer
        self.options = options
        self.last: Autonomous | None = None

    def __call__(
        self,
        folder: Path,
        *,
        rounds: int = ROUNDS,
        resume: bool = False,
        until: int | None = None,
    ) -> tuple[bytes, bytes]:
        """Return the final weights and the journal; end before, in the step after ``until``."""
        folder.mkdir(exist_ok=True)
        options: dict[str, Any] = {"settings": SETTINGS, **self.options}
        if until is not None:
            options["observers"] = [*options.get("observers", ()), EndAfter(until)]
        autonomous = self.last = Autonomous(
            OPTIMIZERS[self.optimizer](),
            pacing=self.pacing,
            journal=folder / "journal.jsonl",
            checkpoints=folder / "checkpoints",
            **options,
        )
        devices = Devices.log_normal(NUM_NODES, sigma=1.0, seed=0)
        latest = found(folder) if resume else None
        with InProcessGrid(self.app, NUM_NODES, fleet=devices, workers=0) as grid:
            if until is not None:
                with pytest.raises(EndedError):
                    autonomous.start(grid, START, rounds, resume_from=latest)
                return b"", b""
            result = autonomous.start(grid, START, rounds, resume_from=latest)
        return result.arrays["w"].numpy().tobytes(), (folder / "journal.jsonl").read_bytes()

    @property
    def outcome(self) -> Any:
        """The summary of the last run, without what a clock on the wall decides."""
        assert self.last is not None and self.last.summary_of_run is not None
        return replace(self.last.summary_of_run, seconds=0.0)


Make = Callable[..., Federation]


@pytest.fixture
def federation(make_app: MakeApp) -> Make:
    """Return a maker of federations on nodes that learn, of which one fails now and then."""

    def make(pacing: str, optimizer: str = "FedAvg", **options: Any) -> Federation:
        app = make_app({(3, 2): "raise", (5, 1): "nan"}, approach, layout=LAYOUT)
        return Federation(app, pacing, optimizer, **options)

    return make


@pytest.mark.parametrize("pacing", ["deadline", "buffered"])
def test_checkpoints_are_made_while_much_is_out(
    federation: Make, tmp_path: Path, watcher: Any, pacing: str
) -> None:
    """There are stale updates, tickets that count and tickets that were given up."""
    run = federation(pacing, observers=[watcher])
    is_live: set[bool] = set()
    for step in range(1, ROUNDS):
        run(tmp_path, until=step, resume=step > 1)
        state: Any = found(tmp_path).state
        is_live.update(ticket["is_live"] for _, ticket in state["parts"]["mailbox"]["out"])
    assert is_live == {True, False}
    assert max(record.staleness for record in watcher.steps) > 0
    assert any("timeout" in record.failures for record in watcher.steps)


@pytest.mark.parametrize(("pacing", "optimizer"), SOME)
def test_killed_at_some_writes_of_a_step(
    federation: Make,
    kill_after: KillAfter,
    killed: type[BaseException],
    tmp_path: Path,
    pacing: str,
    optimizer: str,
) -> None:
    check_kills(federation(pacing, optimizer), kill_after, killed, tmp_path, steps=1, stride=13)


@pytest.mark.slow
@pytest.mark.parametrize(("pacing", "optimizer"), EVERY)
def test_killed_at_every_write_of_two_steps(
    federation: Make,
    kill_after: KillAfter,
    killed: type[BaseException],
    tmp_path: Path,
    pacing: str,
    optimizer: str,
) -> None:
    check_kills(federation(pacing, optimizer), kill_after, killed, tmp_path, steps=2, stride=1)


def check_kills(
    run: Federation,
    kill_after: KillAfter,
    killed: type[BaseException],
    folder: Path,
    *,
    steps: int,
    stride: int,
) -> None:
    """Kill at every ``stride``-th write of the steps after the third, and compare the ends.

    The run that is killed has been resumed itself, and after every other kill a line of the
    journal is torn.
    """
    whole = run(folder / "whole")
    outcome = run.outcome
    run(folder / "three", until=3)
    with kill_after(None) as writes:
        run(shutil.copytree(folder / "three", folder / "counted"), until=3 + steps, resume=True)
    assert writes.count > 10 * steps
    for number in range(0, writes.count, stride):
        trial = shutil.copytree(folder / "three", folder / str(number))
        with kill_after(number), pytest.raises(killed):
            run(trial, resume=True)
        if number % 2:
            with (trial / "journal.jsonl").open("ab") as journal:
                journal.write(b'{"kind": "dec')
        assert run(trial, resume=True) == whole
        assert run.outcome == outcome


@pytest.mark.parametrize("pacing", PACINGS)
def test_stopped_after_any_step(federation: Make, tmp_path: Path, pacing: str) -> None:
    """Chained: every attempt gets one step further."""
    run = federation(pacing, "FedAvgM")
    whole = run(tmp_path / "whole")
    outcome = run.outcome
    for step in range(ROUNDS):
        run(tmp_path / "steps", until=step, resume=step > 0)
    assert run(tmp_path / "steps", resume=True) == whole
    assert run.outcome == outcome


def test_every_metric_is_in_the_result(federation: Make, tmp_path: Path) -> None:
    run = federation("synchronous")
    run(tmp_path, until=2)
    with InProcessGrid(run.app, NUM_NODES, workers=0) as grid:
        autonomous = Autonomous(
            pacing=run.pacing,
            settings=SETTINGS,
            journal=tmp_path / "journal.jsonl",
            checkpoints=tmp_path / "checkpoints",
        )
        latest = found(tmp_path)
        with pytest.raises(FederationError, match="devices"):
            autonomous.start(grid, START, 4, resume_from=latest)
    devices = Devices.log_normal(NUM_NODES, sigma=1.0, seed=0)
    with InProcessGrid(run.app, NUM_NODES, fleet=devices, workers=0) as grid:
        result = autonomous.start(grid, START, 4, resume_from=latest)
    assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
    assert list(result.evaluate_metrics_clientapp) == [4]


def test_the_early_end_of_a_run_is_not_forgotten(federation: Make, tmp_path: Path) -> None:
    """Killed between the step that ended the run and its summary, it does not run another step."""
    options = {"stopping": EarlyStopping(metric="loss", target=10.0)}
    run = federation("synchronous", **options)
    whole = run(tmp_path / "whole")
    outcome = run.outcome
    assert outcome.reason.startswith("loss") and outcome.rounds < ROUNDS
    assert run(tmp_path / "whole", resume=True) == whole
    assert run.outcome == outcome


def test_overrides_and_a_scaled_optimizer_are_not_forgotten(
    federation: Make, tmp_path: Path
) -> None:
    """The quorum changes three times, and with it the rate of the optimiser."""
    overrides = [
        Override(2, "quorum", 3),
        Override(3, "quorum", 5),
        Override(4, "quorum", 3),
        Override(6, "lr", 0.3),
    ]
    run = federation("buffered", "FedAdam", overrides=overrides, loops=())
    whole = run(tmp_path / "whole")
    for step in (2, 5):
        run(tmp_path / str(step), until=step)
        assert run(tmp_path / str(step), resume=True) == whole


def test_a_rollback_reaches_back_over_a_resume(federation: Make, tmp_path: Path) -> None:
    """A rate far too high is set after the resume; the model from before it comes back."""
    options = {"overrides": [Override(6, "lr", 2.9)], "training": LocalTraining(lr=0.3)}
    run = federation("synchronous", "FedAvgM", **options)
    whole = run(tmp_path / "whole", rounds=12)
    outcome = run.outcome
    assert outcome.rollbacks > 0
    for step in (5, 7):
        run(tmp_path / str(step), rounds=12, until=step)
        assert run(tmp_path / str(step), rounds=12, resume=True) == whole
        assert run.outcome == outcome


def test_a_damaged_checkpoint_is_passed_over(federation: Make, tmp_path: Path) -> None:
    run = federation("buffered", "FedAdam")
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", until=5)
    newest = max((tmp_path / "cut" / "checkpoints").glob("*.checkpoint"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    latest = found(tmp_path / "cut")
    assert latest.step in (3, 4)
    assert "checkpoint 5 is damaged" in latest.notes[0]
    assert run(tmp_path / "cut", resume=True) == whole


def test_checkpoints_may_be_rare(federation: Make, tmp_path: Path) -> None:
    """What came after the last one is done again."""
    run = federation("buffered", settings=replace(SETTINGS, checkpoint_every=3))
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", until=5)
    assert found(tmp_path / "cut").step == 3
    assert run(tmp_path / "cut", resume=True) == whole
    none = federation("buffered", settings=replace(SETTINGS, checkpoint_every=0))
    none(tmp_path / "none", rounds=1)
    assert not (tmp_path / "none" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"settings": replace(SETTINGS, seed=6)}, "configuration with hash"),
        ({"training": LocalTraining(lr=0.2)}, "configuration with hash"),
        ({"overrides": [Override(7, "lr", 0.3)]}, "configuration with hash"),
        ({"loops": ()}, "configuration with hash"),
    ],
    ids=["seed", "training", "overrides", "loops"],
)
def test_other_arguments_are_refused(
    federation: Make, tmp_path: Path, options: dict[str, Any], what: str
) -> None:
    federation("synchronous")(tmp_path, rounds=2)
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=what):
        federation("synchronous", **options)(tmp_path, resume=True)
    with pytest.raises(ConfigError, match=what):
        federation("synchronous", "FedAdam")(tmp_path, resume=True)
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_another_model_is_refused(federation: Make, make_app: MakeApp, tmp_path: Path) -> None:
    federation("synchronous")(tmp_path, rounds=2)
    latest = found(tmp_path)
    autonomous = Autonomous(pacing=PACINGS["synchronous"], settings=SETTINGS)
    other = ArrayRecord({"v": Array(np.zeros(SIZE, np.float32))})
    with (
        InProcessGrid(make_app(), NUM_NODES, workers=0) as grid,
        pytest.raises(ConfigError, match="on a model of layout"),
    ):
        autonomous.start(grid, other, resume_from=latest)


def test_the_journal_of_another_run_is_refused(federation: Make, tmp_path: Path) -> None:
    federation("synchronous")(tmp_path / "one", rounds=2)
    federation("synchronous", settings=replace(SETTINGS, seed=6))(tmp_path / "other", rounds=2)
    shutil.copy(tmp_path / "other" / "journal.jsonl", tmp_path / "one" / "journal.jsonl")
    with pytest.raises(ConfigError, match="is the journal of a run with seed 6, not 5"):
        federation("synchronous")(tmp_path / "one", resume=True)


@pytest.mark.parametrize("state", [None, {}, {"history": {}, "parts": {}}])
def test_something_else_is_no_checkpoint(make_app: MakeApp, state: Any) -> None:
    with (
        InProcessGrid(make_app(), 2, workers=0) as grid,
        pytest.raises(StoreError, match="checkpoint 3 is of no run"),
    ):
        Autonomous().start(grid, START, resume_from=Checkpoint(3, state))


def test_a_checkpoint_that_lacks_a_part_is_refused(federation: Make, tmp_path: Path) -> None:
    run = federation("synchronous")
    run(tmp_path, rounds=2)
    state: Any = found(tmp_path).state
    del state["parts"]["mailbox"]["last_id"]
    Checkpoints(tmp_path / "checkpoints").write(3, state)
    with pytest.raises(StoreError, match="does not hold the state of such a run"):
        run(tmp_path, resume=True)


def test_what_was_learned_is_learned_once(federation: Make, tmp_path: Path) -> None:
    """The same insights come again after a resume, and the knowledge stays as it was."""
    whole = federation("synchronous", knowledge=tmp_path / "whole.db")
    whole(tmp_path / "whole", rounds=20)
    cut = federation("synchronous", knowledge=tmp_path / "cut.db")
    cut(tmp_path / "cut", rounds=20, until=12)
    early = shutil.copytree(tmp_path / "cut", tmp_path / "early")
    cut(tmp_path / "cut", rounds=20, resume=True)
    known = beliefs(tmp_path / "cut.db")
    assert known == beliefs(tmp_path / "whole.db") and known
    cut(early, rounds=20, resume=True)  # the same steps for a second time
    assert beliefs(tmp_path / "cut.db") == known


def found(folder: Path) -> Checkpoint:
    """Return the checkpoint that a run in a folder would go on from."""
    latest = Checkpoints(folder / "checkpoints").latest()
    assert latest is not None
    return latest


def beliefs(path: Path) -> Any:
    """Return what a knowledge base holds, run identities apart."""
    with Knowledge.open(path) as knowledge:
        return knowledge.snapshot(), knowledge.patterns()


# ---- Grids that forget what was out -------------------------------------------------------------


class Forgetful(Grid):
    """A grid like a SuperLink's: no clock of its own, and a new one knows no earlier message.

    Parameters
    ----------
    inner
        Where the nodes are; they answer at once.
    slow
        Logical id of a node whose training is never done; ``None`` for none.
    """

    def __init__(self, inner: InProcessGrid, slow: int | None = None) -> None:
        self._inner = inner
        self._slow = slow
        self._withheld: set[str] = set()
        self.sent: list[Message] = []

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
        pushed = list(messages)
        self.sent += pushed
        ids = self._inner.push_messages(pushed)
        for message, name in zip(pushed, ids, strict=True):
            is_slow = message.metadata.dst_node_id - FIRST_NODE_ID == self._slow
            if is_slow and message.metadata.message_type == MessageType.TRAIN:
                self._withheld.add(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return self._inner.pull_messages(set(message_ids) - self._withheld)

    def send_and_receive(self, messages: Iterable[Message], **options: Any) -> list[Message]:
        return self._inner.send_and_receive(messages, **options)


def instant(num_nodes: int) -> Devices:
    """Return devices that take no time."""
    return Devices.uniform(num_nodes, seconds_per_step=0.0, latency_s=0.0)


def test_another_grid_is_asked_again_for_what_was_out(
    make_app: MakeApp, watcher: Any, tmp_path: Path
) -> None:
    """Node 2 had version 0 when the coordinator ended; it gets it again, and its update counts."""
    start = ArrayRecord({"w": Array(np.zeros(3, np.float32))})

    def play(slow: int | None, *observers: Any, resume_from: Checkpoint | None = None) -> Forgetful:
        autonomous = Autonomous(
            pacing=Pacing(concurrency=3, quorum=2, max_staleness=20, refill="reply"),
            settings=Settings(evaluate_every=0),
            loops=(),
            observers=[watcher, *observers],
            journal=tmp_path / "journal.jsonl",
            checkpoints=tmp_path / "checkpoints",
        )
        with InProcessGrid(make_app(), 3, fleet=instant(3), workers=0) as inner:
            grid = Forgetful(inner, slow)
            autonomous.start(grid, start, 6, resume_from=resume_from)
        return grid

    with pytest.raises(EndedError):
        play(2, EndAfter(3))
    latest = found(tmp_path)
    assert latest.step == 3
    state: Any = latest.state
    out = state["parts"]["mailbox"]["out"][0][1]
    assert (out["node"], out["version"]) == (2, 0)
    before_s = watcher.steps[-1].clock_s
    grid = play(None, resume_from=latest)
    hello, again = grid.sent[:3], grid.sent[3]
    assert {message.metadata.message_type for message in hello} == {QUERY_HELLO}
    assert Assignment.from_record(again.content[CONFIG]).ticket == out["id"]
    assert Assignment.from_record(again.content[CONFIG]) == decode(Assignment, out["assignment"])
    assert again.content[ARRAYS][PACKED].numpy().tobytes() == bytes(12)  # version 0: all zeros
    resumed = watcher.steps[4:]
    assert [record.step for record in resumed] == [4, 5, 6]
    assert resumed[0].staleness == 3
    assert resumed[0].clock_s >= before_s
    ids = [Assignment.from_record(message.content[CONFIG]).ticket for message in grid.sent[3:]]
    assert len(set(ids)) == len(ids)


def test_nodes_that_are_gone_are_not_asked_again(make_app: MakeApp, tmp_path: Path) -> None:
    """Only two of three nodes are there after the resume, and the run ends with them."""
    run = partial(
        Autonomous,
        pacing=Pacing(concurrency=3, quorum=2, max_staleness=20, refill="reply"),
        settings=Settings(evaluate_every=0),
        loops=(),
        checkpoints=tmp_path / "checkpoints",
    )
    start = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    three = InProcessGrid(make_app(), 3, fleet=instant(3), workers=0)
    with three as inner, pytest.raises(EndedError):
        run(observers=[EndAfter(2)]).start(Forgetful(inner, slow=2), start, 4)
    with InProcessGrid(make_app(), 2, fleet=instant(2), workers=0) as inner:
        autonomous = run()
        autonomous.start(Forgetful(inner), start, 4, resume_from=found(tmp_path))
    assert autonomous.summary_of_run is not None
    assert autonomous.summary_of_run.rounds == 4
