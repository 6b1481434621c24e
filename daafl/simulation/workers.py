"""Who runs the ClientApp: worker processes, or this process."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Final, Protocol

from daafl.errors import WorkerError
from daafl.flower import ErrorCode
from daafl.simulation.node import Failure, Nodes, Outcome
from daafl.simulation.process import Worker
from daafl.simulation.threads import one_thread
from daafl.simulation.wire import Parcel

_LOOK_AROUND_S: Final = 0.25
"""How long a worker's death can stay unnoticed if a process it started keeps its pipe open."""

_MAX_ATTEMPTS: Final = 3
"""Fresh workers that may die before they take a message until the machine is to blame."""


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Task:
    """A message for a node, to be run; `number` tells tasks apart."""

    number: int
    partition: int
    message: Parcel
    state: Parcel | None


class Crew(Protocol):
    """Runs tasks, in any order."""

    def submit(self, task: Task) -> None:
        """Take on a task. No two tasks of one node may be out at the same time."""

    def finished(self) -> list[tuple[int, Outcome]]:
        """Return tasks that are done, by number; block until there is one."""

    def close(self) -> None:
        """Stop everything that runs; harmless when repeated."""


class InlineCrew:
    """Runs tasks in this process: for debuggers, and where forking is not possible.

    Nothing protects the caller from a ClientApp that hangs or ends its process.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Take on a task."""
        self._tasks.append(task)

    def finished(self) -> list[tuple[int, Outcome]]:
        """Run the oldest task and return it."""
        if not self._tasks:
            raise WorkerError("no task is running that could finish")
        task = self._tasks[0]
        with one_thread():
            outcome = self._nodes.answer(task.partition, task.message, task.state)
        self._tasks.popleft()  # only now: an interrupted task is run again
        return [(task.number, outcome)]

    def close(self) -> None:
        """Forget the tasks."""
        self._tasks.clear()


class WorkerCrew:
    """Runs tasks in forked processes, each with one task at a time.

    One at a time, because a worker that reads is a worker that does not write: neither side ever
    waits for the other to empty a full pipe. A worker that dies or does not answer in time is
    replaced, and only the task it was running is lost.

    Parameters
    ----------
    nodes
        The nodes that tasks are for.
    num_workers
        Processes to run side by side; they are forked when first needed.
    task_timeout_s
        Wall-clock seconds a task may take.
    """

    def __init__(self, nodes: Nodes, *, num_workers: int, task_timeout_s: float) -> None:
        self._nodes = nodes
        self._num_workers = num_workers
        self._task_timeout_s = task_timeout_s
        self._waiting: deque[Task] = deque()
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, Task]] = {}

    def submit(self, task: Task) -> None:
        """Take on a task and start it if a worker is free."""
        self._waiting.append(task)
        self._dispatch()

    def finished(self) -> list[tuple[int, Outcome]]:
        """Return tasks that are done, lost or overdue; block until there is one."""
        self._dispatch()
        if not self._busy:
            raise WorkerError("no task is running that could finish")
        while True:
            readable = wait(list(self._busy), timeout=self._patience_s())
            done = [
                self._ended(connection, overdue=False)
                for connection in readable
                if isinstance(connection, Connection)
            ]
            done += self._overdue()
            if not readable:
                done += self._vanished()
            if done:
                self._dispatch()
                return done

    def close(self) -> None:
        """Kill all workers and forget all tasks."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.kill()
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()

    def _dispatch(self) -> None:
        while self._waiting and len(self._busy) < self._num_workers:
            self._start(self._waiting[0])
            self._waiting.popleft()

    def _start(self, task: Task) -> None:
        """Give `task` to a worker; one that died while idle is replaced at no loss."""
        for _ in range(self._num_workers + _MAX_ATTEMPTS):
            worker = self._idle.pop() if self._idle else self._recruit()
            try:
                worker.start(task.partition, task.message, task.state)
            except OSError:
                continue
            self._busy[worker.connection] = (worker, task)
            return
        raise WorkerError("worker processes end before they take a message; is memory exhausted?")

    def _recruit(self) -> Worker:
        return Worker(self._nodes, [worker for worker, _ in self._busy.values()])

    def _patience_s(self) -> float:
        oldest = min(worker.sent_at_s for worker, _ in self._busy.values())
        overdue_in_s = oldest + self._task_timeout_s - time.monotonic()
        return max(0.0, min(_LOOK_AROUND_S, overdue_in_s))

    def _overdue(self) -> list[tuple[int, Outcome]]:
        """Stop the workers that have had their time, and return what they were running."""
        latest_start_s = time.monotonic() - self._task_timeout_s
        late = [c for c, (worker, _) in self._busy.items() if worker.sent_at_s <= latest_start_s]
        return [self._ended(connection, overdue=True) for connection in late]

    def _vanished(self) -> list[tuple[int, Outcome]]:
        """Return the tasks of workers that died while another process keeps their pipe open."""
        dead = [
            connection
            for connection, (worker, _) in self._busy.items()
            if not worker.is_alive and not connection.poll()
        ]
        return [self._ended(connection, overdue=False) for connection in dead]

    def _ended(self, connection: Connection, *, overdue: bool) -> tuple[int, Outcome]:
        """Return what became of the task behind `connection`; keep its worker if it lives."""
        worker, task = self._busy.pop(connection)
        if overdue:
            worker.kill()
            reason = f"the node did not answer within {self._task_timeout_s:g} s and was stopped"
            return task.number, Failure(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason)
        try:
            outcome = worker.outcome()
        except BaseException:
            self._waiting.appendleft(task)  # interrupted while reading: the task is run again
            raise
        if not connection.closed:
            self._idle.append(worker)
        return task.number, outcome
