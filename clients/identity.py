"""Which node this is, whatever Flower calls it today.

Flower numbers a node anew when it reconnects. What a federation remembers about a node hangs on
its logical id instead.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from flwr.app import Context

from daafl.errors import ConfigError

MAX_NODES: Final = 2**48  # logical ids are below it


@dataclass(frozen=True)
class Identity:
    """A node's logical id, and which part of the data is its own.

    Parameters
    ----------
    node
        Logical id, stable over reconnects.
    partition, num_partitions
        The part of the task's data that the node trains on: one of how many.
    num_nodes
        Nodes the federation is made of; 0 if the node does not know.
    """

    node: int
    partition: int
    num_partitions: int
    num_nodes: int


def identity(context: Context) -> Identity:
    """Return who the node with this `Context` is.

    What decides is its `Context.node_config`. ``node`` is its logical id: the number under which a
    roster lists its key. ``partition-id`` and ``num-partitions`` are its part of the data; without
    them it owns its data and is partition 0 of 1. If there is no ``node``, the partition is the
    logical id; without that it is a hash of the whole node config, or of Flower's node id if that
    is empty. Nodes of one federation must therefore have different node configs.

    Raises
    ------
    ConfigError
        If ``node`` is no such number, or ``partition-id`` and ``num-partitions`` do not go
        together.
    """
    config = context.node_config
    number = config.get("node")
    if number is not None and (type(number) is not int or not 0 <= number < MAX_NODES):
        raise ConfigError(f"the node has node={number!r}; it must be 0 to {MAX_NODES - 1}")
    if "partition-id" not in config:
        if number is not None:
            return Identity(number, 0, 1, 0)
        named = json.dumps(config, sort_keys=True) if config else f"node {context.node_id}"
        digest = hashlib.sha256(named.encode()).digest()
        return Identity(int.from_bytes(digest[:6], "big"), 0, 1, 0)
    partition, num_partitions = config["partition-id"], config.get("num-partitions")
    if (
        type(partition) is not int
        or type(num_partitions) is not int
        or not 0 <= partition < num_partitions
    ):
        raise ConfigError(
            f"the node has partition-id={partition!r} and num-partitions={num_partitions!r}; both "
            'must be given, with 0 <= partition-id < num-partitions (--node-config "partition-id=0 '
            'num-partitions=10")'
        )
    logical = partition if number is None else number
    return Identity(logical, partition, num_partitions, num_partitions)
