from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from daafl.autonomy.hub import Hub
from daafl.autonomy.journal import read
from daafl.autonomy.plan import Change, Knob, Plan, Value
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Request, unchanged
from daafl.errors import FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.observability.events import StepRecord
from daafl.simulation import Devices, InProcessGrid
from daafl.strategies import Override, Pacing
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.assignment import LOCAL_KNOBS, same_for_all
from daafl.strategies.branch import POINT_SPACING, Branch
from daafl.strategies.collecting import Collector, Terms
from daafl.strategies.consensus import Committee
from daafl.strategies.coordinator import Coordinator
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.liveness import IDLE_STEPS
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import PACING_KNOBS
from daafl.strategies.quality import QualityControl
from daafl.strategies.reflecting import Reflector
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import Schedule
from daafl.strategies.screening import Examiner
from daafl.strategies.selection import uniform

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]

BUFFERED = Pacing(concurrency=4, quorum=2, max_staleness=20, refill="reply")


class Adding:
    """Adds the mean update, and counts its steps: the count is its state.

    At the steps in ``bad`` it returns a model of NaN, at those in ``fatal`` it raises.
    """

    needs: Literal["mean"] = "mean"

    def __init__(self, bad: Sequence[int] = (), fatal: Sequence[int] = ()) -> None:
        self.bad, self.fatal = bad, fatal
        self.attempts = 0  # no part of the state
        self.order: list[list[tuple[int, int]]] = []  # versions and senders, as handed over
        self.count = 0
        self.factor = 1.0

    def init(self, layout: Layout, packed: Packed) -> None:
        self.layout, self.count, self.attempts, self.factor = layout, 0, 0, 1.0

    def node_config(self) -> Mapping[str, Value]:
        return {}

    def combine(self, packed: Packed, updates: Sequence[Update]) -> Packed:
        self.count += 1
        self.attempts += 1
        self.order.append([(update.version, update.senders[0]) for update in updates])
        if self.attempts in self.fatal:
            raise ZeroDivisionError("one over nothing")
        step = weighted_mean(updates)[0] * np.float32(self.factor)
        if self.attempts in self.bad:
            step = step * np.nan
        return self.layout.packed(self.layout.vector(packed) + step)

    def scale(self, factor: float) -> None:
        self.factor *= factor

    def state(self) -> Any:
        return {"count": self.count}

    def load(self, state: Any) -> None:
        self.count = state["count"]

    def fork(self) -> ServerOptimizer:
        return deepcopy(self)


@dataclass(frozen=True)
class Seen:
    step: int = 0
    version: int = 0
    restored: bool = False
    nonfinite_fraction: float = 0.0
    cosine: float | None = None
    pace: float = 1.0
    probe_rates: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Nothing:
    last: int = 0


@dataclass(frozen=True)
class Undoing:
    """Returns to a given version after given steps, and owns a knob that goes back with it."""

    restores: Mapping[int, int] = field(default_factory=dict)
    probes: tuple[int, ...] = ()

    name = "undoing"
    observation = Seen
    state = Nothing
    knobs = (Knob("temperature", "K", 0, "undoing", "branch", 0, 1000),)

    def init(self) -> Nothing:
        return Nothing()

    def observe(self, state: Nothing, seen: Seen) -> Nothing:
        return Nothing(seen.step)

    def reason(self, state: Nothing, seen: Seen, plan: Plan) -> Decision:
        is_training = seen.probe_rates is None
        if is_training and seen.step in self.restores:
            asks = Request("probe", "integrity", self.name, "to see", low=1)
            return Decision(
                self.name,
                "restore",
                "odd",
                "as told",
                requests=(asks,) if seen.step in self.probes else (),
                restore=self.restores[seen.step],
            )
        old = plan.number("temperature")
        if not is_training or seen.step == 0:
            return unchanged(self.name, "even", "nothing to do")
        change = Change("temperature", int(old), int(old) + 1)
        return Decision(self.name, "warm", "even", "warmer", (change,))

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> None:
        return None

    def adapt(self, state: Nothing, insight: Any) -> Nothing:
        return state

    def wanted_versions(self, state: Nothing) -> frozenset[int]:
        return frozenset(self.restores.values())


def undoing(restores: Mapping[int, int], probes: tuple[int, ...] = ()) -> Loop:
    policy = Undoing(restores, probes)
    return Loop(policy, "integrity", "quality", "branch", influences=("probe",))


def observed(journal: Path) -> list[dict[str, Any]]:
    """Return what the loop saw, cycle by cycle."""
    cycles = [r for r in read(journal).records if r["kind"] == "decided" and r["target"] == "main"]
    return [cycle["observations"]["undoing"] for cycle in cycles]


def versions(federation: Any) -> list[int]:
    return [record.version for record in federation.steps]


# ---- Going on ----------------------------------------------------------------------------------


def test_observers_hear_of_the_start_every_step_and_the_end_in_order(federate: Federate) -> None:
    heard: list[str] = []

    class Listener:
        def started(self, info: Any) -> None:
            heard.append(f"start {info.num_nodes} {info.num_rounds} {info.num_parameters}")

        def stepped(self, record: StepRecord) -> None:
            heard.append(f"{record.kind} {record.step}")

        def finished(self, summary: Any) -> None:
            heard.append(f"{summary.status} {summary.reason}")

    federate(num_rounds=2, observers=[Listener()])
    assert heard == ["start 4 2 3", "train 1", "train 2", "completed all 2 rounds done"]


def test_updates_are_combined_in_the_order_of_versions_and_tickets(federate: Federate) -> None:
    # Sums of floats depend on the order, and arrivals need not come in the order of asking.
    optimizer = Adding()
    pacing = Pacing(concurrency=4, quorum=4)
    federate(optimizer, pacing=pacing, fleet=Devices([0.4, 0.3, 0.2, 0.1], [0.0] * 4))
    assert optimizer.order == [[(v, node) for node in range(4)] for v in range(3)]
    # As in the buffered federation of test_collecting, where in step 2 the second update of node 0
    # waits already when the first one of node 2 arrives.
    buffered = Adding()
    devices = Devices([0.1, 0.2, 0.3, 1.0], [0.0] * 4)
    federate(buffered, pacing=BUFFERED, fleet=devices)
    assert buffered.order == [[(0, 0), (0, 1)], [(0, 2), (0, 0)], [(1, 0), (1, 1)]]


def test_a_model_that_is_not_finite_is_not_adopted_and_the_optimiser_goes_back(
    federate: Federate, make_app: MakeApp, tmp_path: Path
) -> None:
    def learn(weights: np.ndarray, assignment: Any, node: int) -> np.ndarray:
        # Step 2 points back, and so does nothing after it.
        is_second = (assignment.version, assignment.draw) == (1, 0)
        return weights - 1 if is_second else weights + 1

    optimizer, journal = Adding(bad=[2]), tmp_path / "journal.jsonl"
    federation = federate(
        optimizer,
        app=make_app(learn=learn),
        num_rounds=4,
        loops=[undoing({})],
        journal=journal,
    )
    assert [record.rejected for record in federation.steps] == [{}, {"nonfinite_model": 1}, {}, {}]
    assert versions(federation) == [1, 1, 2, 3]
    assert federation.weights == [3.0] * 3
    assert (optimizer.attempts, optimizer.count) == (4, 3)
    # The loops hear of it, and go on comparing with the last update that was used.
    seen = observed(journal)[1:]
    assert [s["nonfinite_fraction"] for s in seen] == [0.0, 1.0, 0.0, 0.0]
    assert [s["cosine"] for s in seen] == [None, *map(pytest.approx, (-1.0, 1.0, 1.0))]


# ---- Giving up ---------------------------------------------------------------------------------


def test_a_run_fails_when_nobody_answers_for_three_steps(
    federate: Federate, make_app: MakeApp, watcher: Any
) -> None:
    app = make_app(dict.fromkeys(range(4), "raise"))
    with pytest.raises(
        FederationError,
        match=r"has sent an update for 3 steps \(in step 3: client_app_raised: 4\); 4 nodes are",
    ):
        federate(app=app, num_rounds=10)
    assert len(watcher.steps) == 3
    assert watcher.summary.status == "failed"
    assert "client_app_raised: 4" in watcher.summary.reason


def test_a_few_nodes_that_fail_do_not_end_a_run_of_small_cohorts(
    federate: Federate, make_app: MakeApp
) -> None:
    # One node is asked at a time, and half of them fail: now and then, three times in a row.
    app = make_app(dict.fromkeys(range(4), "raise"))
    pacing = Pacing(concurrency=1, quorum=1)
    federation = federate(app=app, num_nodes=8, num_rounds=40, pacing=pacing)
    flags = "".join(str(record.num_updates) for record in federation.steps)
    assert federation.summary.status == "completed"
    assert "000" in flags
    assert federation.weights == [float(flags.count("1"))] * 3


def test_a_deadline_that_nobody_can_keep_ends_the_run_in_the_end(federate: Federate) -> None:
    # Work takes 1 s, a step 0.02 s: the answers would come in the fiftieth.
    pacing = Pacing(concurrency=4, quorum=4, deadline_s=0.02)
    with pytest.raises(FederationError, match=r"used for 10 steps \(in step 10: nothing came in\)"):
        federate(pacing=pacing, num_rounds=60)


def test_silent_nodes_end_a_run_too(federate: Federate, make_app: MakeApp, watcher: Any) -> None:
    app = make_app(dict.fromkeys(range(4), "silent"))
    with pytest.raises(FederationError, match="timeout: 4"):
        federate(app=app, pacing=Pacing(concurrency=4, quorum=4, reply_timeout_s=10.0))
    # After a timeout at 10 s, nodes are given up at 30 s, and again 30 s later.
    assert [record.clock_s for record in watcher.steps] == [10.0, 40.0, 70.0]


def test_a_run_fails_when_nothing_that_comes_is_of_use(
    federate: Federate, make_app: MakeApp, watcher: Any
) -> None:
    app = make_app(dict.fromkeys(range(4), "named"))
    with pytest.raises(FederationError, match=r"could be used for 10 steps \(in step 10: schema"):
        federate(app=app, num_rounds=30)
    assert len(watcher.steps) == IDLE_STEPS
    assert watcher.summary.status == "failed"


def test_an_optimiser_that_raises_is_named_and_its_error_kept(
    federate: Federate, watcher: Any
) -> None:
    with pytest.raises(
        FederationError, match=r"could not combine 4 updates in step 2: ZeroDivisionError: one over"
    ) as failure:
        federate(Adding(fatal=[2]))
    assert isinstance(failure.value.__cause__, ZeroDivisionError)
    assert (watcher.summary.status, watcher.summary.rounds) == ("failed", 1)


def test_an_interrupted_run_is_stopped_not_failed(federate: Federate, watcher: Any) -> None:
    class Impatient:
        def started(self, info: Any) -> None: ...

        def stepped(self, record: StepRecord) -> None:
            if record.step == 2:
                raise KeyboardInterrupt

        def finished(self, summary: Any) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        federate(observers=[Impatient()])
    assert (watcher.summary.status, watcher.summary.reason) == ("stopped", "interrupted")
    assert watcher.summary.rounds == 2


# ---- Going back --------------------------------------------------------------------------------


def test_a_restore_brings_back_model_optimiser_and_knobs_under_a_new_version(
    federate: Federate,
) -> None:
    optimizer = Adding()
    federation = federate(optimizer, num_rounds=5, loops=[undoing({3: 1})])
    # Three steps, back to what one step made (version 4 is version 1), and two more.
    assert versions(federation) == [1, 2, 3, 5, 6]
    assert [record.restored for record in federation.steps] == [None, None, 1, None, None]
    assert federation.weights == [3.0] * 3
    assert optimizer.count == 3
    assert federation.summary.rollbacks == 1
    # The loop warms by one after steps 1 and 2; version 1 was trained and adopted at 0.
    heat = [record.knobs["temperature"] for record in federation.steps]
    assert heat == [0, 1, 2, 0, 1]


def test_the_loops_hear_of_a_restore_with_the_training_after_it(
    federate: Federate, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    loops = [undoing({2: 1}, probes=(2,))]
    federation = federate(num_rounds=4, loops=loops, journal=journal)
    assert [record.kind for record in federation.watcher.records] == [
        *("train", "train", "probe", "train", "train")
    ]
    seen = observed(journal)[1:]
    assert [s["restored"] for s in seen] == [False, False, True, True, False]
    assert [s["probe_rates"] is not None for s in seen] == [False, False, True, False, False]


def test_a_restore_abandons_what_is_out_and_what_waits(federate: Federate) -> None:
    # As in the buffered federation of test_collecting: step 3 closes at 4 s, with an update of node
    # 0 waiting, nodes 2 and 3 out until 6 and 10 s. All that is lost: nodes 0 and 1 are asked anew
    # at 4 s and close step 4 together at 6 s, before node 2 could be asked again.
    federation = federate(
        Adding(),
        pacing=BUFFERED,
        fleet=Devices([0.1, 0.2, 0.3, 1.0], [0.0] * 4),
        num_rounds=4,
        loops=[undoing({3: 0})],
    )
    assert [record.clock_s for record in federation.steps] == [2.0, 3.0, 4.0, 6.0]
    assert versions(federation) == [1, 2, 3, 5]
    last = federation.steps[-1]
    assert (last.num_updates, last.staleness, last.rejected) == (2, 0, {})
    # What node 0 and node 1 add to version 0 is half a step (K/M).
    assert federation.weights == [0.5] * 3


def test_steps_of_a_part_of_the_updates_are_scaled_by_that_part(federate: Federate) -> None:
    optimizer = Adding()
    federate(optimizer, pacing=BUFFERED)
    assert optimizer.factor == pytest.approx(0.5)
    overrides = [Override(2, "quorum", 4), Override(3, "quorum", 1)]
    federate(optimizer, pacing=BUFFERED, overrides=overrides)
    assert optimizer.factor == pytest.approx(0.25)


def test_pace_is_the_share_of_what_is_out(federate: Federate, tmp_path: Path) -> None:
    def pace(name: str, **settings: Any) -> float:
        journal = tmp_path / name
        federate(Adding(), loops=[undoing({})], num_rounds=1, journal=journal, **settings)
        return float(observed(journal)[-1]["pace"])

    assert pace("sync", pacing=Pacing(concurrency=4, quorum=4)) == 1.0
    assert pace("few", pacing=Pacing(concurrency=10, quorum=10)) == 1.0  # of 4 nodes, all are in
    assert pace("buffered", pacing=BUFFERED) == 0.5


# ---- Memory ------------------------------------------------------------------------------------


Parts = tuple[Coordinator, Collector]


@pytest.fixture
def parts(make_app: MakeApp, layout: Layout) -> Iterator[Parts]:
    """Return coordinator and collector of a buffered federation.

    Node 1 sends NaN, and node 3 is forty times slower than the others.
    """
    devices = Devices([0.1, 0.1, 0.2, 4.0], [0.0] * 4)
    with InProcessGrid(make_app({1: "nan"}), 4, fleet=devices, workers=0) as grid:
        mailbox = Mailbox(grid, grid)
        roster = Roster(
            grid,
            mailbox,
            layout=layout.digest,
            min_nodes=1,
            node_timeout_s=1.0,
            reply_timeout_s=1.0,
        )
        roster.gather()
        optimizer = Adding()
        packed = layout.pack({"w": np.zeros(3, np.float32)})
        optimizer.init(layout, packed)
        hub = Hub((), {knob.name: knob for knob in LOCAL_KNOBS})
        plan = Plan.of(LOCAL_KNOBS)
        terms = Terms("federation", layout.digest, 0, {}, uniform, same_for_all)
        examiner = Examiner(layout, 0)
        collector = Collector(
            terms,
            mailbox=mailbox,
            exchange=PlainExchange("federation", layout),
            roster=roster,
            examiner=examiner,
        )
        coordinator = Coordinator(
            Schedule(1000, None, 0),
            layout,
            Branch("main", None, 0, packed, optimizer, plan, hub.init()),
            mailbox=mailbox,
            roster=roster,
            collector=collector,
            reflector=Reflector(
                Hub((), {knob.name: knob for knob in PACING_KNOBS}),
                hub,
                plan=Plan.of(PACING_KNOBS, BUFFERED.values()),
                beliefs={},
                record=lambda *records, **_: None,
            ),
            quality=QualityControl(examiner, Committee(mailbox, collector)),
            observers=(),
        )
        yield coordinator, collector


def test_refused_updates_are_counted_against_their_sender(parts: Parts) -> None:
    coordinator, collector = parts
    coordinator.open()
    records = [coordinator.run_step() for _ in range(5)]
    refused = sum(record.rejected.get("finiteness", 0) for record in records)
    assert refused > 0
    assert list(collector.conduct.records) == ["1"]
    assert collector.conduct.of(1).strikes <= refused


def test_what_a_branch_holds_does_not_grow_with_the_run(parts: Parts) -> None:
    coordinator, _ = parts
    branch = coordinator.branch
    coordinator.open()
    for _ in range(60):
        coordinator.run_step()
        assert len(branch.bases) <= 4  # one version per node that trains at most
        # What is out has not been reported on yet: it may turn out to be what to return to.
        for version in branch.bases:
            held = [point for point in branch.points if point <= version]
            assert version - max(held) < POINT_SPACING
        assert len(branch.points) <= 2 + len(branch.bases)
        assert len(branch.buffer) < 4
    # The slow node was given up when it was too far behind, and asked again when it had answered.
    assert branch.version == 60 and 60 - min(branch.bases) <= BUFFERED.max_staleness
    assert len(branch.draws) <= 4  # those of the present version
