"""A Flower Grid whose nodes live on this machine and whose time is an event clock."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Self

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from daafl.errors import FederationError
from daafl.flower import (
    Run,
    adopt_task_identity,
    empty_run,
    with_message_id,
)
from daafl.messages import COHORT, NODES
from daafl.payload import content_bytes
from daafl.simulation.cohorts import CohortApp
from daafl.simulation.devices import Devices
from daafl.simulation.memory import recalled
from daafl.simulation.node import FIRST_NODE_ID, Nodes
from daafl.simulation.pushed import Pushed, metadata_of, reply_of
from daafl.simulation.registered import SimulatedNodes
from daafl.simulation.sealing import batches, sealed
from daafl.simulation.snapshot import GridState, Held, state_of, state_tree
from daafl.simulation.timeline import Letter, Timeline
from daafl.simulation.traffic import Traffic
from daafl.simulation.wire import packed
from daafl.simulation.workers import Crew, local_crew
from daafl.simulation.world import World
from daafl.store.tree import Tree

_RUN_ID: Final = 1

COHORT_ADDRESS: Final = FIRST_NODE_ID - 1
"""Flower's id of no node in particular: who writes there names the members of a cohort."""

CrewFactory = Callable[..., Crew]
"""Called with the nodes, ``workers`` and ``message_timeout_s``; see `local_crew`."""


class InProcessGrid(Grid):
    """Runs any ClientApp on one machine, in virtual time.

    A message reaches its node when the fleet's network has carried it there, waits until the node
    is free, occupies it for the reported local steps (``steps`` in the ``telemetry`` record; none
    if absent), and its reply travels back; what is lost on the way never arrives. A failure costs
    no work. Time moves only in `wait` and `send_and_receive`; replies are handed out once it has
    reached them, equal times in the order of pushing. Replies, their order and their times do
    not depend on the number of workers, as long as the ClientApp draws no global random numbers.

    A ClientApp that raises, answers rubbish, hangs or ends its process costs its reply: an error
    with a reason takes its place. Not safe for use by several threads.

    Parameters
    ----------
    client_app
        The app all nodes run. `Context.node_config` holds ``partition-id`` and
        ``num-partitions``.
    num_nodes
        Number of nodes.
    fleet
        How long things take at each node, and what goes wrong; ``None`` makes all nodes equal.
    cohorts
        Answers messages that carry one model together; ``None`` has each run by itself.
    is_registered
        Whether `registered` vouches for all nodes, which needs `cohorts`; in a large federation
        greeting each of them would take longer than the training.
    workers
        Processes to run nodes in; ``None`` is one per core, 0 is this process, where nothing
        protects from a ClientApp that hangs or ends its process (and the only choice on Windows).
    message_timeout_s
        Wall-clock seconds that a node may work on one message.
    run_config
        `Context.run_config` of every node.
    crew
        Makes who runs messages, in place of processes of this machine.

    Raises
    ------
    ValueError
        If a number is out of range, or the fleet is not for `num_nodes`.

    Examples
    --------
    >>> from flwr.app import ConfigRecord
    >>> app = ClientApp()
    >>> @app.query("name")
    ... def name(message, context):
    ...     answer = ConfigRecord({"partition": context.node_config["partition-id"]})
    ...     return Message(RecordDict({"answer": answer}), reply_to=message)
    >>> with InProcessGrid(app, 2, workers=0) as grid:
    ...     ask = [Message(RecordDict(), node, "query.name") for node in grid.get_node_ids()]
    ...     [reply.content["answer"]["partition"] for reply in grid.send_and_receive(ask)]
    [0, 1]
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_nodes: int,
        *,
        fleet: World | None = None,
        cohorts: CohortApp | None = None,
        is_registered: bool = False,
        workers: int | None = None,
        message_timeout_s: float = 120.0,
        run_config: Mapping[str, bool | float | int | str] | None = None,
        crew: CrewFactory | None = None,
    ) -> None:
        if num_nodes < 1:
            raise ValueError(f"num_nodes must be at least 1, not {num_nodes}")
        if workers is not None and workers < 0:
            raise ValueError(f"workers must be None or at least 0, not {workers}")
        if not message_timeout_s > 0:
            raise ValueError(f"message_timeout_s must be more than 0, not {message_timeout_s}")
        world: World = Devices.uniform(num_nodes) if fleet is None else fleet
        if world.num_nodes != num_nodes:
            raise ValueError(f"the fleet is of {world.num_nodes} nodes, not of {num_nodes}")
        if is_registered and cohorts is None:
            raise ValueError("is_registered needs cohorts, which know what each node holds")
        adopt_task_identity(run_id=_RUN_ID)
        self._run = empty_run(_RUN_ID)
        self._num_nodes = num_nodes
        self._world = world
        self._cohorts = cohorts
        self._is_prepared = False
        nodes = Nodes(client_app, num_nodes, _RUN_ID, dict(run_config or {}), cohorts)
        make_crew = local_crew if crew is None else crew
        running = make_crew(nodes, workers=workers, message_timeout_s=message_timeout_s)
        self._closed = weakref.finalize(self, running.close)
        merge = None if cohorts is None else cohorts.merged
        self._timeline = Timeline(world, running, merge)
        self.registered = (
            SimulatedNodes(world, cohorts, self._timeline)
            if is_registered and cohorts is not None
            else None
        )
        self._out: dict[int, Pushed] = {}
        self._delivered: dict[str, Pushed] = {}

    @property
    def cohort_address(self) -> int | None:
        """Where messages to whole cohorts go; ``None`` if nodes are asked one by one only."""
        return None if self._cohorts is None else COHORT_ADDRESS

    def set_run(self, run: Run) -> None:
        """Set what `run` returns; nodes do not see it."""
        self._run = run

    @property
    def run(self) -> Run:
        """Description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message for a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return Flower's ids of the nodes online now, in the order of their partitions."""
        everybody = np.arange(self._num_nodes)
        is_online = self._world.online(everybody, self._timeline.now_s)
        ids: list[int] = (everybody[is_online] + FIRST_NODE_ID).tolist()
        return ids

    def now_s(self) -> float:
        """Return the virtual time: seconds since the grid was made."""
        return self._timeline.now_s

    @property
    def trainer(self) -> str:
        """How nodes are trained together, and why; empty if each runs by itself."""
        if self._cohorts is None:
            return ""
        self._prepare(self._cohorts)
        return self._cohorts.described()

    @property
    def traffic(self) -> Traffic:
        """Bytes that have travelled, and what the work has cost, of all messages that are over."""
        return self._timeline.traffic

    def node_state(self, node_id: int) -> RecordDict:
        """Return a copy of a node's `Context.state` after its last reply that has arrived."""
        return recalled(self._timeline.state(self._partition(node_id)))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages to their nodes, where they queue; return their ids.

        What is sent is the content as it is now: later changes to it reach no node.

        Raises
        ------
        ValueError
            If a message has no content or is for a node that does not exist.
        FederationError
            If the grid is closed.
        """
        return [pushed.message_id for pushed in self._push(messages)]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that have arrived by now, in order of arrival, each once."""
        self._run_until(self.now_s())
        ids = dict.fromkeys(message_ids)
        found = [self._delivered.pop(name) for name in ids if name in self._delivered]
        found.sort(key=lambda pushed: (pushed.event.arrives_at_s, pushed.event.number))
        return [reply_of(pushed) for pushed in found]

    def arrived(self) -> Collection[str]:
        """Return the ids of messages whose replies have arrived and have not been pulled."""
        return self._delivered.keys()

    def wait(self, timeout_s: float) -> None:
        """Let time pass until further replies arrive, at most `timeout_s`.

        Returns at once if `timeout_s` is infinite and no message is out.

        Raises
        ------
        ValueError
            If `timeout_s` is negative or not a number.
        """
        if not timeout_s >= 0:
            raise ValueError(f"timeout_s must be at least 0, not {timeout_s}")
        self._run_until(self.now_s() + timeout_s)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return their replies, in the order of the messages.

        What is lost has no reply.

        Parameters
        ----------
        messages
            What to send.
        timeout
            Virtual seconds to wait; replies that come later are dropped. ``None`` waits for all.
        """
        deadline_s = math.inf if timeout is None else self.now_s() + timeout
        asked = self._push(messages)
        missing = {pushed.event.number for pushed in asked}
        while missing and (self._timeline.may_arrive or self.now_s() < deadline_s < math.inf):
            missing.difference_update(self._run_until(deadline_s))
            if self.now_s() >= deadline_s:
                break
        for number in missing:
            self._out.pop(number, None)
        arrived = [pushed for pushed in asked if pushed.event.number not in missing]
        for pushed in arrived:
            del self._delivered[pushed.message_id]
        return [reply_of(pushed) for pushed in arrived]

    def snapshot(self) -> dict[str, Tree]:
        """Return where the grid stands, as plain data.

        That is the virtual time, the number of messages, what nodes keep in `Context.state`, the
        messages whose replies have not arrived, also those nobody waits for any more, and the
        replies that nobody has taken. What nodes have worked on is not in it: it is done again.
        """
        awaited = frozenset(self._out)
        held = tuple(
            Held(pushed.asked, event.number, event.arrives_at_s, event.outcome)
            for pushed in self._delivered.values()
            for event in [pushed.event]
        )
        trainer = self._cohorts.state() if self._cohorts and self._is_prepared else None
        state = GridState(self._timeline.point(), awaited, held, trainer)
        return state_tree(state, self._world)

    def restore(self, state: Tree) -> None:
        """Go on, in a grid that is new, where another one stood at its `snapshot`.

        With the same ClientApp, nodes and devices, everything that follows is the same: replies,
        their order, their times and their ids, whatever the number of workers.

        Raises
        ------
        StoreError
            If it is no state of a grid.
        FederationError
            If it is one of other nodes or devices, or this grid is closed or was used before.
        """
        if not self._closed.alive or self._timeline.next_number() > 1 or self.now_s() > 0:
            raise FederationError("a grid that was used or closed cannot be restored; make one")
        stood = state_of(state, self._world)
        if self._cohorts is not None and stood.trainer is not None:
            self._cohorts.load(stood.trainer)
            self._is_prepared = True
        self._timeline.go_to(stood.point)
        for event in self._timeline.out():
            if event.number in stood.awaited:
                self._out[event.number] = Pushed(metadata_of(event), event)
        for held in stood.held:
            pushed = Pushed(held.asked.metadata, held)
            self._delivered[pushed.message_id] = pushed

    def close(self) -> None:
        """End all worker processes; harmless when repeated."""
        self._closed()

    def __enter__(self) -> Self:
        """Return the grid; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the grid."""
        self.close()

    def _partition(self, node_id: int) -> int:
        partition = node_id - FIRST_NODE_ID
        if not 0 <= partition < self._num_nodes:
            last = FIRST_NODE_ID + self._num_nodes - 1
            raise ValueError(f"there is no node {node_id}; nodes are {FIRST_NODE_ID} to {last}")
        return partition

    def _push(self, messages: Iterable[Message]) -> list[Pushed]:
        if not self._closed.alive:
            raise FederationError("the grid is closed and takes no messages")
        asked = list(messages)
        for message in asked:
            if not message.has_content():
                raise ValueError("a message without content cannot be sent to a node")
            if message.metadata.dst_node_id != self.cohort_address:
                self._partition(message.metadata.dst_node_id)
        pushed: list[Pushed] = []
        for batch in batches(asked, self._is_together, self._most_together):
            pushed += self._push_batch(batch)
        return pushed

    def _is_together(self, message: Message) -> bool:
        if self._cohorts is None or message.metadata.dst_node_id == COHORT_ADDRESS:
            return False
        self._prepare(self._cohorts)
        return self._cohorts.is_together(message)

    def _most_together(self, message: Message) -> int:
        return 1 if self._cohorts is None else self._cohorts.most_together(message)

    def _prepare(self, cohorts: CohortApp) -> None:
        if not self._is_prepared:
            cohorts.prepare()
            self._is_prepared = True

    def _push_batch(self, batch: Sequence[Message]) -> list[Pushed]:
        """Send messages that run together, or a single one."""
        number, together = self._timeline.next_number(), len(batch) > 1
        ids = [f"message-{number + index}" for index in range(len(batch))]
        if batch[0].metadata.dst_node_id == self.cohort_address:
            (whole,) = sealed(batch, ids)
            return [self._push_to_cohort(whole)]
        named = (
            sealed(batch, ids)
            if together
            else [with_message_id(message, ids[0]) for message in batch]
        )
        letters = [
            Letter(
                self._partition(message.metadata.dst_node_id),
                message if together else packed(message),
                content_bytes(message.content),
            )
            for message in named
        ]
        flights = self._timeline.send(letters, together=together)
        pushed = [
            Pushed(message.metadata, flight) for message, flight in zip(named, flights, strict=True)
        ]
        self._out.update((each.event.number, each) for each in pushed)
        return pushed

    def _push_to_cohort(self, whole: Message) -> Pushed:
        if self._cohorts is None:
            raise ValueError("this grid has no cohorts to write to")
        self._prepare(self._cohorts)
        record = whole.content.get(COHORT)
        nodes = record.get(NODES) if isinstance(record, ConfigRecord) else None
        if not isinstance(nodes, list) or not nodes:
            raise ValueError(f"a message to a cohort needs a record {COHORT!r} with {NODES!r}")
        partitions = [int(node) for node in nodes]
        if min(partitions) < 0 or max(partitions) >= self._num_nodes:
            raise ValueError(f"a cohort has a node outside of 0 to {self._num_nodes - 1}")
        to_each = {name: item for name, item in whole.content.items() if name != COHORT}
        gathering = self._timeline.gather(
            partitions,
            whole,
            num_bytes=content_bytes(to_each),
            steps=self._cohorts.steps(whole),
            most_together=self._cohorts.most_together(whole),
        )
        pushed = Pushed(whole.metadata, gathering)
        self._out[gathering.number] = pushed
        return pushed

    def _run_until(self, horizon_s: float) -> list[int]:
        """Let time pass as `Timeline.run_until` does; return the numbers that arrived."""
        passed = self._timeline.run_until(horizon_s)
        for number in passed.lost:
            self._out.pop(number, None)
        arrived = [event.number for event in passed.arrived]
        for number in arrived:
            if number in self._out:  # else nobody waits for it any more
                pushed = self._out.pop(number)
                self._delivered[pushed.message_id] = pushed
        return arrived
