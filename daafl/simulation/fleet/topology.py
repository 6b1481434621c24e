"""Networks as graphs of links with latency, bandwidth and loss, made here or read from a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import ParseError

import networkx as nx

from daafl.errors import ConfigError
from daafl.simulation.fleet.checking import check_at_least, check_fraction, check_positive
from daafl.simulation.fleet.network import Network

COORDINATOR: Final = "coordinator"
"""Name of the node of the graph at which the coordinator is."""

LATENCY_S: Final = "latency_s"
BANDWIDTH_MBPS: Final = "bandwidth_mbps"
LOSS_FRACTION: Final = "loss_fraction"

MAX_FILE_BYTES: Final = 64 * 2**20

_LEAST: Final = {LATENCY_S: 0.0, BANDWIDTH_MBPS: 1e-9, LOSS_FRACTION: 0.0}
_MOST: Final = {LATENCY_S: 1e6, BANDWIDTH_MBPS: 1e9, LOSS_FRACTION: 1.0}


def star(
    num_points: int, *, latency_s: float, bandwidth_mbps: float, loss_fraction: float = 0.0
) -> Network:
    """Return a network in which every point has a link of its own to the coordinator.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> star(3, latency_s=0.02, bandwidth_mbps=100.0).latency_s.tolist()
    [0.02, 0.02, 0.02]
    """
    link = _link(latency_s, bandwidth_mbps, loss_fraction)
    graph = nx.Graph()
    graph.add_edges_from((COORDINATOR, f"point {i}", link) for i in range(_count(num_points)))
    return network_of(graph)


def regions(
    num_regions: int,
    points_per_region: int,
    *,
    backbone_latency_s: float,
    backbone_mbps: float,
    latency_s: float,
    bandwidth_mbps: float,
    loss_fraction: float = 0.0,
) -> Network:
    """Return a tree: a backbone link to every region, and links from there to its points.

    Points are counted round the regions: point i, and node i with it, is in region ``i mod
    num_regions``.

    Parameters
    ----------
    num_regions, points_per_region
        Size of the tree.
    backbone_latency_s, backbone_mbps
        Of the links between regions and coordinator, which lose nothing.
    latency_s, bandwidth_mbps, loss_fraction
        Of the links between points and regions.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    backbone = _link(backbone_latency_s, backbone_mbps, 0.0)
    access = _link(latency_s, bandwidth_mbps, loss_fraction)
    graph = nx.Graph()
    for region in range(_count(num_regions)):
        graph.add_edge(COORDINATOR, f"region {region}", **backbone)
    for point in range(num_regions * _count(points_per_region)):
        graph.add_edge(f"region {point % num_regions}", f"point {point}", **access)
    return network_of(graph)


def network_of(graph: Any, coordinator: str = COORDINATOR) -> Network:
    """Return the network of a graph: messages take the path of least latency.

    Parameters
    ----------
    graph
        An undirected `networkx.Graph` whose edges have ``latency_s`` and ``bandwidth_mbps``, and
        ``loss_fraction`` unless it is 0. Its leaves, in their order, are the points that devices
        are attached to; a leaf without a path is cut off.
    coordinator
        Node of the graph at which the coordinator is.

    Raises
    ------
    ValueError
        If the coordinator or the leaves are missing, or a link has an impossible number.
    """
    if coordinator not in graph:
        raise ValueError(f"the network has no node {coordinator!r}")
    for first, second, link in graph.edges(data=True):
        for name, least in _LEAST.items():
            value = link.get(name, 0.0 if name == LOSS_FRACTION else math.nan)
            if not isinstance(value, int | float) or not least <= value <= _MOST[name]:
                raise ValueError(
                    f"link {first}-{second}: {name} is {value!r:.40}, but must be a number from "
                    f"{least:g} to {_MOST[name]:g}"
                )
    leaves = [node for node in graph if graph.degree[node] <= 1 and node != coordinator]
    if not leaves:
        raise ValueError("the network has no leaf to attach devices to")
    latencies, paths = nx.single_source_dijkstra(graph, coordinator, weight=LATENCY_S)
    links = [
        [graph.edges[pair] for pair in nx.utils.pairwise(paths.get(leaf, []))] for leaf in leaves
    ]
    return Network(
        [latencies.get(leaf, math.inf) for leaf in leaves],
        [min((link[BANDWIDTH_MBPS] for link in path), default=math.inf) for path in links],
        [1.0 - math.prod(1.0 - link.get(LOSS_FRACTION, 0.0) for link in path) for path in links],
    )


def read_network(path: str, coordinator: str = COORDINATOR) -> Network:
    """Return the network in a file.

    Parameters
    ----------
    path
        ``*.graphml`` with the attributes of `network_of`, or ``*.edges``: a link per line as
        ``node node latency_s bandwidth_mbps [loss_fraction]``, comments after ``#``.
    coordinator
        Node of the graph at which the coordinator is.

    Raises
    ------
    ConfigError
        If the file cannot be read or is no network; it names the file, and the line or link.
    """
    readers = {".graphml": _graphml, ".edges": _edges}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise ConfigError(f"network {path} must be a file *.graphml or *.edges")
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"network {path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return network_of(reader(path), coordinator)
    except OSError as error:
        raise ConfigError(f"network {path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ConfigError(f"network {path}: {error}") from error


def _graphml(path: str) -> Any:
    try:
        graph = nx.read_graphml(path)
    except (ParseError, nx.NetworkXError, KeyError) as error:
        raise ValueError(f"it is not a GraphML file ({error})") from error
    if graph.is_multigraph() or graph.is_directed():
        raise ValueError("its graph must be undirected, with at most one link between two nodes")
    return graph


def _edges(path: str) -> Any:
    graph = nx.Graph()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) not in (4, 5):
            raise ValueError(
                f"line {number} has {len(words)} words, but must be "
                "node node latency_s bandwidth_mbps [loss_fraction]"
            )
        first, second, *rest = words
        if graph.has_edge(first, second) or first == second:
            raise ValueError(f"line {number}: link {first}-{second} is there twice or a loop")
        for name, word in zip(_LEAST, rest, strict=False):
            try:
                graph.add_edge(first, second, **{name: float(word)})
            except ValueError:
                raise ValueError(f"line {number}: {name} is {word!r:.40}, not a number") from None
    return graph


def _link(latency_s: float, bandwidth_mbps: float, loss_fraction: float) -> dict[str, float]:
    check_at_least(0.0, latency_s=latency_s)
    check_positive(bandwidth_mbps=bandwidth_mbps)
    check_fraction(loss_fraction=loss_fraction)
    return {LATENCY_S: latency_s, BANDWIDTH_MBPS: bandwidth_mbps, LOSS_FRACTION: loss_fraction}


def _count(number: int) -> int:
    if number < 1:
        raise ValueError(f"a network needs at least 1 region and 1 point, not {number}")
    return number
