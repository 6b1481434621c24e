"""Keys and sums that wait between messages come back as they were; damaged ones are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from daafl.errors import MessageError
from daafl.secure.he import Inputs, suspension
from daafl.secure.he.dealing import HeldKey, KeyMember
from daafl.secure.he.node import SumNode

Make = Callable[..., Any]


def test_a_sum_goes_on_after_every_step(group: Make) -> None:
    """Everything a node has is put aside and taken up between any two messages."""
    run = group(3)
    run.members = {
        n: suspension.member_of(suspension.member_values(m), run.roster, n, run.identities[n])
        for n, m in run.members.items()
    }
    terms = run.terms(run.dealt())
    run.held = {
        n: suspension.key_of(suspension.key_values(h), run.roster) for n, h in run.held.items()
    }

    def again(node: SumNode) -> SumNode:
        values = suspension.sum_values(node)
        with pytest.raises(MessageError, match="nothing to put aside"):
            node.put_aside()

        def make(version: int, attempt: int, model_hash: bytes, plan_hash: bytes) -> Any:
            found = (version, attempt, model_hash, plan_hash)
            assert found == (terms.round, terms.attempt, terms.model_hash, terms.plan_hash)
            return terms

        n = node.node
        return suspension.sum_of(values, make, n, run.identities[n], run.held[n])

    phase = Inputs(terms)
    nodes = {n: again(SumNode(terms, n, run.identities[n], run.held[n])) for n in range(3)}
    for n, node in nodes.items():
        phase.receive(node.encrypt(run.inputs[n]))
    nodes = {n: again(node) for n, node in nodes.items()}
    confirming, listed = phase.close()
    for node in nodes.values():
        confirming.receive(node.confirm(listed))
    nodes = {n: again(node) for n, node in nodes.items()}
    decrypting = confirming.close()
    (asked,) = decrypting.ask()
    decrypting.receive(nodes[asked].decrypt(decrypting.message))
    assert np.array_equal(decrypting.close().words, run.sum_of((0, 1, 2)))
    with pytest.raises(MessageError, match="put aside"):
        suspension.sum_values(nodes[asked])


def test_damaged_values_are_refused(group: Make) -> None:
    run = group(3)
    terms = run.terms(run.dealt())
    member = suspension.member_values(run.members[0])
    key = suspension.key_values(run.held[0])
    waiting = suspension.sum_values(SumNode(terms, 0, run.identities[0], run.held[0]))

    def read_member(values: dict[str, Any]) -> KeyMember:
        return suspension.member_of(values, run.roster, 0, run.identities[0])

    def read_key(values: dict[str, Any]) -> HeldKey:
        return suspension.key_of(values, run.roster)

    def read_sum(values: dict[str, Any]) -> SumNode:
        return suspension.sum_of(values, lambda *_: terms, 0, run.identities[0], run.held[0])

    for values, read in ((member, read_member), (key, read_key), (waiting, read_sum)):
        read(values)
        for name in values:
            for wrong in ({k: v for k, v in values.items() if k != name}, {**values, name: None}):
                with pytest.raises(MessageError, match="schema"):
                    read(wrong)
        with pytest.raises(MessageError, match="schema"):
            read({**values, "more": 1})
    with pytest.raises(MessageError, match="phase 3"):
        read_sum({**waiting, "phase": 3})
    for members in ([0], [0, 1, 9], [1, 2]):
        with pytest.raises(MessageError):
            read_key({**key, "members": members, "dealer": 0})


def test_a_key_dealt_under_another_roster_serves_no_sum(group: Make) -> None:
    run = group(4)
    terms = run.terms(run.dealt())
    renewed = run.roster.without(3)
    values = suspension.key_values(run.held[0])
    with pytest.raises(MessageError, match="unknown_node"):
        suspension.key_of(values, renewed)
    enrolled = run.roster.enrolled(9, b"n" * 32)
    held = suspension.key_of(values, enrolled)
    with pytest.raises(MessageError, match="epoch"):
        SumNode(terms, 0, run.identities[0], held)
