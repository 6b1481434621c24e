"""A cohort that is asked as a whole: the same models, no single update, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from daafl.errors import ConfigError, FederationError, MessageError
from daafl.learning.layout import Layout
from daafl.loops import default_loops
from daafl.messages import (
    ARRAYS,
    COHORT,
    COHORT_NODE,
    CONFIG,
    DRAWS,
    ENVELOPE,
    METRICS,
    NODES,
    NUM_EXAMPLES,
    PACKED,
    STEPS,
    TELEMETRY,
    TRAIN_LOSS,
    Assignment,
    Envelope,
)
from daafl.simulation import Devices, InProcessGrid
from daafl.store.checkpoint import Checkpoints
from daafl.store.tree import Tree
from daafl.strategies import Autonomous, Override, Pacing
from daafl.strategies.exchange import Member
from daafl.strategies.mailbox import Arrival, Ticket
from daafl.strategies.robust import CoordinateMedian
from daafl.strategies.summed_exchange import SummedExchange

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]
Learn = Callable[[np.ndarray, Assignment, int], np.ndarray]

LAYOUT = Layout.of({"w": np.zeros(3, np.float32)})
PACING = Pacing(concurrency=4, quorum=4)
NUM_NODES = 9


class Cohorts:
    """Sums up what its nodes learn; those ``absent`` drop out of every cohort."""

    def __init__(self, learn: Learn, *, absent: frozenset[int] = frozenset()) -> None:
        self.learn = learn
        self.absent = absent
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def prepare(self) -> None: ...

    def is_together(self, message: Message) -> bool:
        return False

    def answers(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> Sequence[tuple[Message, Context]]:
        raise NotImplementedError

    def steps(self, message: Message) -> float:
        return Assignment.from_record(message.content[CONFIG]).local_steps

    def summed(self, message: Message, partitions: Sequence[int], time_s: float) -> Message:
        asked = Assignment.from_record(message.content[CONFIG])
        cohort: Any = message.content[COHORT]
        self.asked.append((tuple(cohort[NODES]), tuple(cohort[DRAWS])))
        there = [node for node in partitions if node not in self.absent]
        arrays: Any = message.content[ARRAYS]
        weights = LAYOUT.vector(arrays[PACKED].numpy())
        models = [self.learn(weights, asked, node).astype(np.float64) for node in there]
        mean = np.mean(models, axis=0).astype(np.float32)
        return Message(reply(asked, mean, nodes=there), reply_to=message)

    def most_together(self, message: Message) -> int:
        return 1000

    def merged(self, message: Message, replies: Sequence[Message]) -> Message:
        raise NotImplementedError  # no cohort here has a thousand members

    def num_examples(self, partitions: Sequence[int]) -> np.ndarray:
        return np.full(len(partitions), 10)

    def described(self) -> str:
        return "summed"

    def state(self) -> Tree:
        return None

    def load(self, state: Tree) -> None: ...


def reply(asked: Assignment, weights: np.ndarray, *, nodes: Sequence[int]) -> RecordDict:
    envelope = Envelope(
        asked.federation, asked.branch, asked.version, COHORT_NODE, asked.ticket, asked.plan_hash
    )
    return RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(LAYOUT.packed(weights))}),
            METRICS: MetricRecord({NUM_EXAMPLES: 10 * len(nodes), TRAIN_LOSS: 1.0}),
            ENVELOPE: envelope.to_record(),
            TELEMETRY: ConfigRecord({STEPS: asked.local_steps}),
            COHORT: ConfigRecord({NODES: list(nodes)}),
        }
    )


@pytest.fixture
def summing(make_app: MakeApp, approach: Learn, federate: Federate) -> Federate:
    """Return a runner of federations whose cohorts are asked as a whole."""

    def run(cohorts: Cohorts | None = None, **options: Any) -> Any:
        def make_grid(app: ClientApp, num_nodes: int, **rest: Any) -> InProcessGrid:
            sums = cohorts or Cohorts(approach)
            return InProcessGrid(app, num_nodes, cohorts=sums, is_registered=True, **rest)

        chosen = {"num_nodes": NUM_NODES, "pacing": PACING, "exchange": "summed", **options}
        return federate(app=make_app(learn=approach), make_grid=make_grid, **chosen)

    return run


def test_a_sum_gives_the_model_that_single_updates_give(
    summing: Federate, federate: Federate, make_app: MakeApp, approach: Learn
) -> None:
    plain = federate(app=make_app(learn=approach), num_nodes=NUM_NODES, pacing=PACING)
    summed = summing()
    np.testing.assert_allclose(summed.weights, plain.weights, rtol=1e-6)
    assert [step.num_updates for step in summed.steps] == [4, 4, 4]
    assert [step.num_examples for step in summed.steps] == [40, 40, 40]
    assert summed.steps[0].train_loss == 1.0


def test_those_who_drop_out_are_missing_in_the_sum_and_are_counted(
    summing: Federate, approach: Learn
) -> None:
    cohorts = Cohorts(approach, absent=frozenset({2, 5, 7}))
    federation = summing(cohorts, num_rounds=5)
    for step, (nodes, draws) in zip(federation.steps, cohorts.asked, strict=True):
        num_absent = len(cohorts.absent.intersection(nodes))
        assert draws == (0, 0, 0, 0)
        assert step.num_updates == 4 - num_absent
        assert dict(step.failures) == ({"dropped_out": num_absent} if num_absent else {})


def test_a_cohort_that_is_late_fails_as_a_whole(summing: Federate) -> None:
    slow = Devices.uniform(NUM_NODES, seconds_per_step=0.1, latency_s=1.0)  # 3 s for a round
    pacing = Pacing(concurrency=4, quorum=4, reply_timeout_s=2.0)
    with pytest.raises(FederationError):
        federation = summing(fleet=slow, pacing=pacing, num_rounds=1)
    federation = summing(fleet=slow, num_rounds=1)
    assert federation.steps[0].num_updates == 4


def test_a_run_goes_on_after_a_kill_with_the_same_end(summing: Federate, tmp_path: Path) -> None:
    whole = summing(num_rounds=6)
    with pytest.raises(KeyboardInterrupt):
        summing(num_rounds=6, checkpoints=tmp_path, observers=[_Interrupting()])
    checkpoint = Checkpoints(tmp_path).latest()
    again = summing(num_rounds=6, start={"resume_from": checkpoint})
    assert again.weights == whole.weights
    assert again.steps[-1].clock_s == whole.steps[-1].clock_s


class _Interrupting:
    def started(self, info: Any) -> None: ...

    def stepped(self, record: Any) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    def finished(self, summary: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"loops": default_loops()}, "loop quality needs each node's own update"),
        ({"strategy": CoordinateMedian()}, "CoordinateMedian cannot run in this federation: it"),
        ({"pacing": Pacing(deadline_s=5.0)}, "pacing.deadline_s is 5.0, but a sum waits"),
        ({"pacing": Pacing(concurrency=9, quorum=4)}, "pacing.quorum is 4, .* make it 9"),
        ({"pacing": Pacing(max_staleness=2)}, "pacing.max_staleness is 2"),
        (
            {"overrides": [Override(2, "deadline_s", 3.0)]},
            "override of 'deadline_s' before step 2 cuts a cohort",
        ),
        ({"exchange": "masked"}, "exchange is 'masked', but must be one of plain, summed"),
    ],
)
def test_what_needs_single_updates_is_refused_by_name(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Autonomous(**{"loops": (), "exchange": "summed", **options})


def test_a_grid_that_trains_no_cohorts_is_refused(federate: Federate) -> None:
    with pytest.raises(ConfigError, match="needs a grid that trains cohorts, and InProcessGrid"):
        federate(exchange="summed")


ASKED = Assignment(federation="f", ticket=9, layout=LAYOUT.digest)
TICKET = Ticket(
    id=9,
    purpose="train",
    node=COHORT_NODE,
    branch="main",
    version=0,
    draw=0,
    sent_at_s=0.0,
    due_by_s=1.0,
    assignment=ASKED,
    num_examples=30,
    nodes=(2, 4, 6),
    draws=(0, 1, 0),
)
BASE = LAYOUT.packed(np.zeros(3, np.float32))


def received(content: RecordDict) -> Any:
    (update,) = (
        SummedExchange("f", LAYOUT, 999).receive(Arrival(TICKET, content, "", 0.0), BASE).updates
    )
    return update


def test_a_message_names_the_nodes_and_their_draws() -> None:
    (out,) = SummedExchange("f", LAYOUT, 999).begin([Member(999, TICKET, ASKED)], BASE)
    assert out.address == 999 and out.ticket is TICKET
    assert dict(out.content[COHORT]) == {NODES: [2, 4, 6], DRAWS: [0, 1, 0]}
    assert Assignment.from_record(out.content[CONFIG]) == ASKED


def test_the_update_is_of_those_who_took_part() -> None:
    update = received(reply(ASKED, np.ones(3, np.float32), nodes=[2, 6]))
    assert (update.senders, update.num_examples) == ((2, 6), 20)
    assert update.delta.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({COHORT: ConfigRecord({NODES: [2, 3]})}, "schema"),  # 3 was not asked
        ({COHORT: ConfigRecord({NODES: [4, 2]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: [2, 2]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: []})}, "schema"),
        ({COHORT: ConfigRecord({NODES: [2, 4, 6, 8]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: [2.0]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: [10**400]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: ["2"]})}, "schema"),
        ({COHORT: ConfigRecord({NODES: 2})}, "schema"),
        ({COHORT: ConfigRecord({NODES: [2], "more": 1})}, "schema"),
        ({COHORT: MetricRecord({NODES: [2]})}, "schema"),
        ({METRICS: MetricRecord({NUM_EXAMPLES: 61})}, "sample_count"),
        ({TELEMETRY: ConfigRecord({STEPS: 11})}, "plausibility"),
        ({"more": ConfigRecord()}, "schema"),
    ],
)
def test_a_reply_is_held_to_its_ticket(spoil: dict[str, Any], reason: str) -> None:
    content = reply(ASKED, np.ones(3, np.float32), nodes=[2, 4, 6])
    for name, record in spoil.items():
        content.pop(name, None)
        content[name] = record
    with pytest.raises(MessageError) as refused:
        received(content)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("weights", "reason"), [(np.nan, "finiteness"), (1e30, "norm"), (np.inf, "finiteness")]
)
def test_a_sum_that_exploded_is_refused(weights: float, reason: str) -> None:
    with pytest.raises(MessageError) as refused:
        received(reply(ASKED, np.full(3, weights, np.float32), nodes=[2]))
    assert refused.value.reason == reason
