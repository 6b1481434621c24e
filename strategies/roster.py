"""Who takes part: nodes are greeted when they appear, and left out while they are gone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from daafl.errors import FederationError, MessageError
from daafl.messages import CONFIG, QUERY_HELLO, Assignment, Hello
from daafl.strategies.mailbox import Arrival, Mailbox, Outgoing, Ticket
from daafl.strategies.pool import Pool
from daafl.strategies.selection import NodeFacts
from daafl.strategies.validation import check_records

MAX_GREETINGS: Final = 2  # to a node that stays present; one that comes back is greeted anew

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class RosterState:
    """What is known about nodes; pairs go by address, except for ``claims``: by logical id.

    Parameters
    ----------
    greeted
        Addresses that need no greeting.
    ticket_ids
        Under which ticket each was greeted.
    failed
        Greetings not answered.
    facts, claims, holders, refused
        As the roster knows them.
    num_registered
        Nodes of a grid that knows them by itself; nobody is greeted there, and nothing else is
        held.
    """

    greeted: tuple[int, ...] = ()
    ticket_ids: tuple[tuple[int, int], ...] = ()
    failed: tuple[tuple[int, int], ...] = ()
    facts: tuple[NodeFacts, ...] = ()
    claims: tuple[tuple[int, int], ...] = ()
    holders: tuple[tuple[int, int], ...] = ()
    refused: tuple[tuple[int, str], ...] = ()
    num_registered: int = 0


class Roster:
    """Logical nodes that are here, and where to reach them.

    Parameters
    ----------
    grid, mailbox
        Where nodes appear, and how they are greeted.
    layout
        Digest of the coordinator's model; a node with another model is refused.
    min_nodes, node_timeout_s
        Nodes without which the run cannot go on, and seconds to wait for them.
    reply_timeout_s
        Seconds a node has to answer a greeting.
    """

    def __init__(
        self,
        grid: Grid,
        mailbox: Mailbox,
        *,
        layout: str,
        min_nodes: int,
        node_timeout_s: float,
        reply_timeout_s: float,
    ) -> None:
        self._grid = grid
        self._mailbox = mailbox
        self._layout = layout
        self._min_nodes = min_nodes
        self._node_timeout_s = node_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._greeted: set[int] = set()
        self._ticket_ids: dict[int, int] = {}  # a repeated greeting keeps its identity
        self._settled: list[int] | None = None  # nodes present, if there is nobody to greet
        self._failed: Counter[int] = Counter()  # greetings not answered, by address
        self._facts: dict[int, NodeFacts] = {}
        self._nodes: tuple[int, ...] | None = None  # those there are facts about, if not changed
        self._claims: dict[int, int] = {}
        self._holders: dict[int, int] = {}  # by refused address: who has the same logical id
        self.refused: dict[int, str] = {}
        mailbox.on("hello", self._receive)

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def nodes(self) -> Sequence[int]:
        """Logical ids of all nodes that are here, ascending."""
        if self._nodes is None:
            self._nodes = tuple(sorted(self._facts))
        return self._nodes

    @property
    def min_nodes(self) -> int:
        """Nodes without which the run cannot go on."""
        return self._min_nodes

    @property
    def expected_nodes(self) -> int:
        """How many nodes the nodes themselves expect: the median of what they say."""
        return int(median(self._claims.values())) if self._claims else 0

    def facts(self, nodes: Iterable[int]) -> list[NodeFacts]:
        """Return what is known about those of ``nodes`` that are here."""
        return [self._facts[node] for node in nodes if node in self._facts]

    def pool(self, members: Sequence[int], out: Collection[int]) -> Pool:
        """Return those of ``members``, in ascending order, that are here and not ``out``."""
        return Pool([node for node in members if node in self._facts], out, self.facts)

    def num_examples(self, nodes: Sequence[int]) -> int:
        """Return how many examples ``nodes`` hold together."""
        return sum(facts.num_examples for facts in self.facts(nodes))

    def state(self) -> RosterState:
        """Return what is known about nodes."""
        return RosterState(
            greeted=tuple(sorted(self._greeted)),
            ticket_ids=tuple(self._ticket_ids.items()),
            failed=tuple(self._failed.items()),
            facts=tuple(self._facts.values()),
            claims=tuple(self._claims.items()),
            holders=tuple(self._holders.items()),
            refused=tuple(self.refused.items()),
        )

    def load(self, state: RosterState, *, is_same_run: bool) -> None:
        """Go on from an earlier `state`.

        Parameters
        ----------
        state
            From `state`.
        is_same_run
            Whether the grid goes on as well. Else every node is to be greeted again, as itself.
        """
        self._ticket_ids = dict(state.ticket_ids)
        if not is_same_run:
            return
        self._greeted, self._failed = set(state.greeted), Counter(dict(state.failed))
        self._facts, self._nodes = {facts.node: facts for facts in state.facts}, None
        self._claims, self._holders = dict(state.claims), dict(state.holders)
        self.refused = dict(state.refused)

    def refresh(self) -> None:
        """Greet new nodes and leave out those that are gone; wait if too few are left.

        Raises
        ------
        FederationError
            As `gather` does.
        """
        self._greet()
        if len(self) < self._min_nodes:
            self.gather()

    def gather(self) -> None:
        """Wait until enough nodes have answered.

        Enough is ``min_nodes``, or the number of nodes that the nodes themselves expect.

        Raises
        ------
        FederationError
            If fewer than ``min_nodes`` answer in time; it says how many did.
        """
        deadline_s = self._mailbox.clock.now_s() + self._node_timeout_s
        while self._mailbox.clock.now_s() < deadline_s:
            self._greet()
            self._mailbox.pump(lambda: not self._mailbox.live("hello"), deadline_s)
            if len(self) >= max(self._min_nodes, self.expected_nodes - self._num_given_up):
                return
            self._mailbox.clock.wait(1.0)
        if len(self) < self._min_nodes:
            because = f" ({next(iter(self.refused.values()))})" if self.refused else ""
            raise FederationError(
                f"only {len(self)} of at least {self._min_nodes} nodes answered within "
                f"{self._node_timeout_s:g} s{because}; start more nodes, or lower min_nodes"
            )

    @property
    def _num_given_up(self) -> int:
        """Nodes that failed every greeting they get; a hang costs real time each."""
        return sum(count >= MAX_GREETINGS for count in self._failed.values())

    def _greet(self) -> None:
        """Send a greeting to every node that has appeared since the last call."""
        addresses = list(self._grid.get_node_ids())
        if addresses == self._settled:
            return
        present = set(addresses)
        self._leave_out_all_but(present)
        new = sorted(
            address for address in present - self._greeted if self._failed[address] < MAX_GREETINGS
        )
        self._greeted.update(new)
        self._settled = addresses
        for address in new:
            if address not in self._ticket_ids:
                self._ticket_ids[address] = self._mailbox.next_id()
        now_s = self._mailbox.clock.now_s()
        question = Assignment(layout=self._layout).to_record()
        self._mailbox.send(
            [
                Outgoing(
                    Ticket(
                        id=self._ticket_ids[address],
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
                for address in new
            ]
        )

    def _leave_out_all_but(self, present: set[int]) -> None:
        """Forget nodes that are gone; they, and who waits for their place, are greeted anew."""
        waiting = {address for address, holder in self._holders.items() if holder not in present}
        self._greeted = (self._greeted & present) - waiting
        self._failed = Counter({a: n for a, n in self._failed.items() if a in present})
        self._facts = {n: facts for n, facts in self._facts.items() if facts.address in present}
        self._nodes = None
        self._claims = {n: claim for n, claim in self._claims.items() if n in self._facts}
        self._holders = {a: b for a, b in self._holders.items() if a in self._greeted}
        self.refused = {a: reason for a, reason in self.refused.items() if a in present}

    def _receive(self, arrival: Arrival) -> None:
        address = arrival.ticket.node
        self._settled = None
        if arrival.content is None:
            self._greeted.discard(address)  # silent or broken now; greet it once more
            self._failed[address] += 1
            self.refused[address] = f"node {address} did not answer: {arrival.error}"
            return
        try:
            check_records(arrival.content)
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
        self._nodes = None
        self._claims[hello.node] = hello.num_nodes
        self._facts[hello.node] = NodeFacts(hello.node, address, hello.num_examples, hello.software)

    def _check(self, hello: Hello, address: int) -> None:
        if hello.layout != self._layout:
            raise MessageError(
                "layout",
                f"its model has layout {hello.layout}, the coordinator's has {self._layout}; "
                "both must build the same model",
            )
        known = self._facts.get(hello.node)
        if known is not None and known.address != address:
            self._holders[address] = known.address
            raise MessageError("identity", f"node {hello.node} is already taken by {known.address}")
