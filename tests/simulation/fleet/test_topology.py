"""Networks: paths, against networkx's own and by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import ConfigError
from daafl.simulation.fleet import Fleet, Network, cloud_machine
from daafl.simulation.fleet.topology import network_of, read_network, regions, star


def test_in_a_star_every_point_has_its_own_link() -> None:
    network = star(2, latency_s=0.2, bandwidth_mbps=10.0, loss_fraction=0.1)
    assert network.latency_s.tolist() == [0.2, 0.2]
    assert network.bandwidth_mbps.tolist() == [10.0, 10.0]
    assert network.loss_fraction == pytest.approx([0.1, 0.1])


def test_paths_through_regions_add_up() -> None:
    network = regions(
        2,
        3,
        backbone_latency_s=0.1,
        backbone_mbps=5.0,
        latency_s=0.02,
        bandwidth_mbps=8.0,
        loss_fraction=0.25,
    )
    assert network.num_points == 6
    assert network.latency_s == pytest.approx([0.12] * 6)
    assert network.bandwidth_mbps.tolist() == [5.0] * 6
    assert network.loss_fraction.tolist() == [0.25] * 6


def test_a_device_adds_the_path_to_its_own_link(alone: Callable[..., Any]) -> None:
    device = alone(network=Network([2.0], [4.0], [0.0]))
    # 0.5 s + 2 s of latency; 4 Mbit at 4 Mbit/s, as both its links are faster.
    assert device.reached(0.0, 500_000) == 3.5
    assert device.returned(0.0, 500_000) == 3.5
    assert device.fleet.least_seconds(np.array([0])).tolist() == [5.0]


def test_nodes_that_are_cut_off_get_nothing() -> None:
    network = Network([0.1, math.inf], [1.0, math.inf], [0.0, 0.0])
    fleet = Fleet.of({"cloud": cloud_machine()}, 6, seed=0, network=network)
    nodes, sent = np.arange(6), np.zeros(6)
    arrives = fleet.reached(nodes, nodes + 1, sent, nodes).arrives_at_s
    assert np.isinf(arrives).tolist() == [False, True] * 3
    assert np.isfinite(fleet.least_seconds(nodes)).all()


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    """Return a random graph around a coordinator, some of it perhaps cut off."""
    graph = nx.Graph()
    graph.add_node("coordinator")
    names = ["coordinator", *(f"n{index}" for index in range(draw(st.integers(1, 9))))]
    graph.add_nodes_from(names)
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
    for first, second in draw(st.lists(pairs, max_size=14)):
        if first != second:
            graph.add_edge(
                first,
                second,
                latency_s=draw(st.integers(1, 10**6)) / 1e6,
                bandwidth_mbps=draw(st.floats(0.1, 1e3)),
                loss_fraction=draw(st.floats(0, 1)),
            )
    return graph


@given(graph=graphs())
def test_messages_take_the_shortest_path(graph: nx.Graph) -> None:
    leaves = [n for n in graph if n != "coordinator" and graph.degree[n] <= 1]
    if not leaves:
        with pytest.raises(ValueError, match="no leaf"):
            network_of(graph)
        return
    network = network_of(graph)
    for point, leaf in enumerate(leaves):
        if not nx.has_path(graph, "coordinator", leaf):
            assert network.latency_s[point] == math.inf
            continue
        length = nx.bellman_ford_path_length(graph, "coordinator", leaf, weight="latency_s")
        assert network.latency_s[point] == pytest.approx(length)
        shortest = nx.all_shortest_paths(graph, "coordinator", leaf, weight="latency_s")
        paths = [list(nx.utils.pairwise(path)) for path in shortest]
        narrowest = [min(graph.edges[e]["bandwidth_mbps"] for e in path) for path in paths]
        kept = [math.prod(1 - graph.edges[e]["loss_fraction"] for e in path) for path in paths]
        assert any(
            network.bandwidth_mbps[point] == width
            and network.loss_fraction[point] == pytest.approx(1 - share)
            for width, share in zip(narrowest, kept, strict=True)
        )


EDGES = "# a small network\ncoordinator hub 0.1 100\nhub a 0.02 8 0.5  # rural\nhub b 0.03 16\n"


def test_files_of_both_kinds_say_the_same(tmp_path: Path) -> None:
    edges, graphml = tmp_path / "net.edges", tmp_path / "net.graphml"
    edges.write_text(EDGES)
    graph = nx.Graph()
    graph.add_edge("coordinator", "hub", latency_s=0.1, bandwidth_mbps=100.0)
    graph.add_edge("hub", "a", latency_s=0.02, bandwidth_mbps=8.0, loss_fraction=0.5)
    graph.add_edge("hub", "b", latency_s=0.03, bandwidth_mbps=16.0)
    nx.write_graphml(graph, graphml)
    for path in (edges, graphml):
        network = read_network(str(path))
        assert network.latency_s == pytest.approx([0.12, 0.13])
        assert network.bandwidth_mbps.tolist() == [8.0, 16.0]
        assert network.loss_fraction.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.edges", "coordinator a 0.1\n", "line 1 has 3 words, but must be"),
        ("a.edges", "coordinator a x 1\n", "line 1: latency_s is 'x', not a number"),
        ("a.edges", "\ncoordinator a 0.1 -5\n", "link coordinator-a: bandwidth_mbps is -5.0, but"),
        ("a.edges", "coordinator a nan 5\n", "link coordinator-a: latency_s is nan, but must"),
        ("a.edges", "coordinator a 1 5 2\n", "link coordinator-a: loss_fraction is 2.0, but"),
        ("a.edges", "coordinator a 1 5\na coordinator 1 5\n", "line 2: link a-coordinator is"),
        ("a.edges", "a b 1 5\n", "the network has no node 'coordinator'"),
        ("a.edges", "", "the network has no node 'coordinator'"),
        ("a.graphml", "no xml", "it is not a GraphML file"),
        ("a.txt", "", "must be a file *.graphml or *.edges"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_network(str(path))
    assert complaint in str(caught.value)
    assert name in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.edges cannot be read"):
        read_network(str(tmp_path / "absent.edges"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Network([], [], []), "latency_s must be"),
        (lambda: Network([1.0], [1.0, 2.0], [0.0]), "equally long"),
        (lambda: Network([-1.0], [1.0], [0.0]), "latency_s must be"),
        (lambda: Network([1.0], [0.0], [0.0]), "bandwidth_mbps must be"),
        (lambda: Network([1.0], [1.0], [1.1]), "loss_fraction must be"),
        (lambda: star(0, latency_s=0.1, bandwidth_mbps=1.0), "at least 1"),
        (lambda: star(1, latency_s=0.1, bandwidth_mbps=-1.0), "bandwidth_mbps must be"),
    ],
)
def test_impossible_networks_are_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()
