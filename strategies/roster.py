"""Who takes part: nodes are greeted before they train, and again when new ones appear."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from statistics import median
from typing import Final

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from daafl.errors import FederationError, MessageError
from daafl.messages import CONFIG, QUERY_HELLO, Assignment, Hello
from daafl.strategies.mailbox import Arrival, Mailbox, Outgoing, Ticket
from daafl.strategies.selection import NodeFacts

log: Final = logging.getLogger(__name__)


class Roster:
    """Logical nodes and where to reach them.

    Parameters
    ----------
    grid, mailbox
        Where nodes appear, and how they are greeted.
    layout
        Digest of the coordinator's model; a node with another model is refused.
    reply_timeout_s
        Seconds a node has to answer a greeting.
    """

    def __init__(
        self, grid: Grid, mailbox: Mailbox, *, layout: str, reply_timeout_s: float
    ) -> None:
        self._grid = grid
        self._mailbox = mailbox
        self._layout = layout
        self._reply_timeout_s = reply_timeout_s
        self._greeted: set[int] = set()
        self._facts: dict[int, NodeFacts] = {}
        self._claims: list[int] = []
        self.refused: dict[int, str] = {}
        mailbox.on("hello", self._receive)

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Logical ids of all known nodes, ascending."""
        return tuple(sorted(self._facts))

    @property
    def expected_nodes(self) -> int:
        """How many nodes the nodes themselves expect: the median of what they say."""
        return int(median(self._claims)) if self._claims else 0

    def facts(self, nodes: Iterable[int]) -> list[NodeFacts]:
        """Return what is known about ``nodes``."""
        return [self._facts[node] for node in nodes]

    def address(self, node: int) -> int:
        """Return Flower's id of a logical node."""
        return self._facts[node].address

    def greet_new_nodes(self) -> None:
        """Send a greeting to every node that appeared since the last call."""
        new = [address for address in self._grid.get_node_ids() if address not in self._greeted]
        self._greeted.update(new)
        now_s = self._mailbox.clock.now_s()
        question = Assignment(layout=self._layout).to_record()
        self._mailbox.send(
            [
                Outgoing(
                    Ticket(
                        id=self._mailbox.next_id(),
                        purpose="hello",
                        node=address,
                        branch="",
                        version=-1,
                        draw=0,
                        sent_at_s=now_s,
                        due_by_s=now_s + self._reply_timeout_s,
                    ),
                    address,
                    QUERY_HELLO,
                    RecordDict({CONFIG: question}),
                )
                for address in sorted(new)
            ]
        )

    def gather(self, *, min_nodes: int, timeout_s: float) -> None:
        """Wait until enough nodes have answered.

        Enough is ``min_nodes``, or the number of nodes that the nodes themselves expect.

        Raises
        ------
        FederationError
            If fewer than ``min_nodes`` answer within ``timeout_s``; it says how many did.
        """
        deadline_s = self._mailbox.clock.now_s() + timeout_s
        while self._mailbox.clock.now_s() < deadline_s:
            self.greet_new_nodes()
            self._mailbox.pump(lambda: not self._mailbox.live("hello"), deadline_s)
            if len(self) >= max(min_nodes, self.expected_nodes):
                return
            self._mailbox.clock.wait(1.0)
        if len(self) < min_nodes:
            because = f" ({next(iter(self.refused.values()))})" if self.refused else ""
            raise FederationError(
                f"only {len(self)} of at least {min_nodes} nodes answered within {timeout_s:g} s"
                f"{because}; start more nodes, or lower min_nodes"
            )

    def _receive(self, arrival: Arrival) -> None:
        address = arrival.ticket.node
        if arrival.content is None:
            self._greeted.discard(address)  # silent or broken now; greet it again later
            self.refused[address] = f"node {address} did not answer: {arrival.error}"
            return
        try:
            record = arrival.content.get(CONFIG)
            if not isinstance(record, ConfigRecord):
                raise MessageError("schema", "the greeting has no config record")
            hello = Hello.from_record(record)
            self._check(hello, address)
        except MessageError as error:
            self.refused[address] = f"node {address} was refused: {error.detail}"
            log.warning("%s", self.refused[address])
            return
        self.refused.pop(address, None)
        self._claims.append(hello.num_nodes)
        facts = NodeFacts(hello.node, address, hello.num_examples, hello.software)
        known = self._facts.get(hello.node)
        self._facts[hello.node] = replace(known, address=address) if known else facts

    def _check(self, hello: Hello, address: int) -> None:
        if hello.layout != self._layout:
            raise MessageError(
                "layout",
                f"its model has layout {hello.layout}, the coordinator's has {self._layout}; "
                "both must build the same model",
            )
        known = self._facts.get(hello.node)
        if known is not None and known.address in set(self._grid.get_node_ids()) - {address}:
            raise MessageError("identity", f"node {hello.node} is already taken by {known.address}")
