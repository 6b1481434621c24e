"""Runs messages in Ray actors: on the processors of this machine, or of a cluster."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from daafl import __version__
from daafl.errors import WorkerError
from daafl.flower import ErrorCode
from daafl.simulation.jobs import Batch, Job
from daafl.simulation.node import Failure, Nodes, Outcome
from daafl.simulation.ray_actor import NodeActor, pickled
from daafl.simulation.ray_session import RaySession, sentence
from daafl.simulation.wire import Parcel, Shelf, packed, unpacked
from daafl.simulation.workers import time_limit_s, usable_cores

MAX_ATTEMPTS: Final = 3
"""Actors that may be lost with a job, or in a row before they take one."""

START_S: Final = 120.0
"""Seconds until the first actor must be ready."""

_LOOK_AROUND_S: Final = 1.0


@dataclass(frozen=True)
class _Order:
    """A job, and how many actors have been lost with it."""

    job: Job
    num_lost: int = 0


@dataclass(frozen=True, eq=False)
class _Running:
    """What an actor is busy with, and since when."""

    actor: Any
    order: _Order
    began_at_s: float


@dataclass(frozen=True, eq=False)
class _Asked:
    """An actor that has been asked whether it is there; `is_new` if it has not been before."""

    actor: Any
    is_new: bool
    asked_at_s: float


class RayCrew:
    """Runs jobs in Ray actors, one per processor, each with one job at a time.

    Nodes travel to each actor once. Models and other large byte strings are put into Ray's object
    store once, and jobs refer to them. An actor that is lost, alone or with its machine, costs
    another attempt at its job. After `MAX_ATTEMPTS`, or when a job takes too long, its messages
    fail; those that ran together are first run again one by one.

    Parameters
    ----------
    nodes
        The nodes that jobs are for. They are pickled, so that every machine of a cluster needs
        the same daafl and the modules that the ClientApp comes from.
    workers
        Actors at most; ``None`` for one per processor.
    message_timeout_s
        Wall-clock seconds that one message may take; messages that run together have the sum.
    address
        Where Ray runs; see `daafl.simulation.ray_session.RaySession`.

    Raises
    ------
    ConfigError
        If the ClientApp cannot be pickled, or there is no Ray at the address.
    ValueError
        If `workers` is less than 1.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        workers: int | None,
        message_timeout_s: float,
        address: str | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be None or at least 1 on Ray, not {workers}")
        pickled(nodes)  # refused before anything is started
        self._nodes = nodes
        self._message_timeout_s = message_timeout_s
        self._owner = os.getpid()
        self._session = RaySession(address, num_cpus=workers or usable_cores())
        self._num_actors = min(workers or self._session.num_cpus, nodes.num_nodes)
        self._shipped: Any = None
        self._shelf = Shelf()
        self._stored: dict[int, Any] = {}
        self._waiting: deque[_Order] = deque()
        self._asked: dict[Any, _Asked] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, _Running] = {}
        self._num_false_starts = 0

    def submit(self, job: Job) -> None:
        """Take on a job and start it if an actor is free."""
        self._waiting.append(_Order(job))
        self._dispatch()

    def finished(self) -> list[tuple[int, Outcome]]:
        """Return messages that are done, lost or overdue; block until there is one."""
        while True:
            self._dispatch()
            if not self._busy and not self._waiting:
                raise WorkerError("no job is running that could finish")
            done = [outcome for ref in self._ready() for outcome in self._noted(ref)]
            done += self._overdue()
            if done:
                self._dispatch()
                return done

    def close(self) -> None:
        """End all actors, forget all jobs, and end Ray if it was started here."""
        if os.getpid() != self._owner:
            return  # a fork of the owner: the connection to Ray is not its own
        busy = [running.actor for running in self._busy.values()]
        asked = [asked.actor for asked in self._asked.values()]
        if ray.is_initialized():
            for actor in [*busy, *asked, *self._idle]:
                _kill(actor)
        for collection in (self._busy, self._asked, self._idle, self._stored, self._waiting):
            collection.clear()
        self._shipped = None
        self._session.close()

    def _dispatch(self) -> None:
        """Give waiting jobs to idle actors, and hire actors for the others."""
        try:
            while self._waiting and self._idle:
                self._start(self._idle[-1], self._waiting[0])
                self._idle.pop()
                self._waiting.popleft()
            while len(self._asked) < len(self._waiting) and self._num_hired < self._num_actors:
                self._hire()
        except RayError as error:
            raise WorkerError(f"Ray takes no jobs any more: {sentence(error)}") from error

    @property
    def _num_hired(self) -> int:
        return len(self._busy) + len(self._asked) + len(self._idle)

    def _hire(self) -> None:
        # Only now: what nodes learn before their first message, all actors know.
        if self._shipped is None:
            self._shipped = ray.put(pickled(self._nodes))
        make: Any = ray.remote(num_cpus=1)(NodeActor)
        actor = make.remote()
        ref = actor.load.remote(self._shipped, __version__)
        self._asked[ref] = _Asked(actor, is_new=True, asked_at_s=time.monotonic())

    def _start(self, actor: Any, order: _Order) -> None:
        parcel = packed(order.job)
        added, dropped = self._shelf.admit(parcel.blobs)
        for key in dropped:
            del self._stored[key]
        self._stored.update((key, ray.put(blob)) for key, blob in added.items())
        ref = actor.run.remote(parcel.frame, *(self._stored[id(blob)] for blob in parcel.blobs))
        self._busy[ref] = _Running(actor, order, time.monotonic())

    def _ready(self) -> list[Any]:
        """Return what has been answered by now; wait a moment if nothing has."""
        refs = [*self._busy, *self._asked]
        ray.wait(refs, timeout=self._patience_s())
        ready: list[Any] = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        return ready

    def _patience_s(self) -> float:
        due_s = [self._due_at_s(running) for running in self._busy.values()]
        return max(0.0, min([_LOOK_AROUND_S, *(at_s - time.monotonic() for at_s in due_s)]))

    def _due_at_s(self, running: _Running) -> float:
        return running.began_at_s + time_limit_s(running.order.job, self._message_timeout_s)

    def _noted(self, ref: Any) -> list[tuple[int, Outcome]]:
        """Take note of an answer; return the outcomes it has, if it is one to a job."""
        if ref in self._asked:
            self._note_presence(ref)
            return []
        running = self._busy[ref]
        try:
            parcel = ray.get(ref)
        except RayTaskError as error:
            if not isinstance(error.cause, RayError):
                self._free(ref)
                reason = f"the Ray actor failed at the message: {sentence(error.cause)}"
                return self._given_up(running.order, ErrorCode.CLIENT_APP_CRASHED, reason)
            return self._lost(ref, error.cause)
        except RayError as error:
            return self._lost(ref, error)
        outcomes = unpacked(parcel) if isinstance(parcel, Parcel) else None
        if not isinstance(outcomes, list):
            raise WorkerError(f"a Ray actor returned a {type(parcel).__name__}")
        self._free(ref)
        return outcomes

    def _free(self, ref: Any) -> None:
        self._idle.append(self._busy.pop(ref).actor)

    def _note_presence(self, ref: Any) -> None:
        """Take on an actor that says it is there, or do without one that does not."""
        asked = self._asked.pop(ref)
        try:
            ray.get(ref)
        except RayTaskError as error:
            raise WorkerError(
                f"the ClientApp cannot be loaded by Ray's processes: {sentence(error.cause)}; its "
                "modules and the same daafl must be installed on every machine"
            ) from error
        except RayError as error:
            _kill(asked.actor)
            self._forget_lost_objects(error)
            self._num_false_starts += asked.is_new
            if self._num_false_starts >= MAX_ATTEMPTS:
                raise WorkerError(
                    f"Ray's processes end before they take a message: {sentence(error)}"
                ) from error
        else:
            self._num_false_starts = 0
            self._idle.append(asked.actor)

    def _overdue(self) -> list[tuple[int, Outcome]]:
        """End the actors that have had their time, and return what they were running."""
        now_s = time.monotonic()
        if self._asked and not self._busy and not self._idle:
            since_s = min(asked.asked_at_s for asked in self._asked.values())
            if now_s - since_s > START_S:
                raise WorkerError(
                    f"Ray has started no actor within {START_S:g} s; all its processors may be "
                    "taken by other work"
                )
        late = [ref for ref, running in self._busy.items() if self._due_at_s(running) <= now_s]
        done = []
        for ref in late:
            running = self._busy.pop(ref)
            _kill(running.actor)
            limit_s = time_limit_s(running.order.job, self._message_timeout_s)
            reason = f"the node did not answer within {limit_s:g} s and was stopped"
            done += self._given_up(running.order, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason)
        return done

    def _lost(self, ref: Any, error: RayError) -> list[tuple[int, Outcome]]:
        """Have the job of a lost actor run again, unless it has taken too many with it."""
        running = self._busy.pop(ref)
        _kill(running.actor)
        self._forget_lost_objects(error)
        # Others may have gone with the same machine; the job must not meet one of them next.
        now_s = time.monotonic()
        for actor in self._idle:
            self._asked[actor.ping.remote()] = _Asked(actor, is_new=False, asked_at_s=now_s)
        self._idle.clear()
        order = _Order(running.order.job, running.order.num_lost + 1)
        if order.num_lost < MAX_ATTEMPTS:
            self._waiting.appendleft(order)
            return []
        reason = f"{MAX_ATTEMPTS} Ray actors in a row were lost with it: {sentence(error)}"
        return self._given_up(order, ErrorCode.CLIENT_APP_CRASHED, reason)

    def _forget_lost_objects(self, error: RayError) -> None:
        """Put everything into the object store anew if some of it is gone."""
        if isinstance(error, ObjectLostError):
            self._shelf, self._stored, self._shipped = Shelf(), {}, None

    def _given_up(self, order: _Order, code: int, reason: str) -> list[tuple[int, Outcome]]:
        """Return the failure of a job; messages that ran together are run again one by one."""
        if isinstance(order.job, Batch):
            self._waiting.extendleft(_Order(task) for task in reversed(order.job.singly()))
            return []
        return [(number, Failure(code, reason)) for number in order.job.numbers]


def _kill(actor: Any) -> None:
    """End an actor now; harmless if it has ended."""
    with suppress(RayError, ValueError):
        ray.kill(actor)
