"""A server or a node that breaks the protocol is refused, with a reason, by those it would hurt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daafl.errors import DataError, FederationError, MessageError
from daafl.secure import Advertisements, Policy, Roster, Secret, client, masks, shamir
from daafl.secure.messages import Advertisement, Confirmations, Delivery

SMALL = Policy(corrupt_fraction=0.1, dropout_fraction=0.3)
SPARSE = Policy(0.1, 0.2, privacy_bits=20, correctness_bits=10)
Make = Callable[..., Any]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(MessageError) as caught:
        call()
    return caught.value.reason


def signed_keys(run: Any, node: int, mask_key: bytes, share_key: bytes) -> Advertisement:
    content = run.terms.advertised(node, mask_key, share_key)
    return Advertisement(node, mask_key, share_key, run.identities[node].sign(content))


# Keys.


def test_a_key_on_which_everybody_agrees_is_refused_by_server_and_nodes(session: Make) -> None:
    run = session(12, SMALL)
    bad = signed_keys(run, 4, bytes(32), run.nodes[4].advertisement.share_key)
    assert reason_of(lambda: Advertisements(run.terms).receive(bad)) == "key"
    _, cohort = run.shares()
    keys = (*cohort.mask_keys[:4], bad.mask_key, *cohort.mask_keys[5:])
    signatures = (*cohort.signatures[:4], bad.signature, *cohort.signatures[5:])
    forged = replace(cohort, mask_keys=keys, signatures=signatures)
    assert reason_of(lambda: run.nodes[0].share(forged)) == "key"


def test_who_copies_a_key_is_refused_and_the_others_go_on(session: Make) -> None:
    run = session(12, SMALL)
    phase = Advertisements(run.terms)
    for node in range(11):
        phase.receive(run.nodes[node].advertisement)
    copied = run.nodes[3].advertisement.mask_key
    fresh = masks.public_key(masks.new_private_key())
    for keys in ((copied, fresh), (fresh, copied), (fresh, fresh)):
        assert reason_of(lambda keys=keys: phase.receive(signed_keys(run, 11, *keys))) == (
            "duplicate"
        )
    shares, _ = phase.close()
    assert tuple(shares.group.members) == tuple(range(11))


def test_a_cohort_that_names_a_node_twice_is_refused(session: Make) -> None:
    run = session(12, SMALL)
    _, cohort = run.shares()
    rows = (cohort.nodes, cohort.mask_keys, cohort.share_keys, cohort.signatures)
    twice = type(cohort)(*((*row, row[5]) for row in rows))
    assert reason_of(lambda: run.nodes[0].share(twice)) == "duplicate"


@pytest.mark.parametrize(
    "changes",
    [
        {"branch": "other"},
        {"round": 4},
        {"attempt": 1},
        {"model_hash": b"x" * 32},
        {"plan_hash": b"x" * 32},
        {"length": 6},
        {"policy": Policy(0.1, 0.2)},
        {"policy": replace(SMALL, server="malicious")},
        {"policy": replace(SMALL, grinding_bits=1)},
    ],
    ids=str,
)
def test_parties_with_other_terms_understand_nothing(
    session: Make, changes: dict[str, Any]
) -> None:
    run = session(12, SMALL)
    phase = Advertisements(replace(run.terms, **changes))
    assert reason_of(lambda: phase.receive(run.nodes[0].advertisement)) == "signature"


def test_whole_fractions_may_be_written_with_or_without_a_point(session: Make) -> None:
    run = session(12, replace(SMALL, corrupt_fraction=0))
    policy = replace(SMALL, corrupt_fraction=0.0)
    assert replace(run.terms, policy=policy).digest == run.terms.digest


def test_another_epoch_of_the_roster_is_another_session(session: Make) -> None:
    run = session(12, SMALL)
    old: Roster = run.roster
    phase = Advertisements(replace(run.terms, roster=replace(old, epoch=2)))
    assert reason_of(lambda: phase.receive(run.nodes[0].advertisement)) == "signature"


# Boxes.


def test_boxes_of_other_neighbours_or_sessions_do_not_open(session: Make) -> None:
    run, other = session(12, SMALL), session(12, SMALL)
    _, deliveries = run.inputs_phase()
    _, elsewhere = other.inputs_phase()
    one = deliveries[0]
    swapped = Delivery(one.participants, (one.boxes[1], one.boxes[0], *one.boxes[2:]))
    assert run.nodes[0].mask(swapped, run.inputs[0]).unreadable == (1, 2)
    replayed = Delivery(one.participants, elsewhere[1].boxes)
    everybody = tuple(n for n in range(12) if n != 1)
    assert run.nodes[1].mask(replayed, run.inputs[1]).unreadable == everybody
    misdirected = Delivery(one.participants, deliveries[3].boxes)
    everybody = tuple(n for n in range(12) if n != 2)
    assert run.nodes[2].mask(misdirected, run.inputs[2]).unreadable == everybody


@pytest.mark.parametrize("boxes", [0, 10, 12])
def test_another_number_of_boxes_is_refused(session: Make, boxes: int) -> None:
    run = session(12, SMALL)
    _, deliveries = run.inputs_phase()
    forged = Delivery(deliveries[0].participants, (deliveries[0].boxes * 2)[:boxes])
    assert reason_of(lambda: run.nodes[0].mask(forged, run.inputs[0])) == "schema"


def test_a_list_of_participants_below_the_minimum_is_refused(session: Make) -> None:
    run = session(12, SMALL)
    _, deliveries = run.inputs_phase()
    few = Delivery(tuple(range(5)), deliveries[0].boxes[:4])
    assert reason_of(lambda: run.nodes[0].mask(few, run.inputs[0])) == "too_few"


# Survivors.


def test_a_node_that_was_told_of_fewer_participants_is_noticed_by_its_neighbours(
    session: Make,
) -> None:
    """Node 5 masks without node 0, so that its vector would stand with one mask less."""
    run = session(12, SMALL)
    phase, deliveries = run.inputs_phase()
    told = tuple(range(1, 12))
    deliveries[5] = Delivery(told, deliveries[5].boxes[1:])
    masked = {n: run.nodes[n].mask(deliveries[n], run.inputs[n]) for n in range(12)}
    assert reason_of(lambda: phase.receive(masked[5])) == "participants"
    # A lying server takes it nevertheless and hands its signature on.
    for n in set(range(12)) - {5}:
        phase.receive(masked[n])
    phase._signed[5] = (masks.words_digest(masked[5].words), masked[5].signature)
    _, lists = phase.close()
    for n in set(range(12)) - {5}:
        assert reason_of(lambda n=n: run.nodes[n].confirm(lists[n])) == "signature"


def test_a_hole_in_the_ring_is_refused_where_the_policy_says_so(session: Make) -> None:
    run = session(60, replace(SPARSE, server="malicious"))
    phase, lists = run.confirming()
    group = phase.group
    gap = group.degree.max_gap + 1
    assert gap < group.degree.degree // 2
    place = group.order.index(0)
    missing = {group.order[(place + 1 + step) % 60] for step in range(gap)}
    left = tuple(n for n in range(60) if n not in missing)
    assert len(left) >= group.degree.min_survivors
    keep = [i for i, n in enumerate(group.neighbours(0)) if n not in missing]
    one = lists[0]
    forged = replace(
        one,
        nodes=left,
        inputs=tuple(one.inputs[i] for i in keep),
        signatures=tuple(one.signatures[i] for i in keep),
    )
    assert reason_of(lambda: run.nodes[0].confirm(forged)) == "gap"


def test_a_confirmation_counts_once(session: Make) -> None:
    run = session(12, SMALL)
    _, confirmations = run.revealing()
    nodes = confirmations.nodes[:7]  # of 12 with two corrupt, (12 + 2) // 2 + 1 = 8 must
    signatures = confirmations.signatures[:7]
    repeated = Confirmations((*nodes, nodes[0]), (*signatures, signatures[0]))
    assert reason_of(lambda: run.nodes[0].reveal(repeated)) == "quorum"


def test_a_confirmation_of_another_session_is_no_confirmation(session: Make) -> None:
    run = session(12, SMALL)
    other = session(12, SMALL)
    other.identities, other.roster, other.terms = run.identities, run.roster, run.terms
    other.nodes = {n: type(run.nodes[n])(run.terms, n, key) for n, key in run.identities.items()}
    _, _ = run.revealing()
    _, elsewhere = other.revealing()
    assert reason_of(lambda: run.nodes[0].reveal(elsewhere)) == "signature"


# Shares.


def test_nobody_answers_twice(session: Make) -> None:
    run = session(12, SMALL)
    phase, confirmations = run.revealing()
    message = run.nodes[0].reveal(confirmations)
    assert reason_of(lambda: run.nodes[0].reveal(confirmations)) == "phase"
    phase.receive(message)
    assert reason_of(lambda: phase.receive(message)) == "unexpected_node"


@pytest.mark.parametrize("phase", ["share", "mask", "confirm", "reveal"])
def test_messages_of_another_session_are_refused_in_every_phase(session: Make, phase: str) -> None:
    """The same nodes and terms, hours later: what was signed for one session fits no other."""
    first, second = session(12, SMALL), session(12, SMALL)
    second.identities, second.terms = first.identities, first.terms
    second.nodes = {
        n: type(first.nodes[n])(first.terms, n, key) for n, key in first.identities.items()
    }
    first.run()
    kind = {
        "share": "SealedShares",
        "mask": "MaskedInput",
        "confirm": "Confirmation",
        "reveal": "Revelation",
    }[phase]
    old = next(message for message in first.transcript if type(message).__name__ == kind)
    start = {
        "share": second.shares,
        "mask": second.inputs_phase,
        "confirm": second.confirming,
        "reveal": second.revealing,
    }[phase]
    server, _ = start()
    expected = "participants" if phase == "mask" else "signature"
    assert reason_of(lambda: server.receive(old)) == expected


@pytest.mark.parametrize("kind", ["stranger", "key of a survivor", "seed of a lost node"])
def test_shares_that_nobody_asked_for_are_refused(session: Make, kind: str) -> None:
    run = session(60, SPARSE, silent={"mask": {3}})
    phase, confirmations = run.revealing()
    group = phase.group
    node = group.neighbours(3)[0]
    message = run.nodes[node].reveal(confirmations)
    share = message.seed_shares[:1]
    if kind == "stranger":
        far = next(n for n in range(60) if n not in (*group.neighbours(node), node, 3))
        message = replace(message, seeds_of=(far,), seed_shares=share)
    elif kind == "key of a survivor":
        message = replace(message, keys_of=message.seeds_of[:1], key_shares=share)
    else:
        message = replace(message, seeds_of=(3,), seed_shares=share)
    assert reason_of(lambda: phase.receive(message)) == "wrong_kind"


def test_a_share_that_is_no_number_of_the_field_is_refused(session: Make) -> None:
    run = session(12, SMALL)
    phase, confirmations = run.revealing()
    message = run.nodes[0].reveal(confirmations)
    rows = (shamir.share_to_bytes(shamir.PRIME), *message.seed_shares[1:])
    content = phase.group.revealed(0, message.seeds_of, message.keys_of, rows)
    forged = replace(message, seed_shares=rows, signature=run.identities[0].sign(content))
    assert reason_of(lambda: phase.receive(forged)) == "share"
    phase.receive(message)


def test_who_shares_another_seed_than_it_uses_is_named(
    session: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node 4 commits to its seed and deals shares of another one."""
    run = session(12, SMALL)
    phase, cohort = run.shares()
    real = shamir.shared

    def lying(secret: Secret, points: Any, threshold: int) -> dict[int, int]:
        return real(Secret(b"z" * 32), points, threshold)

    for n in range(12):
        with monkeypatch.context() as patch:
            if n == 4:
                patch.setattr(client.shamir, "shared", lying)
            phase.receive(run.nodes[n].share(cohort))
    inputs, deliveries = phase.close()
    for n in range(12):
        inputs.receive(run.nodes[n].mask(deliveries[n], run.inputs[n]))
    confirming, lists = inputs.close()
    for n in range(12):
        confirming.receive(run.nodes[n].confirm(lists[n]))
    revealing, confirmations = confirming.close()
    for n in range(12):
        revealing.receive(run.nodes[n].reveal(confirmations))
    with pytest.raises(FederationError, match=r"masks of nodes \[4\] cannot be taken off"):
        revealing.close()


def test_words_of_another_length_or_type_are_not_masked(session: Make) -> None:
    for words in (np.zeros(4, np.uint32), np.zeros(5, np.int64), np.zeros((5, 1), np.uint32)):
        run = session(12, SMALL)
        _, deliveries = run.inputs_phase()
        with pytest.raises(DataError, match="words to mask"):
            run.nodes[0].mask(deliveries[0], words)
