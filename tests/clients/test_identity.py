"""Who a node is, whatever Flower calls it."""

import pytest
from flwr.app import Context, RecordDict

from daafl.clients.identity import Identity, identity
from daafl.errors import ConfigError
from daafl.messages import MAX_COUNT


def context(config: dict[str, int | float | str | bool], node_id: int = 9) -> Context:
    return Context(1, node_id, config, RecordDict(), {})


def test_a_partition_is_a_logical_id() -> None:
    config = {"partition-id": 3, "num-partitions": 7}
    assert identity(context(config)) == Identity(3, 3, 7, 7)
    assert identity(context(config, node_id=10)) == identity(context(config, node_id=11))


def test_a_node_without_partition_owns_its_data_and_is_known_by_its_config() -> None:
    ward = identity(context({"name": "ward", "beds": 20}))
    again = identity(context({"beds": 20, "name": "ward"}, node_id=77))
    other = identity(context({"name": "clinic", "beds": 20}))
    assert ward == again
    assert ward.node != other.node
    assert 0 <= ward.node <= MAX_COUNT
    assert (ward.partition, ward.num_partitions, ward.num_nodes) == (0, 1, 0)


def test_a_node_without_config_is_known_by_flowers_number() -> None:
    assert identity(context({}, 5)) == identity(context({}, 5))
    assert identity(context({}, 5)).node != identity(context({}, 6)).node


@pytest.mark.parametrize(
    "config",
    [
        {"partition-id": 3},
        {"partition-id": 3, "num-partitions": 3},
        {"partition-id": -1, "num-partitions": 3},
        {"partition-id": "1", "num-partitions": 3},
        {"partition-id": 1.0, "num-partitions": 3},
        {"partition-id": True, "num-partitions": 3},
        {"partition-id": 1, "num-partitions": "3"},
    ],
)
def test_half_a_partition_is_refused(config: dict[str, int | str]) -> None:
    with pytest.raises(ConfigError, match="both must be given"):
        identity(context(dict(config)))
