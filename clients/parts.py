"""The parts of a node that every kind of secure sum works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import Context, Message

from daafl.clients.security import KeysOf
from daafl.clients.sensors import Sensors
from daafl.clients.work import Work
from daafl.learning.layout import Layout
from daafl.store.node_store import NodeStore


@dataclass(frozen=True)
class NodeParts:
    """What a node trains with, and what it is.

    Parameters
    ----------
    keys
        Returns its keys.
    do
        Trains the model in a message.
    layout
        Returns the layout of its model.
    store
        Its durable memory, if it has one.
    sensors
        What it measures about itself.
    """

    keys: KeysOf
    do: Callable[[Message, Context], Work]
    layout: Callable[[], Layout]
    store: NodeStore | None
    sensors: Sensors
