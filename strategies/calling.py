"""How a Flower strategy is called: in silence, by itself, on nodes that do not exist.

Flower's strategies expect to run a federation. They sample nodes from Python's global generator,
sleep until enough of them are there, narrate every round, and collect garbage after every reply.
None of that is wanted from a strategy that only combines updates.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from daafl.autonomy.plan import Value
from daafl.errors import ConfigError, FederationError
from daafl.flower import Run, empty_run
from daafl.messages import CONFIG, SERVER_ROUND
from daafl.strategies.capabilities import is_listed

_MIN_STUB_NODES: Final = 64  # for a strategy that may tell one node something else than another


def configured(strategy: Strategy, server_round: int, arrays: ArrayRecord) -> dict[str, Value]:
    """Return what ``strategy`` wants nodes to know in a round that starts from ``arrays``.

    The strategy may take note of the arrays; the messages that it makes are thrown away.

    Raises
    ------
    ConfigError
        If settings differ between nodes or are no plain numbers, texts or booleans.
    """
    name = type(strategy).__name__
    key = getattr(strategy, "configrecord_key", CONFIG)
    grid = StubGrid(_num_stub_nodes(strategy))
    with _silence(), _own_random(server_round):
        messages = list(strategy.configure_train(server_round, arrays, ConfigRecord(), grid))
    configs = [message.content.get(key, ConfigRecord()) for message in messages]
    if any(config != configs[0] for config in configs[1:]):
        raise ConfigError(f"{name} configures nodes differently; an assignment rule does that here")
    return _settings(name, configs[0] if configs else {})


def aggregated(
    strategy: Strategy, server_round: int, replies: Iterable[Message]
) -> ArrayRecord | None:
    """Return the arrays that ``strategy`` makes of the replies, if it makes any."""
    with _silence(), _cheap_collections():
        arrays, _ = strategy.aggregate_train(server_round, replies)
    return arrays


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


def _settings(strategy: str, config: Mapping[str, object]) -> dict[str, Value]:
    settings: dict[str, Value] = {}
    for key, value in config.items():
        if key == SERVER_ROUND:
            continue
        if not isinstance(value, bool | int | float | str):
            raise ConfigError(
                f"{strategy} configures nodes with {key!r} of type {type(value).__name__}; "
                "only numbers, texts and booleans travel with an assignment"
            )
        settings[key] = value
    return settings


def _num_stub_nodes(strategy: Strategy) -> int:
    """Return as many nodes as ``strategy`` may wait for."""
    wanted = [
        value
        for name, value in vars(strategy).items()
        if name.startswith("min_") and name.endswith("_nodes") and isinstance(value, int)
    ]
    return max(1 if is_listed(strategy) else _MIN_STUB_NODES, *wanted)


@contextmanager
def _own_random(seed: int) -> Iterator[None]:
    """Seed Python's global generator, from which strategies sample, and put it back."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _silence() -> Iterator[None]:
    """Silence what Flower narrates of every call; its warnings stay."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _cheap_collections() -> Iterator[None]:
    """Hide what already lives from the garbage collector.

    Flower collects garbage once per reply in QFedAvg and Bulyan, which takes tens of milliseconds
    each time in a process that has torch loaded.
    """
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
