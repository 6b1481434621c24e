"""Worker processes: what a ClientApp can do to them, and what it costs."""

import gc
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from daafl.errors import WorkerError
from daafl.flower import failure_name
from daafl.simulation import Devices, InProcessGrid, node
from daafl.simulation.node import MAX_REASON

Ask = Callable[..., list[Message]]


def children() -> set[int]:
    """Return the pids of this process's children, zombies included."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


def eventually(claim: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Return whether `claim` comes true before long."""
    give_up = time.monotonic() + seconds
    while not (is_true := claim()) and time.monotonic() < give_up:
        time.sleep(0.02)
    return is_true


FAILURES = {
    "raise": ("client_app_raised", r"ValueError: no data here \(conftest.py:\d+ in fail\)"),
    "sys.exit": ("client_app_raised", r"SystemExit: 3"),
    "none": ("client_app_raised", r"returned a NoneType, not a Message"),
    "echo": ("client_app_raised", r"not made with reply_to=message"),
    "own error": ("node_unavailable", r"on strike"),
    "unpicklable": ("client_app_raised", r"(PicklingError|AttributeError): .*lambda"),
    "huge": ("client_app_raised", r"the reply has 2 MiB, more than the 1 MiB"),
}
DEATHS = {
    "exit": ("client_app_crashed", r"the worker process ended with exit code 7"),
    "segfault": ("client_app_crashed", r"was killed by SIGSEGV"),
    "killed": ("client_app_crashed", r"was killed by SIGKILL \(out of memory\?\)"),
    "hang": ("reply_unavailable", r"did not answer within 2 s and was stopped"),
}


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("how", sorted(FAILURES))
def test_a_failing_node_costs_its_reply_and_nothing_else(
    numpy_app: ClientApp,
    instructions: Ask,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    workers: int,
) -> None:
    monkeypatch.setattr(node, "MAX_REPLY_BYTES", 2**20)
    check_failure(numpy_app, instructions, how, workers, *FAILURES[how])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", sorted(DEATHS))
def test_a_dying_or_hanging_node_costs_its_reply_and_nothing_else(
    numpy_app: ClientApp, instructions: Ask, how: str, workers: int
) -> None:
    check_failure(numpy_app, instructions, how, workers, *DEATHS[how])


def check_failure(app: ClientApp, ask: Ask, how: str, workers: int, name: str, reason: str) -> None:
    devices = Devices.uniform(4, seconds_per_step=1.0, latency_s=1.0)
    patience_s = 2.0 if how == "hang" else 120.0
    with InProcessGrid(
        app, 4, fleet=devices, workers=workers, message_timeout_s=patience_s
    ) as grid:
        messages = ask(grid, [0], steps=1) + ask(grid, [1], "query.fail", how=how)
        messages += ask(grid, [2, 1, 3], steps=1)
        replies = grid.send_and_receive(messages)
        assert [reply.has_content() for reply in replies] == [True, False, True, True, True]
        assert failure_name(replies[1].error) == name
        assert re.search(reason, replies[1].error.reason)
        assert replies[1].metadata.src_node_id == 1001
        # The failure took no work: node 1 then worked from 1 s to 2 s, like all the others.
        assert grid.now_s() == 3.0
        # What a call wrote before it failed is undone; an app that answers with an error has not.
        expected = {"calls", "touched"} if how == "own error" else {"calls"}
        assert set(grid.node_state(1001)) == expected
        again = grid.send_and_receive(ask(grid, range(4), steps=1))
        assert [reply.content["metrics"]["calls"] for reply in again] == [2, 2, 2, 2]


def test_an_endless_reason_is_cut(instructions: Ask) -> None:
    app = ClientApp()

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        raise ValueError("x" * 100_000)

    with InProcessGrid(app, 1, workers=1) as grid:
        (reply,) = grid.send_and_receive(instructions(grid, [0], "query.x"))
        assert len(reply.error.reason) < MAX_REASON + 100


def test_a_worker_that_dies_idle_costs_nothing(numpy_app: ClientApp, instructions: Ask) -> None:
    before = children()
    with InProcessGrid(numpy_app, 2, workers=2) as grid:
        grid.send_and_receive(instructions(grid, [0, 1]))
        workers = children() - before
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        replies = grid.send_and_receive(instructions(grid, [0, 1]))
        assert [reply.content["metrics"]["calls"] for reply in replies] == [2, 2]
        assert not workers & children()
    assert children() == before


def test_a_dead_workers_children_cannot_hide_its_death_nor_outlive_it(
    instructions: Ask, tmp_path: Path
) -> None:
    app = ClientApp()
    pid_file = tmp_path / "pid"

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        # The forked child inherits the worker's pipe and keeps it open.
        child = get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        pid_file.write_text(str(child.pid), encoding="ascii")
        os._exit(9)

    with InProcessGrid(app, 1, workers=1) as grid:
        (reply,) = grid.send_and_receive(instructions(grid, [0], "query.x"))
        assert "exit code 9" in reply.error.reason
        assert eventually(lambda: is_gone(int(pid_file.read_text(encoding="ascii"))))


def test_closing_ends_all_workers_even_those_that_hang(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    before = children()
    grid = InProcessGrid(numpy_app, 4, workers=3)
    grid.push_messages(instructions(grid, [0, 1, 2], "query.fail", how="hang"))
    assert len(children() - before) == 3
    grid.close()
    assert children() == before
    grid.close()


def test_a_forgotten_grid_leaves_no_process(numpy_app: ClientApp, instructions: Ask) -> None:
    before = children()
    grid = InProcessGrid(numpy_app, 2, workers=2)
    grid.send_and_receive(instructions(grid, [0, 1]))
    assert children() != before
    del grid
    gc.collect()
    assert children() == before


def test_workers_are_forked_when_needed_and_never_more_than_nodes(
    numpy_app: ClientApp, instructions: Ask
) -> None:
    before = children()
    with InProcessGrid(numpy_app, 2, workers=16) as grid:
        assert children() == before
        grid.send_and_receive(instructions(grid, [0, 1, 0, 1]))
        assert len(children() - before) == 2


def test_a_machine_that_is_full_is_named(
    numpy_app: ClientApp, instructions: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with (
        InProcessGrid(numpy_app, 2, workers=2) as grid,
        pytest.raises(WorkerError, match=r"unavailable\); use fewer workers"),
    ):
        grid.push_messages(instructions(grid, [0]))


def test_a_machine_that_cannot_fork_runs_nodes_in_this_process(
    numpy_app: ClientApp, instructions: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")
    with InProcessGrid(numpy_app, 2) as grid:
        assert len(grid.send_and_receive(instructions(grid, [0, 1]))) == 2
    with pytest.raises(ValueError, match="no fork"):
        InProcessGrid(numpy_app, 2, workers=2)


SCRIPT = """
import os, time
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from daafl.simulation import InProcessGrid

app = ClientApp()

@app.query("hang")
def hang(message, context):
    os.write(1, b"running\\n")  # in one piece: two workers write to one pipe
    time.sleep(600)

grid = InProcessGrid(app, 2, workers=2)
messages = [Message(RecordDict(), node, "query.hang") for node in grid.get_node_ids()]
try:
    grid.send_and_receive(messages)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    grid.close()
"""


def mind_ctrl_c() -> None:
    """Undo what a background job inherits from its shell: Ctrl-C is ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_script() -> tuple[subprocess.Popen[str], list[int]]:
    """Run `SCRIPT` until both of its workers hang; return it and their pids."""
    script = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=mind_ctrl_c,
    )
    assert script.stdout is not None
    lines = [script.stdout.readline() for _ in range(2)]
    with open(f"/proc/{script.pid}/task/{script.pid}/children", encoding="ascii") as file:
        pids = list(map(int, file.read().split()))
    assert (lines, len(pids)) == (["running\n"] * 2, 2)
    return script, pids


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"  # the init process reaps it
    except FileNotFoundError:
        return True


def test_workers_die_with_a_killed_parent_even_when_they_hang() -> None:
    script, pids = start_script()
    assert script.stdout is not None
    script.kill()
    script.wait()
    script.stdout.close()
    assert eventually(lambda: all(map(is_gone, pids)))


def test_ctrl_c_reaches_the_parent_alone() -> None:
    script, pids = start_script()
    os.killpg(script.pid, signal.SIGINT)
    assert script.communicate(timeout=30)[0] == "interrupted\n"
    assert script.returncode == 0
    assert all(map(is_gone, pids))


def test_an_interrupted_grid_can_go_on(numpy_app: ClientApp, instructions: Ask) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with InProcessGrid(numpy_app, 3, workers=2, message_timeout_s=3.0) as grid:
            ids = grid.push_messages(instructions(grid, [0], "query.fail", how="hang"))
            ids += grid.push_messages(instructions(grid, [1, 2]))
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                grid.wait(math.inf)
            grid.wait(math.inf)
            assert len(grid.pull_messages(ids)) == 3
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_what_a_client_app_prints_is_seen_once(capfd: pytest.CaptureFixture[str]) -> None:
    app = ClientApp()

    @app.query("x")
    def query(message: Message, context: Context) -> Message:
        print("trained", context.node_config["partition-id"])
        return Message(RecordDict(), reply_to=message)

    with InProcessGrid(app, 2, workers=2) as grid:
        sys.stdout.write("begin ")
        grid.send_and_receive([Message(RecordDict(), id_, "query.x") for id_ in (1000, 1001)])
    out = capfd.readouterr().out
    assert sorted(out.split()) == ["0", "1", "begin", "trained", "trained"]


def test_closures_and_large_data_reach_the_workers_without_being_sent() -> None:
    app = ClientApp()
    data = np.arange(4_000_000, dtype=np.float64)
    unsendable = (value for value in range(3))  # a generator has no pickle

    @app.query("sum")
    def total(message: Message, context: Context) -> Message:
        value = float(data.sum()) + sum(unsendable)
        return Message(RecordDict({"sum": ConfigRecord({"value": value})}), reply_to=message)

    with InProcessGrid(app, 1, workers=1) as grid:
        (reply,) = grid.send_and_receive([Message(RecordDict(), 1000, "query.sum")])
    assert reply.content["sum"]["value"] == 4_000_000 * 3_999_999 / 2 + 3


def test_a_worker_computes_with_one_thread_and_reads_no_keyboard() -> None:
    app = ClientApp()

    @app.query("facts")
    def facts(message: Message, context: Context) -> Message:
        known = ConfigRecord(
            {
                "threads": os.environ["OMP_NUM_THREADS"],
                "stdin": os.readlink("/proc/self/fd/0"),
                "leads": os.getpgid(0) == os.getpid(),
            }
        )
        return Message(RecordDict({"facts": known}), reply_to=message)

    with InProcessGrid(app, 1, workers=1) as grid:
        (reply,) = grid.send_and_receive([Message(RecordDict(), 1000, "query.facts")])
    assert dict(reply.content["facts"]) == {"threads": "1", "stdin": "/dev/null", "leads": True}


@pytest.mark.parametrize("size", [100, 70_000, 3_000_000])
def test_models_of_any_size_arrive_unchanged(size: int) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        received = message.content["arrays"]["packed"].numpy()
        context.state["kept"] = ArrayRecord([received])
        arrays = ArrayRecord({"packed": Array(received + np.uint8(context.node_id % 7))})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    model = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with InProcessGrid(app, 5, workers=2) as grid:
        for round_number in range(3):
            sent = model + np.uint8(round_number)
            record = ArrayRecord({"packed": Array(sent)})
            content = RecordDict({"arrays": record})
            ids = grid.get_node_ids()
            replies = grid.send_and_receive([Message(content, id_, "train") for id_ in ids])
            for id_, reply in zip(ids, replies, strict=True):
                result = reply.content["arrays"]["packed"].numpy()
                assert np.array_equal(result, sent + np.uint8(id_ % 7))
        kept = grid.node_state(1002)["kept"]
        assert np.array_equal(kept.to_numpy_ndarrays()[0], sent)
