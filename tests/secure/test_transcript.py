"""What a server holds at the end of a masked sum, and what it can make of it: the sum only.

The server here is as strong as the policy lets it be: it holds every message of the session and
everything that the corrupt nodes know.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from daafl.errors import DataError
from daafl.secure import Policy, Secret, masks, shamir
from daafl.secure.client import Masking
from daafl.secure.messages import MaskedInput, Revelation, SealedShares
from daafl.secure.terms import Group

POLICY = Policy(corrupt_fraction=0.2, dropout_fraction=0.2)
SPARSE = Policy(0.1, 0.1, privacy_bits=10, correctness_bits=6)
Make = Callable[..., Any]


class Holder:
    """A server with its whole transcript and with what corrupt nodes hand it.

    Parameters
    ----------
    group
        The session's group.
    transcript
        Every message that the nodes sent.
    corrupt
        What each corrupt node knows when it masks: its secrets, and its neighbours' shares.
    """

    def __init__(
        self, group: Group, transcript: list[object], corrupt: Mapping[int, Masking]
    ) -> None:
        self.group = group
        self.corrupt = corrupt
        self.inputs = {m.node: m.words for m in transcript if isinstance(m, MaskedInput)}
        self.commitments = {m.node: m.commitment for m in transcript if isinstance(m, SealedShares)}
        self.seed_shares: dict[int, dict[int, int]] = defaultdict(dict)
        self.key_shares: dict[int, dict[int, int]] = defaultdict(dict)
        points = group.points
        for message in transcript:
            if isinstance(message, Revelation):
                rows = zip(message.seeds_of, message.seed_shares, strict=True)
                for owner, row in rows:
                    self.seed_shares[owner][points[message.node]] = shamir.share_from_bytes(row)
                rows = zip(message.keys_of, message.key_shares, strict=True)
                for owner, row in rows:
                    self.key_shares[owner][points[message.node]] = shamir.share_from_bytes(row)
        for node, state in corrupt.items():
            for owner, held in state.held.items():
                of_seed, of_key = held.of_seed.reveal(), held.of_key.reveal()
                self.seed_shares[owner][points[node]] = shamir.share_from_bytes(of_seed)
                self.key_shares[owner][points[node]] = shamir.share_from_bytes(of_key)

    def seed(self, node: int) -> Secret | None:
        """Return the seed of a node's own mask, if the server can recover it."""
        return _recovered(self.seed_shares[node], self.group, self._is_seed(node))

    def key(self, node: int) -> Secret | None:
        """Return the mask key of a node, if the server can recover it or its owner tells."""
        if node in self.corrupt:
            return self.corrupt[node].keys.mask_key
        public = self.group.members[node].mask_key
        return _recovered(
            self.key_shares[node], self.group, lambda key: masks.public_key(key) == public
        )

    def unmasked(self, node: int) -> np.ndarray[Any, Any] | None:
        """Return a node's vector if every mask on it can be computed."""
        seed = self.seed(node)
        if seed is None:
            return None
        known = [(masks.derived(seed, masks.own_info(self.group.session, node)), False)]
        own = self.key(node)
        for other in self.group.neighbours(node):
            if other not in self.commitments:
                continue
            info = masks.pair_info(self.group.session, node, other)
            theirs = self.key(other)
            if own is not None:
                key = masks.agreed_key(own, self.group.members[other].mask_key, info)
            elif theirs is not None:
                key = masks.agreed_key(theirs, self.group.members[node].mask_key, info)
            else:
                return None
            known.append((key, node > other))
        words = self.inputs[node].copy()
        masks.add_masks(words, known)
        return words

    def _is_seed(self, node: int) -> Callable[[Secret], bool]:
        return lambda seed: self.group.commitment(node, seed.reveal()) == self.commitments.get(node)


def _recovered(
    shares: Mapping[int, int], group: Group, is_right: Callable[[Secret], bool]
) -> Secret | None:
    try:
        return shamir.recovered(shares, group.degree.threshold, is_right)[0]
    except DataError:
        return None


def held_by_server(run: Any, corrupt: set[int]) -> tuple[Holder, Any]:
    """Return what the server holds after a session, and its result."""
    phase, deliveries = run.inputs_phase()
    for n in run.alive("mask"):
        phase.receive(run.seen(run.nodes[n].mask(deliveries[n], run.inputs[n])))
    known = {n: run.nodes[n]._state for n in corrupt}
    confirming, lists = phase.close()
    for n in run.alive("confirm"):
        confirming.receive(run.seen(run.nodes[n].confirm(lists[n])))
    revealing, confirmations = confirming.close()
    for n in run.alive("reveal"):
        revealing.receive(run.seen(run.nodes[n].reveal(confirmations)))
    return Holder(phase.group, run.transcript, known), revealing.close()


@pytest.mark.parametrize(
    ("count", "policy", "lost", "corrupt"),
    [
        (20, POLICY, {"mask": {3, 9}}, set()),
        (20, POLICY, {"mask": {3, 9}}, {0, 7, 11, 16}),
        (20, POLICY, {"share": {2}, "mask": {5}, "confirm": {8}, "reveal": {12}}, {0, 7, 11, 16}),
        (60, SPARSE, {"mask": {3, 9, 33}}, {0, 7, 11, 16, 40, 59}),
    ],
)
def test_no_honest_vector_and_no_second_secret_can_be_recovered(
    session: Make, count: int, policy: Policy, lost: dict[str, set[int]], corrupt: set[int]
) -> None:
    run = session(count, policy, silent=lost)
    server, result = held_by_server(run, corrupt)
    assert np.array_equal(result.words, run.sum_of(result.nodes))
    survivors = set(result.nodes)
    gone = lost["mask"]
    for node in range(count):
        if node in corrupt:
            continue
        if node in survivors:
            assert server.seed(node) is not None  # or the sum could not have been unmasked
            assert server.key(node) is None
            assert server.unmasked(node) is None
        elif node in gone:
            assert server.key(node) is not None
            assert server.seed(node) is None
        else:
            assert server.key(node) is None
            assert server.seed(node) is None


def test_the_attack_works_on_a_node_whose_neighbours_are_all_corrupt(session: Make) -> None:
    """The attempt above fails for want of secrets, not of skill: with them, it succeeds."""
    run = session(20, POLICY)
    server, _ = held_by_server(run, set(range(1, 20)))
    found = server.unmasked(0)
    assert found is not None
    assert np.array_equal(found, run.inputs[0])


def test_a_vector_that_arrives_late_stays_hidden(session: Make) -> None:
    """Its sender was declared lost and its key revealed, but nobody reveals its seed as well."""
    run = session(20, POLICY)
    phase, deliveries = run.inputs_phase()
    late = run.nodes[3].mask(deliveries[3], run.inputs[3])
    for n in set(range(20)) - {3}:
        phase.receive(run.nodes[n].mask(deliveries[n], run.inputs[n]))
    confirming, lists = phase.close()
    for n in lists:
        confirming.receive(run.nodes[n].confirm(lists[n]))
    revealing, confirmations = confirming.close()
    for n in lists:
        revealing.receive(run.seen(run.nodes[n].reveal(confirmations)))
    result = revealing.close()
    assert result.nodes == tuple(n for n in range(20) if n != 3)
    server = Holder(phase.group, [*run.transcript, late], {})
    assert server.key(3) is not None
    assert server.seed(3) is None
    assert server.unmasked(3) is None


def test_parts_of_the_sum_stay_masked(session: Make) -> None:
    """Without own masks, any group of survivors but all of them still carries pair masks."""
    run = session(12, Policy(0.1, 0.3))
    server, result = held_by_server(run, set())
    own = {}
    for node in result.nodes:
        seed = server.seed(node)
        assert seed is not None
        words = server.inputs[node].copy()
        info = masks.own_info(server.group.session, node)
        masks.add_masks(words, [(masks.derived(seed, info), False)])
        own[node] = words
    for size in range(1, 12):
        for part in itertools.combinations(result.nodes, size):
            total = np.sum([own[n] for n in part], axis=0, dtype=np.uint32)
            assert not np.array_equal(total, run.sum_of(part))
    assert np.array_equal(np.sum(list(own.values()), axis=0, dtype=np.uint32), result.words)


def test_no_key_is_used_in_two_sessions(session: Make) -> None:
    """The same nodes under the same terms: other keys, other masks, other boxes."""
    run = session(12, Policy(0.1, 0.3))
    node = type(run.nodes[0])
    again = {n: node(run.terms, n, key) for n, key in run.identities.items()}
    before = {n: run.nodes[n].advertisement for n in run.nodes}
    for n, other in again.items():
        assert other.advertisement.mask_key != before[n].mask_key
        assert other.advertisement.share_key != before[n].share_key
    first, second = held_by_server(run, set())[0], None
    run.nodes, run.transcript = again, []
    second = held_by_server(run, set())[0]
    assert first.group.session != second.group.session
    for n in range(12):
        assert not np.array_equal(first.inputs[n], second.inputs[n])
        assert first.seed(n) != second.seed(n)
