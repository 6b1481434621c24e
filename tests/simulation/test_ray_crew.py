"""Nodes on Ray: the same results as anywhere else, whatever happens to its processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import daafl
from daafl.errors import ConfigError, WorkerError
from daafl.flower import failure_name
from daafl.learning.tasks.digits import Digits
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import Devices, InProcessGrid, ray_crew
from daafl.simulation.node import Nodes
from daafl.simulation.ray_crew import RayCrew
from daafl.simulation.ray_grid import ray_grid
from daafl.simulation.ray_session import RaySession
from daafl.store.tree import Tree

Ask = Callable[..., list[Message]]
MakeGrid = Callable[..., InProcessGrid]

system = pytest.mark.system


@pytest.fixture(scope="module")
def ray_session() -> Iterator[RaySession]:
    """A Ray of the tests' own; grids on Ray find it and use it."""
    session = RaySession(None, num_cpus=2)
    yield session
    session.close()


def pids_of(name: str, value: str) -> set[int]:
    """Return the processes that have a variable of this value."""
    wanted, found = f"{name}={value}".encode(), set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in file.read_bytes().split(b"\0"):
                found.add(int(file.parent.name))
        except OSError:  # it has ended meanwhile, or belongs to somebody else
            continue
    return found


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and those they have started."""
    found: set[int] = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text(encoding="ascii").split()):
            found |= {child} | descendants(child)
    return found


def actor_pids() -> set[int]:
    """Return the processes of this program's Ray that run nodes."""
    return {pid for pid in descendants(os.getpid()) if "NodeActor" in title(pid)}


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Return whether `claim` comes true before long."""
    give_up = time.monotonic() + seconds
    while not (is_true := claim()) and time.monotonic() < give_up:
        time.sleep(0.05)
    return is_true


@system
def test_grids_that_overlap_share_a_ray_and_the_last_one_ends_it(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    assert not ray_crew.ray.is_initialized(), "to be run before anything asks for `ray_session`"
    first = ray_grid(numpy_app, 1, workers=1)
    with ray_grid(numpy_app, 1, workers=1) as second:
        first.close()
        assert len(second.send_and_receive(instructions(second, [0]))) == 1
    assert not ray_crew.ray.is_initialized()


# Results


class Watcher:
    """Does something after the first step, and remembers when steps ended in virtual time."""

    def __init__(self, after_first: Callable[[], None] = lambda: None) -> None:
        self.steps: list[StepRecord] = []
        self._after_first = after_first

    def started(self, info: RunInfo) -> None:
        pass

    def stepped(self, record: StepRecord) -> None:
        self.steps.append(record)
        if len(self.steps) == 1:
            self._after_first()

    def finished(self, summary: RunSummary) -> None:
        pass


FLEETS = {
    "uniform": Devices.uniform(12),
    "heterogeneous": Devices.log_normal(12, sigma=1.0, seed=5, latency_s=0.5),
}


def outcome(
    folder: Path, make: MakeGrid, workers: int, fleet: str, trainer: str, watcher: Watcher
) -> tuple[dict[str, bytes], list[StepRecord]]:
    """Return the arrays of a run, and what happened when."""
    result = daafl.run(
        Digits(),
        num_nodes=12,
        num_rounds=3,
        fleet=FLEETS[fleet],
        trainer=trainer,
        workers=workers,
        grid=make,
        seed=7,
        output_dir=folder,
        progress=watcher,
    )
    # Everything that is known of a step, but how long it really took.
    steps = [replace(step, wall_seconds=0.0) for step in watcher.steps]
    return {name: array.tobytes() for name, array in result.arrays.items()}, steps


@system
@pytest.mark.parametrize("trainer", ["dense", "eager"])
@pytest.mark.parametrize("fleet", sorted(FLEETS))
def test_one_process_two_processes_and_ray_give_the_same_timeline_and_arrays(
    ray_session: RaySession, tmp_path: Path, fleet: str, trainer: str
) -> None:
    ways: dict[str, tuple[MakeGrid, int]] = {
        "alone": (InProcessGrid, 0),
        "two": (InProcessGrid, 2),
        "ray": (ray_grid, 2),
    }
    results = {
        name: outcome(tmp_path / name, make, workers, fleet, trainer, Watcher())
        for name, (make, workers) in ways.items()
    }
    assert results["two"] == results["alone"]
    assert results["ray"] == results["alone"]
    assert len({step.clock_s for step in results["ray"][1] if step.kind == "train"}) == 3


@system
def test_killing_an_actor_costs_no_result(ray_session: RaySession, tmp_path: Path) -> None:
    killed: set[int] = set()

    def kill_all() -> None:
        killed.update(actor_pids())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    alone = outcome(tmp_path / "0", InProcessGrid, 0, "heterogeneous", "eager", Watcher())
    on_ray = outcome(tmp_path / "1", ray_grid, 2, "heterogeneous", "eager", Watcher(kill_all))
    assert len(killed) == 2
    assert on_ray == alone


# What happens to actors


@system
def test_a_message_whose_actor_is_killed_is_run_again(
    ray_session: RaySession, instructions: Ask, tmp_path: Path
) -> None:
    pid_file, go_file = tmp_path / "pid", tmp_path / "go"
    app = ClientApp()

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        if not go_file.exists():
            pid_file.write_text(str(os.getpid()), encoding="ascii")
            time.sleep(600)
        answer = MetricRecord({"pid": os.getpid()})
        return Message(RecordDict({"metrics": answer}), reply_to=message)

    def kill() -> None:
        assert eventually(lambda: pid_file.exists() and bool(pid_file.read_text()))
        go_file.touch()
        os.kill(int(pid_file.read_text()), signal.SIGKILL)

    with ray_grid(app, 2, workers=1) as grid:
        killer = threading.Thread(target=kill)
        killer.start()
        replies = grid.send_and_receive(instructions(grid, [0, 1], "query.x"))
        killer.join()
    assert all(reply.has_content() for reply in replies)
    assert int(pid_file.read_text()) not in {reply.content["metrics"]["pid"] for reply in replies}


FAILURES = {
    "raise": ("client_app_raised", r"ValueError: no data here \(conftest.py:\d+ in fail\)"),
    "unpicklable": ("client_app_raised", r"(PicklingError|AttributeError): .*lambda"),
    "exit": ("client_app_crashed", r"3 Ray actors in a row were lost with it: ActorDiedError"),
    "killed": ("client_app_crashed", r"3 Ray actors in a row were lost with it: ActorDiedError"),
    "hang": ("reply_unavailable", r"did not answer within 2 s and was stopped"),
}


@system
@pytest.mark.parametrize("how", sorted(FAILURES))
def test_a_failing_node_costs_its_reply_and_nothing_else(
    ray_session: RaySession, numpy_app: ClientApp, instructions: Ask, how: str
) -> None:
    name, reason = FAILURES[how]
    devices = Devices.uniform(4, seconds_per_step=1.0, latency_s=1.0)
    patience_s = 2.0 if how == "hang" else 120.0
    with ray_grid(numpy_app, 4, fleet=devices, workers=2, message_timeout_s=patience_s) as grid:
        messages = instructions(grid, [0], steps=1) + instructions(grid, [1], "query.fail", how=how)
        messages += instructions(grid, [2, 1, 3], steps=1)
        replies = grid.send_and_receive(messages)
        assert [reply.has_content() for reply in replies] == [True, False, True, True, True]
        assert failure_name(replies[1].error) == name
        assert re.search(reason, replies[1].error.reason)
        assert grid.now_s() == 3.0
        again = grid.send_and_receive(instructions(grid, range(4), steps=1))
        assert [reply.content["metrics"]["calls"] for reply in again] == [2, 2, 2, 2]


class Together:
    """Answers cohorts at once, unless one of the nodes ends its process by that."""

    def __init__(self, pids: Path, poison: int | None) -> None:
        self._pids = pids
        self._poison = poison

    def prepare(self) -> None:
        pass

    def is_together(self, message: Message) -> bool:
        return message.metadata.message_type == "train"

    def most_together(self, message: Message) -> int:
        return 128

    def answers(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> Sequence[tuple[Message, Context]]:
        self._pids.open("a").write(f"{os.getpid()}\n")
        found = contexts()
        if self._poison in [context.node_config["partition-id"] for context in found]:
            os._exit(3)
        record = ConfigRecord({"by": "cohort"})
        replies = [Message(RecordDict({"who": record}), reply_to=one) for one in messages]
        return list(zip(replies, found, strict=True))

    def steps(self, message: Message) -> float:
        return 0.0

    def summed(self, message: Message, partitions: Sequence[int], time_s: float) -> Message:
        raise NotImplementedError

    def merged(self, message: Message, replies: Sequence[Message]) -> Message:
        raise NotImplementedError

    def described(self) -> str:
        return "together"

    def num_examples(self, partitions: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.ones(len(partitions), np.int64)

    def state(self) -> Tree:
        return None

    def load(self, state: Tree) -> None:
        pass


@system
@pytest.mark.parametrize(("poison", "attempts", "by"), [(None, 1, "cohort"), (2, 3, "itself")])
def test_messages_that_run_together_run_alone_after_the_last_attempt(
    ray_session: RaySession,
    instructions: Ask,
    tmp_path: Path,
    poison: int | None,
    attempts: int,
    by: str,
) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        record = ConfigRecord({"by": "itself"})
        return Message(RecordDict({"who": record}), reply_to=message)

    pids = tmp_path / "pids"
    with ray_grid(app, 4, workers=2, cohorts=Together(pids, poison)) as grid:
        replies = grid.send_and_receive(instructions(grid, range(4)))
    assert [reply.content["who"]["by"] for reply in replies] == [by] * 4
    tried = pids.read_text().split()
    assert len(tried) == len(set(tried)) == attempts


@system
def test_a_model_is_stored_once_however_many_messages_carry_it(
    ray_session: RaySession,
    numpy_app: ClientApp,
    instructions: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored: list[int] = []
    put = ray_crew.ray.put

    def counting(value: bytes) -> object:
        stored.append(len(value))
        return put(value)

    monkeypatch.setattr(ray_crew.ray, "put", counting)
    model = ArrayRecord({"packed": Array(np.zeros(20_000))})
    with ray_grid(numpy_app, 10, workers=2) as grid:
        replies = grid.send_and_receive(instructions(grid, range(10), model=model))
    assert all(reply.has_content() for reply in replies)
    assert [size for size in stored if size > 20_000 * 8] == [20_000 * 8 + 128]


@system
def test_an_app_that_cannot_be_loaded_there_is_refused_with_the_reason(
    ray_session: RaySession, instructions: Ask
) -> None:
    app = ClientApp()
    held = FailsToLoad()

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        return Message(RecordDict({"x": ConfigRecord({"held": str(held)})}), reply_to=message)

    with ray_grid(app, 1) as grid:
        asked = instructions(grid, [0], "query.x")
        with pytest.raises(WorkerError, match=r"cannot be loaded .*ModuleNotFoundError: .*nowhere"):
            grid.send_and_receive(asked)


class FailsToLoad:
    """Needs a module that the other end lacks."""

    def __reduce__(self) -> tuple[object, ...]:
        return __import__, ("nowhere",)


# What is refused before Ray starts


def test_an_app_that_cannot_be_pickled_is_refused() -> None:
    app = ClientApp()
    lock = threading.Lock()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        with lock:
            return Message(RecordDict(), reply_to=message)

    with pytest.raises(
        ConfigError, match=r"cannot be sent to Ray's processes: TypeError: .*lock.*grid=in_process"
    ):
        ray_grid(app, 2)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_answers_is_refused(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"address={address}: nobody answers there"):
            ray_grid(ClientApp(), 2, address=address)


@pytest.mark.parametrize("address", ["here", "127.0.0.1", "http://127.0.0.1:80", "a:b", ":80"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a Ray cluster"):
        ray_grid(ClientApp(), 2, address=address)


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "daafl.simulation.ray_crew")
    with pytest.raises(ConfigError, match=r"pip install 'daafl\[simulation\]'"):
        ray_grid(ClientApp(), 2)


def test_ray_needs_an_actor() -> None:
    with pytest.raises(ValueError, match="workers must be None or at least 1 on Ray, not 0"):
        RayCrew(Nodes(ClientApp(), 2, 1, {}), workers=0, message_timeout_s=1.0)


# What is left behind

PROGRAM = """
import sys, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from daafl.simulation.ray_grid import ray_grid

app = ClientApp()
seen = []

@app.query("x")
def query(message, context):
    time.sleep(message.content["config"]["sleep_s"])
    seen.append(1)
    return Message(RecordDict({"n": ConfigRecord({"n": len(seen)})}), reply_to=message)

def ask(grid, sleep_s):
    content = RecordDict({"config": ConfigRecord({"sleep_s": sleep_s})})
    (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[0], "query.x")])
    return reply.content["n"]["n"]

address = sys.argv[1] if len(sys.argv) > 1 else None
with ray_grid(app, 2, workers=1, address=address) as grid:
    print(ask(grid, 0), ask(grid, 0), flush=True)
    if address is None and sys.stdin.readline():
        ask(grid, 600)
"""


@system
@pytest.mark.parametrize("end", ["close", "interrupt", "kill"])
def test_nothing_is_left_of_a_ray_that_was_started_here(tmp_path: Path, end: str) -> None:
    mark = ("DAAFL_TESTS", str(tmp_path))
    temporary = tmp_path if len(str(tmp_path)) < 30 else None
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={**os.environ, mark[0]: mark[1], **({"TMPDIR": str(temporary)} if temporary else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    # What the app remembers stays from message to message, even though it is from `__main__`.
    assert program.stdout.readline() == "1 2\n"
    assert len(pids_of(*mark)) > 3
    assert open_to_the_network(pids_of(*mark)) == set()
    folders = {
        match.group()
        for pid in pids_of(*mark)
        if (match := re.search(r"/[^\s\0=]*/daafl-\w+", title(pid)))
    }
    assert len(folders) == 1
    if end != "close":
        program.stdin.write("\n")
        program.stdin.flush()
        time.sleep(1.0)
        # Ctrl-C reaches all processes of the terminal.
        os.killpg(program.pid, signal.SIGINT) if end == "interrupt" else program.kill()
    program.communicate(timeout=60)
    # Ray's own agents take a minute to notice that all the others were killed.
    patient = "Agent" if end == "kill" else "nobody"
    assert eventually(lambda: all(patient in title(pid) for pid in pids_of(*mark)))
    folder = folders.pop()
    if end == "kill":
        shutil.rmtree(folder)
    assert not Path(folder).exists()


def open_to_the_network(pids: set[int]) -> set[str]:
    """Return the addresses other than loopback at which processes listen."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(entry))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *others = line.split()
            is_theirs = f"socket:[{others[5]}]" in inodes
            if is_theirs and state == "0A" and not local.partition(":")[0].endswith("0100007F"):
                found.add(local)
    return found


@system
def test_a_process_cannot_join_a_second_ray(ray_session: RaySession, numpy_app: ClientApp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"address={address}: .* connected to another Ray"):
            ray_grid(numpy_app, 2, address=address)
    joined = ray_crew.ray.get_runtime_context().gcs_address
    ray_grid(numpy_app, 2, address=joined).close()
    assert ray_crew.ray.is_initialized()


@system
def test_a_cluster_that_was_joined_goes_on_without_us(
    ray_session: RaySession, instructions: Ask, numpy_app: ClientApp
) -> None:
    address = ray_crew.ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), address],
        # The cluster is one of loopback, so its members must be too.
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "1 2\n"
    with ray_grid(numpy_app, 2, workers=2) as grid:
        assert len(grid.send_and_receive(instructions(grid, [0, 1]))) == 2
