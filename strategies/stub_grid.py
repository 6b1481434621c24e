"""A grid with nodes that do not exist, to ask a Flower strategy for its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from daafl.errors import FederationError
from daafl.flower import Run, empty_run


class StubGrid(Grid):
    """Names as many nodes as a strategy may wait for, and reaches none of them.

    Flower's strategies sample nodes in ``configure_train`` and sleep until enough are there. Here
    there always are, and the messages they address to them are thrown away.

    Parameters
    ----------
    num_nodes
        How many nodes there seem to be, with ids from 0.
    """

    def __init__(self, num_nodes: int) -> None:
        self._num_nodes = num_nodes
        self._run = empty_run(0)

    @property
    def run(self) -> Run:
        """Description of no run."""
        return self._run

    def set_run(self, run: Run) -> None:
        """Take the run's description."""
        self._run = run

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(range(self._num_nodes))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message that will never be sent."""
        return Message(
            content,
            dst_node_id=dst_node_id,
            message_type=message_type,
            group_id=group_id,
            ttl=ttl,
        )

    def push_messages(self, messages: Iterable[Message]) -> NoReturn:
        """Refuse."""
        _refuse()

    def pull_messages(self, message_ids: Iterable[str]) -> NoReturn:
        """Refuse."""
        _refuse()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> NoReturn:
        """Refuse."""
        _refuse()


def _refuse() -> NoReturn:
    raise FederationError(
        "a strategy tried to reach nodes while it configured training; here only the exchange "
        "talks to nodes, so return the messages from configure_train instead"
    )
