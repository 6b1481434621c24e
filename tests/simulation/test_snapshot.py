"""A restored grid does what the one that went on does: replies, order, times, ids."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daafl.errors import FederationError, StoreError
from daafl.simulation import Devices, InProcessGrid
from daafl.store.checkpoint import Checkpoints
from daafl.store.tree import Tree

Ask = Callable[..., list[Message]]
Reply = tuple[float, str, str, object]

NUM_NODES = 2


def counting_app() -> ClientApp:
    """Return an app whose every reply depends on the message and on all that came before it."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        past = context.state["past"]["sum"].numpy() if "past" in context.state else np.zeros(3)
        past = past * 0.5 + message.content["arrays"]["model"].numpy() * float(config["factor"])
        if config["how"] == "raise":
            raise ValueError("as told")
        context.state["past"] = ArrayRecord({"sum": Array(past)})
        if config["how"] == "error":
            return Message(Error(5, "on strike"), reply_to=message)
        content = RecordDict(
            {
                "arrays": ArrayRecord({"model": Array(past)}),
                "metrics": MetricRecord({"nan": math.nan, "many": [1, 2]}),
                "telemetry": ConfigRecord(
                    {"steps": config["steps"], "raw": b"\0\xff", "~": [True]}
                ),
            }
        )
        return Message(content, reply_to=message)

    return app


class Player:
    """Does what a script says on a grid, and writes down what it gets and when."""

    def __init__(self, grid: InProcessGrid, names: list[str]) -> None:
        self.grid = grid
        self.names = names
        self.history: list[Reply] = []

    def play(self, script: list[tuple[object, ...]]) -> None:
        for action in script:
            match action:
                case ("push", *what):
                    self.names += self.grid.push_messages([self._message(*what)])
                case ("ask", timeout, *what):
                    self._take(self.grid.send_and_receive([self._message(*what)], timeout=timeout))
                case ("wait", seconds):
                    self.grid.wait(seconds)
                case ("pull", share):
                    count = math.ceil(share * len(self.names))
                    self._take(self.grid.pull_messages(self.names[:count]))

    def play_to_the_end(self, script: list[tuple[object, ...]]) -> None:
        """Play, then wait for everything that is out, also for what nobody waits for."""
        self.play(script)
        while self.grid.snapshot()["out"]:
            self.grid.wait(math.inf)
        self._take(self.grid.pull_messages(self.names))
        self.history.append((self.grid.now_s(), "end", "", None))

    def _message(self, node: int, how: str, steps: int, factor: float) -> Message:
        content = RecordDict(
            {
                "arrays": ArrayRecord({"model": Array(np.arange(3.0) + factor)}),
                "config": ConfigRecord({"how": how, "steps": steps, "factor": factor}),
            }
        )
        return Message(content, self.grid.get_node_ids()[node], "train", group_id="7")

    def _take(self, replies: list[Message]) -> None:
        for reply in replies:
            told = reply.metadata
            if reply.has_error():
                what: object = (reply.error.code, reply.error.reason)
            else:
                what = (reply.content["arrays"]["model"].data, repr(dict(reply.content)))
            self.history.append(
                (self.grid.now_s(), told.message_id, told.reply_to_message_id, what)
            )
            assert (told.group_id, told.message_type) == ("7", "train")


def through_disk(state: Tree) -> Tree:
    """Return what comes back from a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder)).write(1, state)
        checkpoint = Checkpoints(Path(folder)).latest()
    assert checkpoint is not None
    return checkpoint.state


errand = (
    st.integers(0, NUM_NODES - 1),
    st.sampled_from(["train", "train", "train", "raise", "error"]),
    st.integers(0, 5),
    st.sampled_from([0.1, 1.0, math.pi]),
)
action = st.one_of(
    st.tuples(st.just("push"), *errand),
    st.tuples(st.just("push"), *errand),
    st.tuples(st.just("ask"), st.sampled_from([0.0, 0.7, 3.0]), *errand),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 1.0, 4.0, math.inf])),
    st.tuples(st.just("pull"), st.sampled_from([0.5, 1.0])),
)
pace = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1 / 3]), min_size=NUM_NODES, max_size=NUM_NODES)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(action, min_size=3, max_size=14),
    after=st.lists(action, max_size=8),
    speeds=pace,
    latencies=pace,
)
def test_a_restored_grid_goes_on_as_the_one_it_was_saved_from(
    before: list[tuple[object, ...]],
    after: list[tuple[object, ...]],
    speeds: list[float],
    latencies: list[float],
) -> None:
    devices = Devices(speeds, latencies)
    with InProcessGrid(counting_app(), NUM_NODES, fleet=devices, workers=0) as grid:
        Player(grid, names := []).play(before)
        state = grid.snapshot()
        uninterrupted = Player(grid, list(names))
        uninterrupted.play_to_the_end(after)
        memories = [grid.node_state(node) for node in grid.get_node_ids()]
    stored = through_disk(state)
    for workers in (0, 2):
        with InProcessGrid(counting_app(), NUM_NODES, fleet=devices, workers=workers) as grid:
            grid.restore(stored)
            # What was restored and has not gone on yet is what was saved.
            assert repr(grid.snapshot()) == repr(state)
            resumed = Player(grid, list(names))
            resumed.play_to_the_end(after)
            assert resumed.history == uninterrupted.history
            assert repr(memories) == repr([grid.node_state(i) for i in grid.get_node_ids()])


def test_a_message_nobody_waits_for_keeps_its_node_busy_and_changes_its_memory(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    # Asked at 0 s, it is at the node at 1 s, done at 1 + 8 = 9 s, and given up at 4 s. The next
    # one is sent at 4 s, starts at 9 s, is done at 9 + 2 = 11 s and back at 12 s, the node's
    # second call.
    devices = Devices([1.0], [1.0])
    with InProcessGrid(numpy_app, 1, fleet=devices, workers=0) as grid:
        assert grid.send_and_receive(instructions(grid, [0], steps=8), timeout=4.0) == []
        state = grid.snapshot()
    with InProcessGrid(numpy_app, 1, fleet=devices, workers=0) as grid:
        grid.restore(state)
        assert grid.now_s() == 4.0
        names = grid.push_messages(instructions(grid, [0], steps=2))
        assert names == ["message-2"]
        while not (replies := grid.pull_messages(names)):
            grid.wait(math.inf)
        assert grid.now_s() == 12.0
        assert replies[0].content["metrics"]["calls"] == 2
        assert grid.pull_messages(["message-1"]) == []


def test_what_waits_behind_an_answered_message_still_starts_when_that_was_done(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    # Both are at the node at 1 s. The first is done at 5 s and back at 6 s, when the grid is
    # saved; the second is done at 5 + 3 = 8 s and back at 9 s.
    devices = Devices([1.0], [1.0])
    with InProcessGrid(numpy_app, 1, fleet=devices, workers=0) as grid:
        grid.push_messages(instructions(grid, [0], steps=4))
        grid.push_messages(instructions(grid, [0], steps=3))
        grid.wait(math.inf)
        state = grid.snapshot()
    with InProcessGrid(numpy_app, 1, fleet=devices, workers=0) as grid:
        grid.restore(state)
        assert grid.now_s() == 6.0
        grid.wait(math.inf)
        assert grid.now_s() == 9.0


def test_a_snapshot_does_not_disturb_what_runs(numpy_app: ClientApp, instructions: Ask) -> None:
    ends = []
    for num_snapshots in (0, 3):
        with InProcessGrid(numpy_app, 2, workers=2) as grid:
            names = grid.push_messages(instructions(grid, [0, 1, 0], steps=3))
            for _ in range(num_snapshots):
                assert len(grid.snapshot()["out"]) == 3
            grid.wait(math.inf)
            grid.wait(math.inf)
            replies = grid.pull_messages(names)
            ends.append([(r.metadata.message_id, repr(r.content["arrays"])) for r in replies])
    assert ends[0] == ends[1]
    assert len(ends[0]) == 3


def test_a_model_is_stored_once_however_many_messages_carry_it(
    numpy_app: ClientApp, instructions: Ask, tmp_path: Path
) -> None:
    model = np.random.default_rng(0).standard_normal(10_000)
    with InProcessGrid(numpy_app, 20, workers=0) as grid:
        record = ArrayRecord({"packed": Array(model)})
        grid.push_messages(instructions(grid, range(20), model=record, steps=1))
        # The coordinator holds the model too, as an array and not in a message.
        Checkpoints(tmp_path).write(1, {"grid": grid.snapshot(), "model": model})
    assert [file.stat().st_size for file in (tmp_path / "blobs").iterdir()] == [model.nbytes]
    assert (tmp_path / "00000001.checkpoint").stat().st_size < 2_000
    checkpoint = Checkpoints(tmp_path).latest()
    assert checkpoint is not None
    with InProcessGrid(numpy_app, 20, workers=0) as grid:
        grid.restore(checkpoint.state["grid"])
        flights = [flight for group in grid._timeline.point().past.out for flight in group.flights]
        assert len(flights) == 20
        assert len({id(flight.instruction.blobs[0]) for flight in flights}) == 1


def test_a_snapshot_holds_no_pickle(numpy_app: ClientApp, instructions: Ask) -> None:
    def leaves(tree: Tree) -> list[Tree]:
        match tree:
            case dict():
                return [leaf for item in tree.values() for leaf in leaves(item)]
            case list() | tuple():
                return [leaf for item in tree for leaf in leaves(item)]
        return [tree]

    with InProcessGrid(numpy_app, 2, workers=0) as grid:
        grid.push_messages(instructions(grid, [0, 1]))
        grid.wait(math.inf)
        grid.push_messages(instructions(grid, [0, 1]))
        found = [leaf for leaf in leaves(grid.snapshot()) if isinstance(leaf, bytes)]
    assert found
    assert not any(b"flwr" in leaf or leaf.startswith(b"\x80\x05") for leaf in found)


def test_only_a_new_grid_with_the_same_nodes_and_devices_can_be_restored(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    with InProcessGrid(numpy_app, 2, workers=0) as grid:
        state = grid.snapshot()
        grid.push_messages(instructions(grid, [0]))
        with pytest.raises(FederationError, match="used or closed"):
            grid.restore(state)
    with pytest.raises(FederationError, match="used or closed"):
        grid.restore(state)
    with (
        InProcessGrid(numpy_app, 3, workers=0) as other,
        pytest.raises(FederationError, match="of 2 nodes, and this federation has 3"),
    ):
        other.restore(state)
    slow = Devices.uniform(2, seconds_per_step=9.0)
    with (
        InProcessGrid(numpy_app, 2, fleet=slow, workers=0) as other,
        pytest.raises(FederationError, match="with other devices or faults"),
    ):
        other.restore(state)


@pytest.fixture
def state(numpy_app: ClientApp, instructions: Ask) -> dict[str, Tree]:
    """A grid with a node that has answered, one that has not, and a reply nobody has taken."""
    with InProcessGrid(numpy_app, 2, fleet=Devices([0.0, 1.0], [1.0, 1.0]), workers=0) as grid:
        grid.push_messages(instructions(grid, [0, 1], steps=5))
        grid.wait(3.0)
        state = grid.snapshot()
    assert [len(state[part]) for part in ("out", "held")] == [1, 1]
    assert state["nodes"]["partitions"].tolist() == [0]
    return state


def changed(tree: Tree, path: tuple[str | int, ...], value: Tree) -> Tree:
    """Return the tree with another value at one place."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None),
        ((), {}),
        ((), [1, 2]),
        (("now_s",), math.nan),
        (("now_s",), -1.0),
        (("now_s",), 0),
        (("now_s",), 1.0),  # before the reply that has arrived
        (("num_sent",), 1),
        (("num_sent",), True),
        (("nodes", "partitions"), np.array([2])),
        (("nodes", "partitions"), np.array([-1])),
        (("nodes", "partitions"), np.array([0.0])),
        (("nodes", "partitions"), np.array([0, 1])),
        (("nodes", "free_at_s"), np.array([math.inf])),
        (("nodes", "bodies"), np.zeros((1, 3))),
        (("nodes", "states", 0, 0), 2),
        (("nodes", "states", 0, 1), {"calls": ["config", {"num": None}]}),
        (("nodes", "states", 0, 1), {"calls": ["pickles", {}]}),
        (
            ("nodes", "states", 0, 1),
            {"calls": ["arrays", {"x": ["float32", [2], "numpy.ndarray", b""]}]},
        ),
        (("nodes",), [[0, 1.0, None], [0, 1.0, None]]),
        (("traffic", "up_sent"), -1),
        (("traffic", "cost"), math.inf),
        (("out", 0, "flights"), []),
        (("out", 0, "is_batch"), 1),
        (("out", 0, "flights", 0, "number"), 0),
        (("out", 0, "flights", 0, "number"), 1),  # the one that has arrived
        (("out", 0, "flights", 0, "number"), 3),
        (("out", 0, "flights", 0, "partition"), 2),
        (("out", 0, "flights", 0, "sent_at_s"), 99.0),
        (("out", 0, "flights", 0, "num_bytes"), -1),
        (("out", 0, "flights", 0, "is_awaited"), 1),
        (("out", 0, "flights", 0, "message", "type"), "no such type"),
        (("out", 0, "flights", 0, "message", "content"), 7),
        (("held", 0, "arrives_at_s"), 99.0),
        (("held", 0, "reply"), ["five", ""]),
        (("held", 0, "reply"), None),
    ],
)
def test_nonsense_is_refused_and_leaves_the_grid_new(
    numpy_app: ClientApp,
    state: dict[str, Tree],
    path: tuple[str | int, ...],
    value: Tree,
) -> None:
    devices = Devices([0.0, 1.0], [1.0, 1.0])
    with InProcessGrid(numpy_app, 2, fleet=devices, workers=0) as grid:
        with pytest.raises(StoreError, match="not the state of a grid"):
            grid.restore(changed(state, path, value))
        grid.restore(state)
        assert grid.now_s() == 2.0 + 0.0
