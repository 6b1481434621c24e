"""Sums come out exact whoever falls silent, and a lying server or node is refused by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daafl.errors import FederationError, MessageError
from daafl.secure import Advertisements, Identity, Policy, shamir
from daafl.secure.client import Masking
from daafl.secure.messages import Cohort, Confirmations

SMALL = Policy(corrupt_fraction=0.1, dropout_fraction=0.3)
LARGE = Policy(0.1, 0.2, privacy_bits=20, correctness_bits=10)

PHASES = ["keys", "share", "mask", "confirm", "reveal"]

Make = Callable[..., Any]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(MessageError) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize("phase", ["keys", "share", "mask", "confirm", "reveal"])
def test_the_sum_is_exact_when_nodes_fall_silent_at_any_phase(session: Make, phase: str) -> None:
    run = session(12, SMALL, silent={phase: {2, 7}})
    result = run.run()
    lost = {2, 7} if phase in ("keys", "share", "mask") else set()
    assert set(result.nodes) == set(range(12)) - lost
    assert np.array_equal(result.words, run.sum_of(result.nodes))
    assert result.wrong_holders == ()


@pytest.mark.parametrize("server", ["curious", "malicious"])
def test_one_of_fifty_lost_at_every_phase_of_a_sparse_graph(session: Make, server: Any) -> None:
    silent = {"keys": {1}, "share": {20}, "mask": {33, 41}, "confirm": {5}, "reveal": {6}}
    run = session(60, replace(LARGE, server=server), silent=silent)
    result = run.run()
    assert set(result.nodes) == set(range(60)) - {1, 20, 33, 41}
    assert np.array_equal(result.words, run.sum_of(result.nodes))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.integers(0, 9), st.sampled_from(PHASES), max_size=2), st.integers(1, 9))
def test_the_sum_is_exact_for_any_pattern_of_losses(
    session: Make, phases: dict[int, str], length: int
) -> None:
    """Any two of ten nodes, each lost at any phase; a group of eight may still lose three."""
    silent = {phase: {n for n, at in phases.items() if at == phase} for phase in PHASES}
    run = session(10, SMALL, length, silent)
    result = run.run()
    assert set(range(10)) - set(phases) <= set(result.nodes)
    assert np.array_equal(result.words, run.sum_of(result.nodes))


def test_the_graph_of_sixty_is_sparse(session: Make) -> None:
    phase, _ = session(60, LARGE).shares()
    assert phase.group.degree.degree < 59
    for node in phase.group.members:
        around = phase.group.neighbours(node)
        assert len(around) == phase.group.degree.degree
        assert all(node in phase.group.neighbours(other) for other in around)


def test_too_few_nodes_end_the_sum(session: Make) -> None:
    with pytest.raises(FederationError, match="must"):
        session(12, SMALL, silent={"mask": set(range(5))}).run()


def test_the_server_never_sees_an_input_or_both_kinds_of_share(session: Make) -> None:
    run = session(12, SMALL, silent={"mask": {3}, "reveal": {4}})
    secrets = [
        state.keys.mask_key.reveal() for state in (node._state for node in run.nodes.values())
    ]
    result = run.run()
    seen = b"".join(repr(vars(m)).encode() for m in run.transcript)
    raw = b"".join(
        value
        for message in run.transcript
        for value in message.to_dict().values()
        if isinstance(value, bytes)
    )
    for node in result.nodes:
        assert run.inputs[node].tobytes() not in raw
    for secret in secrets:
        assert secret not in raw
        assert secret.hex().encode() not in seen
    for message in run.transcript:
        if type(message).__name__ == "Revelation":
            assert set(message.seeds_of) <= set(result.nodes)
            assert message.keys_of == (3,)


def test_nothing_secret_shows_in_a_state(session: Make) -> None:
    run = session(12, SMALL)
    _, lists = run.confirming()
    state = run.nodes[0]._state
    assert isinstance(state, Masking)
    shown = repr(state)
    held = next(iter(state.held.values()))
    for secret in (state.keys.mask_key, state.keys.share_key, held.of_seed, held.of_key):
        assert secret.reveal().hex() not in shown
        assert repr(secret.reveal()) not in shown
    assert lists[0].nodes == tuple(range(12))


def swapped(cohort: Cohort, node: int, **changes: bytes) -> Cohort:
    rows = {name: list(getattr(cohort, name)) for name in changes}
    for name, value in changes.items():
        rows[name][node] = value
    return replace(cohort, **{name: tuple(row) for name, row in rows.items()})


def test_a_swapped_key_is_refused(session: Make) -> None:
    run = session(12, SMALL)
    _, cohort = run.shares()
    forged = swapped(cohort, 4, mask_keys=b"k" * 32)
    assert reason_of(lambda: run.nodes[0].share(forged)) == "signature"
    assert reason_of(lambda: run.nodes[4].share(forged)) == "signature"
    assert reason_of(lambda: run.nodes[0].share(cohort)) == "phase"


def test_own_keys_that_the_server_left_out_are_noticed(session: Make) -> None:
    run = session(12, SMALL)
    _, cohort = run.shares()
    fewer = Cohort(
        *(row[1:] for row in (cohort.nodes, cohort.mask_keys, cohort.share_keys)),
        cohort.signatures[1:],
    )
    assert reason_of(lambda: run.nodes[0].share(fewer)) == "swapped_key"


def test_keys_of_another_round_and_of_strangers_are_refused(session: Make) -> None:
    run, other = session(12, SMALL), session(12, SMALL)
    phase = Advertisements(replace(run.terms, attempt=1))
    assert reason_of(lambda: phase.receive(run.nodes[0].advertisement)) == "signature"
    assert reason_of(lambda: phase.receive(other.nodes[0].advertisement)) == "signature"
    stranger = replace(run.nodes[0].advertisement, node=99)
    assert reason_of(lambda: phase.receive(stranger)) == "unknown_node"


def test_a_cohort_below_the_minimum_is_refused(session: Make) -> None:
    run = session(12, replace(SMALL, min_survivors=8))
    _, cohort = run.shares()
    rows = (cohort.nodes, cohort.mask_keys, cohort.share_keys, cohort.signatures)
    few = Cohort(*(row[:6] for row in rows))
    assert reason_of(lambda: run.nodes[0].share(few)) == "too_few"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (range(1, 12), "excluded"),
        (range(5), "too_few"),
        ([*range(12), 99], "unknown_node"),
    ],
)
def test_a_forged_list_of_survivors_is_refused(session: Make, nodes: Any, reason: str) -> None:
    run = session(12, SMALL)
    _, lists = run.confirming()
    forged = replace(lists[0], nodes=tuple(nodes))
    assert reason_of(lambda: run.nodes[0].confirm(forged)) == reason
    assert reason_of(lambda: run.nodes[0].confirm(lists[0])) == "phase"


def test_a_survivor_whose_vector_never_came_is_not_believed(session: Make) -> None:
    run = session(12, SMALL, silent={"mask": {3}})
    _, lists = run.confirming()
    one = lists[0]
    rows = list(one.inputs), list(one.signatures)
    for row, value in zip(rows, (b"h" * 32, b"s" * 64), strict=True):
        row.insert(2, value)
    forged = replace(one, nodes=tuple(range(12)), inputs=tuple(rows[0]), signatures=tuple(rows[1]))
    assert reason_of(lambda: run.nodes[0].confirm(forged)) == "signature"


def test_two_lists_never_both_reach_a_quorum(session: Make) -> None:
    """Half the nodes are told that node 11 survived, half that it did not."""
    run = session(12, SMALL)
    phase, lists = run.confirming()
    without = tuple(range(11))
    sent = []
    for n in range(11):
        one = lists[n]
        if n % 2:
            peers = [p for p in phase.group.neighbours(n) if p in without]
            keep = [i for i, p in enumerate(phase.group.neighbours(n)) if p in peers]
            one = replace(
                one,
                nodes=without,
                inputs=tuple(one.inputs[i] for i in keep),
                signatures=tuple(one.signatures[i] for i in keep),
            )
        sent.append(run.nodes[n].confirm(one))
    mixed = Confirmations(tuple(range(11)), tuple(c.signature for c in sent))
    evens = [c for c in sent if c.node % 2 == 0]
    few = Confirmations(tuple(c.node for c in evens), tuple(c.signature for c in evens))
    assert reason_of(lambda: run.nodes[0].reveal(mixed)) == "signature"
    assert reason_of(lambda: run.nodes[1].reveal(mixed)) == "signature"
    assert reason_of(lambda: run.nodes[2].reveal(few)) == "quorum"


def test_a_box_that_was_tampered_with_is_reported_and_survived(session: Make) -> None:
    run = session(12, SMALL)
    phase, deliveries = run.inputs_phase()
    bad = bytes(len(deliveries[0].boxes[0]))
    deliveries[0] = replace(deliveries[0], boxes=(bad, *deliveries[0].boxes[1:]))
    messages = {n: run.nodes[n].mask(deliveries[n], run.inputs[n]) for n in range(12)}
    assert messages[0].unreadable == (1,)
    for message in messages.values():
        phase.receive(message)
    confirming, lists = phase.close()
    for n in range(12):
        confirming.receive(run.nodes[n].confirm(lists[n]))
    revealing, confirmations = confirming.close()
    for n in range(12):
        revealing.receive(run.nodes[n].reveal(confirmations))
    assert np.array_equal(revealing.close().words, run.sum_of(tuple(range(12))))


def test_a_wrong_share_is_corrected_and_its_holder_named(session: Make) -> None:
    run = session(12, SMALL)
    revealing, confirmations = run.revealing()
    for n in range(12):
        message = run.nodes[n].reveal(confirmations)
        if n == 0:
            shares = (bytes(33), *message.seed_shares[1:])
            content = revealing.group.revealed(0, message.seeds_of, message.keys_of, shares)
            message = replace(
                message, seed_shares=shares, signature=run.identities[0].sign(content)
            )
        revealing.receive(message)
    result = revealing.close()
    assert np.array_equal(result.words, run.sum_of(tuple(range(12))))
    assert result.wrong_holders == (0,)


def test_one_wrong_holder_costs_one_correction(
    session: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node 0 reveals eleven wrong shares: the first is corrected, the others are not needed."""
    run = session(12, SMALL)
    revealing, confirmations = run.revealing()
    for n in range(12):
        message = run.nodes[n].reveal(confirmations)
        if n == 0:
            shares = tuple(bytes(33) for _ in message.seed_shares)
            content = revealing.group.revealed(0, message.seeds_of, message.keys_of, shares)
            message = replace(
                message, seed_shares=shares, signature=run.identities[0].sign(content)
            )
        revealing.receive(message)
    corrected = []
    decoded = shamir._decoded
    monkeypatch.setattr(
        shamir, "_decoded", lambda shares, least: corrected.append(1) or decoded(shares, least)
    )
    result = revealing.close()
    assert np.array_equal(result.words, run.sum_of(tuple(range(12))))
    assert result.wrong_holders == (0,)
    assert len(corrected) == 1


def test_a_message_twice_out_of_place_or_unsigned_is_refused(session: Make) -> None:
    run = session(12, SMALL, silent={"mask": {0}})
    phase, deliveries = run.inputs_phase()
    message = run.nodes[1].mask(deliveries[1], run.inputs[1])
    tampered = replace(message, words=message.words + np.uint32(1))
    assert reason_of(lambda: phase.receive(tampered)) == "signature"
    assert reason_of(lambda: phase.receive(replace(message, node=99))) == "unexpected_node"
    assert reason_of(lambda: phase.receive(replace(message, words=message.words[1:]))) == "shape"
    forged = replace(message, participants=bytes(32))
    assert reason_of(lambda: phase.receive(forged)) == "participants"
    phase.receive(message)
    assert reason_of(lambda: phase.receive(message)) == "duplicate"


def test_an_identity_that_is_not_the_pinned_one_cannot_take_part(session: Make) -> None:
    run = session(12, SMALL)
    node = type(run.nodes[0])
    assert reason_of(lambda: node(run.terms, 0, Identity.new())) == "swapped_key"
