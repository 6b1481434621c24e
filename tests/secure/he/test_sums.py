"""Sums come out exact whoever falls silent; a lying server or node is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daafl.errors import FederationError, MessageError
from daafl.secure import Identity
from daafl.secure.he import (
    EpochTerms,
    Inputs,
    KeyAdvertisements,
    KeyGroup,
    KeyMember,
    Rotation,
    SumNode,
)
from daafl.secure.he.ciphertexts import SUM_BYTES, split
from daafl.secure.he.messages import SumList, SumToDecrypt
from daafl.secure.he.scheme import Summation
from daafl.secure.masks import words_digest

Make = Callable[..., Any]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(MessageError) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize(
    ("phase", "lost"),
    [
        ("advertise", {0, 3}),
        ("deal", {0, 1}),
        ("accept", {0, 2}),
        ("encrypt", {4}),
        ("confirm", {0, 1}),
        ("decrypt", {3, 4}),
    ],
)
def test_the_sum_is_exact_when_nodes_fall_silent_at_any_phase(
    group: Make, phase: str, lost: set[int]
) -> None:
    run = group(7, silent={phase: lost})
    result = run.run()
    assert set(result.nodes) == set(range(7)) - (
        lost if phase not in ("confirm", "decrypt") else set()
    )
    assert np.array_equal(result.words, run.sum_of(result.nodes))


def test_words_left_in_the_clear_are_summed_too_and_travel_as_they_are(group: Make) -> None:
    run = group(3, hidden=((0, 10), (20, 25)))
    result = run.run()
    assert np.array_equal(result.words, run.sum_of((0, 1, 2)))
    sent = [m for m in run.transcript if type(m).__name__ == "EncryptedInput"]
    for message in sent:
        own = run.inputs[message.node]
        assert np.array_equal(message.clear, np.concatenate([own[10:20], own[25:]]))


def test_the_server_never_sees_a_key_or_an_input(group: Make) -> None:
    run = group(4)
    run.run()
    raw = b"".join(
        value
        for message in run.transcript
        for value in message.to_dict().values()
        if isinstance(value, bytes)
    )
    shown = repr([run.transcript, run.members, run.held, run.nodes]).encode()
    secrets = [member.private for member in run.members.values()]
    key = run.held[0].key
    secrets += [key.root, key.tag_key, key.to_secret()]
    for secret in secrets:
        assert secret.reveal() not in raw
        assert secret.reveal().hex().encode() not in shown
        assert repr(secret.reveal())[2:-1].encode() not in shown
    for node, words in run.inputs.items():
        assert words.tobytes() not in raw, node


def test_too_few_nodes_end_the_sum(group: Make) -> None:
    with pytest.raises(FederationError, match="4 must"):
        group(7, silent={"encrypt": {0, 1, 2, 3}}).run()
    with pytest.raises(FederationError, match="signed the list"):
        group(7, silent={"confirm": {0, 1, 2, 3}}).run()
    with pytest.raises(FederationError, match="none of 3 nodes decrypted"):
        group(3, silent={"decrypt": {0, 1, 2}}).run()
    with pytest.raises(FederationError, match="1 nodes are left"):
        group(3, silent={"deal": {0, 1}}).run()
    with pytest.raises(FederationError, match="5 must"):
        group(5, min_nodes=5, silent={"encrypt": {1}}).run()


def test_one_nodes_ciphertexts_are_not_decrypted_as_the_sum(group: Make) -> None:
    run = group(3)
    phase = run.confirmed()
    (own,) = [m for m in run.transcript if type(m).__name__ == "EncryptedInput" and m.node == 1]
    alone = Summation(run.packing.plain_modulus, 1)
    alone.add(own.ciphertexts)
    lie = replace(phase.message, ciphertexts=alone.to_bytes())
    assert reason_of(lambda: run.nodes[0].decrypt(lie)) == "tag"


def test_a_node_counted_twice_or_two_chunks_swapped_are_not_decrypted(group: Make) -> None:
    run = group(3, length=10_000)
    phase = run.confirmed()
    inputs = [m for m in run.transcript if type(m).__name__ == "EncryptedInput"]
    terms = run.nodes[0].terms
    assert terms.num_chunks == 2
    total = Summation(terms.packing.plain_modulus, 2)
    for message in (inputs[0], inputs[1], inputs[1]):
        total.add(message.ciphertexts)
    lie = replace(phase.message, ciphertexts=total.to_bytes())
    assert reason_of(lambda: run.nodes[0].decrypt(lie)) == "tag"
    first, second = split(phase.message.ciphertexts, 2, SUM_BYTES)
    lie = replace(phase.message, ciphertexts=second + first)
    assert reason_of(lambda: run.nodes[1].decrypt(lie)) == "tag"
    assert run.nodes[2].decrypt(phase.message).node == 2


def test_no_two_sums_of_a_round_are_decrypted(group: Make) -> None:
    """A server that shows two lists gets a majority under one of them at most."""
    run = group(4)
    confirming, listed = run.encrypted().close()
    other = SumList((0, 1, 2))
    signed = {n: run.nodes[n].confirm(other if n < 2 else listed) for n in range(4)}
    assert reason_of(lambda: run.nodes[1].confirm(listed)) == "phase"
    with pytest.raises(MessageError, match="signature"):
        confirming.receive(signed[0])
    few = SumToDecrypt(b"", (2, 3), tuple(signed[n].signature for n in (2, 3)))
    assert reason_of(lambda: run.nodes[2].decrypt(few)) == "quorum"
    mixed = SumToDecrypt(b"", (1, 2, 3), tuple(signed[n].signature for n in (1, 2, 3)))
    assert reason_of(lambda: run.nodes[3].decrypt(mixed)) == "signature"


def test_a_node_signs_no_list_without_itself_or_with_strangers(group: Make) -> None:
    run = group(4)
    run.encrypted().close()
    lists = [(1, 2, 3), (0, 9), (1,)]
    reasons = [
        reason_of(lambda n=n, x=x: run.nodes[n].confirm(SumList(x))) for n, x in enumerate(lists)
    ]
    assert reasons == ["excluded", "unknown_node", "too_few"]


def test_a_node_decrypts_once(group: Make) -> None:
    run = group(3)
    phase = run.confirmed()
    run.nodes[0].decrypt(phase.message)
    assert reason_of(lambda: run.nodes[0].decrypt(phase.message)) == "phase"


def test_most_of_several_decryptors_are_believed(group: Make) -> None:
    run = group(5, num_decryptors=3)
    phase = run.confirmed()
    asked = phase.ask()
    assert asked == (3, 4, 0)  # round 3
    for node in asked:
        message = run.nodes[node].decrypt(phase.message)
        if node == 4:
            words = message.words + np.uint32(1)
            terms = run.nodes[node].terms
            content = terms.decrypted(node, tuple(range(5)), words_digest(words))
            signature = run.identities[node].sign(content)
            message = replace(message, words=words, signature=signature)
        phase.receive(message)
    result = phase.close()
    assert result.wrong_decryptors == (4,)
    assert np.array_equal(result.words, run.sum_of(result.nodes))


def test_decryptors_that_do_not_agree_end_the_sum(group: Make) -> None:
    run = group(3, num_decryptors=2)
    phase = run.confirmed()
    for node in phase.ask():
        message = run.nodes[node].decrypt(phase.message)
        words = message.words + np.uint32(node)
        content = run.nodes[node].terms.decrypted(node, (0, 1, 2), words_digest(words))
        phase.receive(replace(message, words=words, signature=run.identities[node].sign(content)))
    with pytest.raises(FederationError, match="different sums"):
        phase.close()


def test_a_false_ciphertext_is_noticed(group: Make) -> None:
    """A member that encrypts under another key spoils the sum and nobody decrypts it."""
    run, other = group(3), group(3)
    group_of_keys = run.dealt()
    other.dealt()
    run.held[1] = replace(run.held[1], key=other.held[1].key)
    terms = run.terms(group_of_keys)
    phase = Inputs(terms)
    nodes = {n: SumNode(terms, n, run.identities[n], run.held[n]) for n in range(3)}
    for n, node in nodes.items():
        phase.receive(node.encrypt(run.inputs[n]))
    confirming, listed = phase.close()
    for node in nodes.values():
        confirming.receive(node.confirm(listed))
    decrypting = confirming.close()
    assert reason_of(lambda: nodes[0].decrypt(decrypting.message)) == "tag"


def test_forged_inputs_are_refused_and_leave_the_sum_as_it_was(group: Make) -> None:
    run = group(3)
    phase = run.encrypted()
    before = phase._total.to_bytes()
    message = next(m for m in run.transcript if type(m).__name__ == "EncryptedInput")
    assert reason_of(lambda: phase.receive(message)) == "duplicate"
    assert reason_of(lambda: phase.receive(replace(message, node=9))) == "unexpected_node"
    run2 = group(3, silent={"encrypt": {2}})
    phase2 = run2.encrypted()
    good = next(m for m in run2.transcript if type(m).__name__ == "EncryptedInput")
    assert reason_of(lambda: phase2.receive(replace(good, node=2))) == "signature"
    long = np.zeros(1, np.uint32)
    assert reason_of(lambda: phase2.receive(replace(good, node=2, clear=long))) == "shape"
    assert phase._total.to_bytes() == before


def test_a_key_of_another_epoch_is_refused(group: Make) -> None:
    run = group(3)
    key_group = run.dealt()
    later = EpochTerms(run.roster, "main", 8)
    renewed = KeyGroup(later, key_group.dealer, key_group.members)
    terms = run.terms(renewed)
    assert reason_of(lambda: SumNode(terms, 0, run.identities[0], run.held[0])) == "epoch"
    assert reason_of(lambda: KeyMember.new(run.epoch, 0, run.identities[0], newest=7)) == "epoch"
    assert KeyMember.new(later, 0, run.identities[0], newest=7).terms.epoch == 8
    member = KeyMember.new(later, 1, run.identities[1])
    box = next(m for m in run.transcript if type(m).__name__ == "KeyBox")
    assert reason_of(lambda: member.accept(box)) == "signature"


def test_a_sum_that_is_not_newer_is_refused(group: Make) -> None:
    run = group(3)
    terms = run.terms(run.dealt())

    def begun(newest: tuple[int, int]) -> SumNode:
        return SumNode(terms, 0, run.identities[0], run.held[0], newest=newest)

    assert reason_of(lambda: begun((3, 1))) == "freshness"
    assert reason_of(lambda: begun((4, 0))) == "freshness"
    assert begun((3, 0)).terms is terms


def test_a_box_opens_for_its_receiver_and_members_only(group: Make) -> None:
    run = group(3)
    run.dealt()
    boxes = [m for m in run.transcript if type(m).__name__ == "KeyBox"]
    assert reason_of(lambda: run.members[0].accept(boxes[1])) == "signature"
    fewer = replace(boxes[1], members=(0, 1))
    assert reason_of(lambda: run.members[1].accept(fewer)) == "signature"
    without = replace(boxes[1], members=(0, 2))
    assert reason_of(lambda: run.members[1].accept(without)) == "excluded"


def test_the_server_cannot_put_its_own_keys_in_place_of_members(group: Make) -> None:
    run = group(3)
    phase = KeyAdvertisements(run.epoch)
    for member in run.members.values():
        phase.receive(member.advertisement())
    _, cohorts = phase.close()
    cohort = cohorts[0]
    attacker = KeyMember(run.epoch, 2, Identity.new(), run.members[2].private)
    forged = attacker.advertisement()
    swapped = replace(
        cohort,
        keys=(*cohort.keys[:2], forged.key),
        signatures=(*cohort.signatures[:2], forged.signature),
    )
    assert reason_of(lambda: run.members[0].deal(swapped)) == "signature"
    own = replace(run.members[0], private=run.members[1].private).advertisement()
    swapped = replace(
        cohort,
        keys=(own.key, run.members[0].advertisement().key, cohort.keys[2]),
        signatures=(own.signature, *cohort.signatures[1:]),
    )
    assert reason_of(lambda: run.members[0].deal(swapped)) == "signature"
    alone = replace(cohort, nodes=(1, 2), keys=cohort.keys[1:], signatures=cohort.signatures[1:])
    assert reason_of(lambda: run.members[0].deal(alone)) == "swapped_key"


def test_keys_rotate_with_age_roster_and_newcomers(group: Make) -> None:
    run = group(4)
    held = KeyGroup(run.epoch, 0, (0, 1, 2))
    wide = KeyGroup(run.epoch, 0, (0, 1, 2, 3))
    rotation = Rotation(rounds_per_key=10)

    def due(key: KeyGroup | None, terms: EpochTerms, asked: tuple[int, ...], age: int) -> bool:
        return rotation.is_due(key, terms=terms, asked=asked, age=age)

    assert due(None, run.epoch, (0, 1), 0)
    assert not due(held, run.epoch, (0, 1, 2), 9)
    assert due(held, run.epoch, (0, 1, 2), 10)
    assert due(held, run.epoch, (0, 1, 3), 1)
    assert not due(wide, run.epoch, (0, 1, 3), 1)
    assert due(wide, run.epoch, (0, 3), 1)
    fewer = EpochTerms(run.roster.without(3), "main", 7)
    assert due(held, fewer, (0, 1, 2), 1)


def test_one_key_serves_several_sums(group: Make) -> None:
    run = group(3)
    first = run.run()
    terms = replace(run.nodes[0].terms, round=4)
    phase = Inputs(terms)
    nodes = {n: SumNode(terms, n, run.identities[n], run.held[n], newest=(3, 1)) for n in range(3)}
    for n, node in nodes.items():
        phase.receive(node.encrypt(run.inputs[n]))
    confirming, listed = phase.close()
    for node in nodes.values():
        confirming.receive(node.confirm(listed))
    decrypting = confirming.close()
    (asked,) = decrypting.ask()
    decrypting.receive(nodes[asked].decrypt(decrypting.message))
    assert asked == 1  # round 4 of three
    assert np.array_equal(decrypting.close().words, first.words)
