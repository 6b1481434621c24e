"""Who runs the ClientApp: worker processes, or this process."""

from __future__ import annotations

import os
import time
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Final, Protocol

from daafl.errors import WorkerError
from daafl.flower import ErrorCode
from daafl.simulation.jobs import Batch, Job, Sum
from daafl.simulation.node import Failure, Nodes, Outcome
from daafl.simulation.process import Worker
from daafl.simulation.threads import one_thread

_LOOK_AROUND_S: Final = 0.25
"""How long a worker's death can stay unnoticed if a process it started keeps its pipe open."""

_MAX_ATTEMPTS: Final = 3
"""Fresh workers that may die before they take a message until the machine is to blame."""


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew(Protocol):
    """Runs jobs, in any order."""

    def submit(self, job: Job) -> None:
        """Take on a job. No node may be part of two jobs at the same time."""

    def finished(self) -> list[tuple[int, Outcome]]:
        """Return what became of messages, by number; block until there is one."""

    def close(self) -> None:
        """Stop everything that runs; harmless when repeated."""


class InlineCrew:
    """Runs jobs in this process: for debuggers, and where forking is not possible.

    Nothing protects the caller from a ClientApp that hangs or ends its process.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Take on a job."""
        self._jobs.append(job)

    def finished(self) -> list[tuple[int, Outcome]]:
        """Run the oldest job and return what became of its messages."""
        if not self._jobs:
            raise WorkerError("no job is running that could finish")
        with one_thread():
            outcomes = self._nodes.run(self._jobs[0])
        self._jobs.popleft()  # only now: an interrupted job is run again
        return outcomes

    def close(self) -> None:
        """Forget the jobs."""
        self._jobs.clear()


class WorkerCrew:
    """Runs jobs in forked processes, each with one job at a time.

    One at a time, because a worker that reads is a worker that does not write: neither side ever
    waits for the other to empty a full pipe. A worker that dies or does not answer in time is
    replaced. Only the message it was running is lost; of messages that it was running together,
    each is run again by itself.

    Parameters
    ----------
    nodes
        The nodes that jobs are for.
    num_workers
        Processes to run side by side; they are forked when first needed.
    message_timeout_s
        Wall-clock seconds that one message may take; messages that run together have the sum.
    """

    def __init__(self, nodes: Nodes, *, num_workers: int, message_timeout_s: float) -> None:
        self._nodes = nodes
        self._num_workers = num_workers
        self._message_timeout_s = message_timeout_s
        self._waiting: deque[Job] = deque()
        self._idle: list[Worker] = []
        self._busy: dict[Connection, tuple[Worker, Job]] = {}

    def submit(self, job: Job) -> None:
        """Take on a job and start it if a worker is free."""
        self._waiting.append(job)
        self._dispatch()

    def finished(self) -> list[tuple[int, Outcome]]:
        """Return messages that are done, lost or overdue; block until there is one."""
        while True:
            self._dispatch()
            if not self._busy:
                raise WorkerError("no job is running that could finish")
            readable = wait(list(self._busy), timeout=self._patience_s())
            done = [
                outcome
                for connection in readable
                if isinstance(connection, Connection)
                for outcome in self._ended(connection, overdue=False)
            ]
            done += self._overdue()
            if not readable:
                done += self._vanished()
            if done:
                self._dispatch()
                return done

    def close(self) -> None:
        """Kill all workers and forget all jobs."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.kill()
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()

    def _dispatch(self) -> None:
        while self._waiting and len(self._busy) < self._num_workers:
            self._start(self._waiting[0])
            self._waiting.popleft()

    def _start(self, job: Job) -> None:
        """Give a job to a worker; one that died while idle is replaced at no loss."""
        for _ in range(self._num_workers + _MAX_ATTEMPTS):
            worker = self._idle.pop() if self._idle else self._recruit()
            try:
                worker.start(job)
            except OSError:
                continue
            self._busy[worker.connection] = (worker, job)
            return
        raise WorkerError("worker processes end before they take a message; is memory exhausted?")

    def _recruit(self) -> Worker:
        return Worker(self._nodes, [worker for worker, _ in self._busy.values()])

    def _due_at_s(self, worker: Worker, job: Job) -> float:
        return worker.sent_at_s + time_limit_s(job, self._message_timeout_s)

    def _patience_s(self) -> float:
        next_due_s = min(self._due_at_s(worker, job) for worker, job in self._busy.values())
        return max(0.0, min(_LOOK_AROUND_S, next_due_s - time.monotonic()))

    def _overdue(self) -> list[tuple[int, Outcome]]:
        """Stop the workers that have had their time, and return what they were running."""
        now_s = time.monotonic()
        late = [
            c for c, (worker, job) in self._busy.items() if self._due_at_s(worker, job) <= now_s
        ]
        return [outcome for c in late for outcome in self._ended(c, overdue=True)]

    def _vanished(self) -> list[tuple[int, Outcome]]:
        """Return the messages of workers that died while another process keeps their pipe open."""
        dead = [
            connection
            for connection, (worker, _) in self._busy.items()
            if not worker.is_alive and not connection.poll()
        ]
        return [outcome for c in dead for outcome in self._ended(c, overdue=False)]

    def _ended(self, connection: Connection, *, overdue: bool) -> list[tuple[int, Outcome]]:
        """Return what became of the job behind `connection`; keep its worker if it lives."""
        worker, job = self._busy.pop(connection)
        if overdue:
            worker.kill()
            limit_s = time_limit_s(job, self._message_timeout_s)
            reason = f"the node did not answer within {limit_s:g} s and was stopped"
            return self._lost(job, Failure(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason))
        try:
            result = worker.outcomes()
        except BaseException:
            self._waiting.appendleft(job)  # interrupted while reading: the job is run again
            raise
        if not connection.closed:
            self._idle.append(worker)
        return self._lost(job, result) if isinstance(result, Failure) else result

    def _lost(self, job: Job, failure: Failure) -> list[tuple[int, Outcome]]:
        """Return the failure of a job; messages that ran together are run again one by one."""
        if isinstance(job, Batch):
            self._waiting.extendleft(reversed(job.singly()))
            return []
        return [(number, failure) for number in job.numbers]


def time_limit_s(job: Job, message_timeout_s: float) -> float:
    """Return the wall-clock seconds that a job may take."""
    match job:
        case Batch():
            return message_timeout_s * len(job.numbers)
        case Sum():
            return message_timeout_s * max(len(job.partitions), 1)
    return message_timeout_s


def local_crew(nodes: Nodes, *, workers: int | None, message_timeout_s: float) -> Crew:
    """Return who runs messages on this machine: processes, or this one if there are to be none.

    Raises
    ------
    ValueError
        If there are to be processes on a system that cannot fork.
    """
    can_fork = hasattr(os, "fork")
    if workers == 0 or (workers is None and not can_fork):
        return InlineCrew(nodes)
    if not can_fork:
        raise ValueError(f"workers must be 0, not {workers}: this system has no fork")
    wanted = usable_cores() if workers is None else workers
    return WorkerCrew(
        nodes, num_workers=min(wanted, nodes.num_nodes), message_timeout_s=message_timeout_s
    )
