"""Which nodes mask and share with which: a regular graph that every node derives by itself.

The nodes are put on a ring in an order that follows from a seed; each is joined to the ``degree``
nearest around it. How many are needed so that a secret stays secret and a sum is still recovered
is computed here with exact hypergeometric tails. A group of ``n`` nodes has ``c`` corrupt ones and
loses ``d``, at random places of the ring; ``h = degree / 2``.

==========================  =================================================================
what must not happen        probability, at most
==========================  =================================================================
some node has as many       ``n P[Hyp(n - 1, c, degree) >= threshold]``
corrupt neighbours as the
threshold: they know it
honest survivors fall into  curious server: ``n P[Hyp(n, c + d, h) = h]``, a whole half
parts, whose sums show      neighbourhood is corrupt or lost; malicious server, which itself
                            chooses who is lost: ``n P[Hyp(n, c, h) >= h - max_gap]``, where
                            nodes refuse a list that misses more than ``max_gap`` of any ``h``
                            neighbours on the ring
a node keeps too few        ``n P[Hyp(n - 1, d, degree) > degree - threshold]``, and for a
neighbours: the sum fails   malicious server ``n P[Hyp(n, d, h) > max_gap]`` more
==========================  =================================================================

A server that works with the corrupt nodes can try many groups and keys until the ring suits it;
``grinding_bits`` says how many tries (their binary logarithm) the privacy bound allows for.

Source: Bell et al. (2020), "Secure single-server aggregation with (poly)logarithmic overhead": its
good graphs, and the Harary graph on a random ring. The bounds are the union bounds of its proof
with exact tails in place of Chernoff's; `max_gap` and the row for a malicious server are our own.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

from daafl.errors import ConfigError

MIN_NODES: Final = 3
MAX_NODES: Final = 1 << 20
MAX_BITS: Final = 256
GRINDING_BITS: Final = 40
"""Tries a malicious server is taken to have, if nothing else is said."""


@dataclass(frozen=True)
class Policy:
    """What a federation assumes about its nodes and asks of the protocol.

    Parameters
    ----------
    corrupt_fraction
        Share of a group's nodes that may work with the server. It is a claim about every group that
        the server puts together, not about the roster: of few nodes drawn at random from many, a
        larger share is corrupt now and then.
    dropout_fraction
        Share of a group's nodes that may be lost from their keys to their shares, in all phases of
        one sum together.
    privacy_bits, correctness_bits
        The probabilities above are at most 2 to the minus this for each sum, privacy and recovery.
    grinding_bits
        Binary logarithm of the tries a colluding server may make at a convenient ring; ``None``
        for 0 with a curious server and 40 with a malicious one.
    min_survivors
        Fewest nodes a sum may have, whatever the fractions say.
    server
        ``curious``: it follows the protocol and looks. ``malicious``: it also chooses who is lost
        and whose keys suit it, so that no part of the group can be summed apart; this takes up to
        three times the neighbours in large groups, and few or none more below a hundred nodes.

    Notes
    -----
    Whatever ``server`` says, nodes refuse swapped keys, forged lists, two lists at once and too few
    survivors, and no honest node's two secrets are both recovered. What a lying server can reach
    against a ``curious`` policy is the sum of a part of the group instead of all of it: a part in
    which each node still has ``threshold`` neighbours that are corrupt or in the part. The default
    is ``curious``, the model of the published cost figures; choose ``malicious`` for more than a
    hundred nodes whose operator nobody trusts.
    """

    corrupt_fraction: float = 0.1
    dropout_fraction: float = 0.1
    privacy_bits: int = 40
    correctness_bits: int = 20
    grinding_bits: int | None = None
    min_survivors: int = MIN_NODES
    server: Literal["curious", "malicious"] = "curious"

    def __post_init__(self) -> None:
        """Refuse what no group can meet."""
        for name in ("corrupt_fraction", "dropout_fraction"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 to below 0.5")
        for name, bits in (
            ("privacy_bits", self.privacy_bits),
            ("correctness_bits", self.correctness_bits),
            ("grinding_bits", self.tries_bits),
        ):
            if not 0 <= bits <= MAX_BITS:
                raise ConfigError(f"{name} is {bits}; it must be 0 to {MAX_BITS}")
        if self.min_survivors < 2:
            raise ConfigError(f"min_survivors is {self.min_survivors}; it must be at least 2")
        if self.server not in ("curious", "malicious"):
            raise ConfigError(f"server is {self.server!r}; it must be 'curious' or 'malicious'")

    @property
    def tries_bits(self) -> int:
        """Binary logarithm of the tries at a ring that the privacy bound allows for."""
        if self.grinding_bits is not None:
            return self.grinding_bits
        return GRINDING_BITS if self.server == "malicious" else 0

    def counts(self, num_nodes: int) -> tuple[int, int]:
        """Return how many of ``num_nodes`` may be corrupt, and lost; both rounded up."""
        corrupt, lost = (
            math.ceil(Fraction(share).limit_denominator(1_000_000) * num_nodes)
            for share in (self.corrupt_fraction, self.dropout_fraction)
        )
        return corrupt, lost


@dataclass(frozen=True)
class Degree:
    """The numbers of one group, with what they guarantee.

    Parameters
    ----------
    num_nodes
        Size of the group.
    degree
        Neighbours of each node; even, or all others.
    threshold
        Shares that recover a secret.
    max_gap
        Most lost nodes among any ``degree // 2`` that follow each other on the ring.
    min_survivors
        Fewest nodes a sum may have.
    quorum
        Nodes that must confirm a list of survivors: two such quorums share an honest node, so the
        honest nodes act on one list only.
    privacy_failure, correctness_failure
        Binary logarithms of the bounds on the probability; ``-inf`` for never.
    """

    num_nodes: int
    degree: int
    threshold: int
    max_gap: int
    min_survivors: int
    quorum: int
    privacy_failure: float = field(compare=False)
    correctness_failure: float = field(compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.num_nodes - 1

    def statement(self, policy: Policy) -> str:
        """Return in one sentence what holds with which probability."""
        corrupt, lost = policy.counts(self.num_nodes)
        return (
            f"Of {self.num_nodes} nodes, each with {self.degree} neighbours and {self.threshold} "
            f"shares to recover a secret, {corrupt} may work with a {policy.server} server and "
            f"{lost} may be lost: an input shows outside the sum {_power(self.privacy_failure)}, "
            f"the sum is lost {_power(self.correctness_failure)}, and no sum has fewer than "
            f"{self.min_survivors} nodes."
        )


@lru_cache(maxsize=256)
def chosen(num_nodes: int, policy: Policy) -> Degree:
    """Return the smallest degree, and for it the smallest threshold, that meets ``policy``.

    The arithmetic is exact, so that every node arrives at the same numbers.

    Raises
    ------
    ConfigError
        If no degree does: the group is too small for so many corrupt and lost nodes.
    """
    corrupt, lost = policy.counts(num_nodes)
    quorum = (num_nodes + corrupt) // 2 + 1
    min_survivors = max(policy.min_survivors, num_nodes - lost, quorum)
    if not MIN_NODES <= num_nodes <= MAX_NODES or min_survivors > num_nodes - lost:
        raise ConfigError(
            f"a group of {num_nodes} nodes, {lost} of them lost, cannot meet the minimum of "
            f"{min_survivors} survivors; take a larger group of at most {MAX_NODES} nodes, or "
            "tolerate less"
        )
    for degree in range(2, num_nodes - 1, 2):
        numbers = _on_ring(num_nodes, degree, policy)
        if numbers is not None:
            threshold, max_gap, privacy, correctness = numbers
            return Degree(
                num_nodes, degree, threshold, max_gap, min_survivors, quorum, privacy, correctness
            )
    threshold = max(corrupt + 1, (num_nodes - 1) // 2 + 1)
    if threshold > num_nodes - 1 - lost:
        raise ConfigError(
            f"a group of {num_nodes} nodes cannot have {corrupt} corrupt and {lost} lost: "
            f"{threshold} shares are needed and {num_nodes - 1 - lost} remain; make it larger"
        )
    nothing = -math.inf
    return Degree(
        num_nodes, num_nodes - 1, threshold, num_nodes, min_survivors, quorum, nothing, nothing
    )


def tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    """Return P[X >= least] for X hypergeometric, exactly.

    Examples
    --------
    >>> tail(population=4, marked=2, drawn=2, least=2)
    Fraction(1, 6)
    """
    least = max(least, 0, drawn - (population - marked))
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, drawn - x)
        for x in range(least, min(marked, drawn) + 1)
    )
    return Fraction(ways, math.comb(population, drawn))


def ring(seed: bytes, nodes: Sequence[int]) -> tuple[int, ...]:
    """Return the nodes in the order of the ring: by the hash of the seed and the node.

    Parameters
    ----------
    seed
        32 bytes that follow from everything the group agreed on.
    nodes
        Distinct, each in [0, 2**64).
    """
    return tuple(
        sorted(nodes, key=lambda node: hashlib.sha256(seed + node.to_bytes(8, "big")).digest())
    )


def neighbours(order: Sequence[int], node: int, degree: int) -> frozenset[int]:
    """Return the ``degree`` nodes nearest to ``node`` on a ring."""
    if degree >= len(order) - 1:
        return frozenset(order) - {node}
    place = order.index(node)
    half = degree // 2
    return frozenset(
        order[(place + step) % len(order)] for step in (*range(-half, 0), *range(1, half + 1))
    )


def widest_gap(order: Sequence[int], present: frozenset[int], width: int) -> int:
    """Return the most nodes that are missing among ``width`` that follow each other."""
    missing = [node not in present for node in order]
    count = widest = sum(missing[:width])
    for start, left in enumerate(missing):
        count += missing[(start + width) % len(order)] - left
        widest = max(widest, count)
    return widest


def _on_ring(n: int, degree: int, policy: Policy) -> tuple[int, int, float, float] | None:
    """Return threshold, largest gap and both failures for a degree, or nothing if it is too low."""
    corrupt, lost = policy.counts(n)
    privacy = Fraction(1, 1 << (policy.privacy_bits + policy.tries_bits))
    correctness = Fraction(1, 1 << policy.correctness_bits)
    half = degree // 2
    if policy.server == "curious":
        max_gap, split, gap_failure = half - 1, n * tail(n, corrupt + lost, half, half), Fraction(0)
    else:
        gaps = (gap for gap in range(half) if n * tail(n, lost, half, gap + 1) <= correctness / 2)
        max_gap = next(gaps, half)
        split = n * tail(n, corrupt, half, half - max_gap)
        gap_failure = n * tail(n, lost, half, max_gap + 1)
    if split >= privacy:
        return None
    for threshold in range(half + 1, degree + 1):
        known = n * tail(n - 1, corrupt, degree, threshold)
        failure = gap_failure + n * tail(n - 1, lost, degree, degree - threshold + 1)
        if failure > correctness:
            return None
        if known + split <= privacy:
            return threshold, max_gap, _log2(known + split), _log2(failure)
    return None


def _log2(probability: Fraction) -> float:
    if not probability:
        return -math.inf
    return math.log2(probability.numerator) - math.log2(probability.denominator)


def _power(log2: float) -> str:
    """Return a probability in words."""
    return "never" if log2 == -math.inf else f"with probability at most 2^{log2:.1f}"
