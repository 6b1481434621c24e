"""A node's part in encrypted sums, put aside as plain values between messages, and taken up.

Flower starts a node's program anew for every message, so keys and sums have to wait somewhere.
Where that is must be memory: what is returned here holds secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from daafl.errors import MessageError
from daafl.secure.fields import Fields
from daafl.secure.he.dealing import HeldKey, KeyMember
from daafl.secure.he.node import Confirmed, Phase, Ready, SumNode, Waiting
from daafl.secure.he.scheme import HeKey
from daafl.secure.he.terms import EpochTerms, KeyGroup, SumTerms
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.identity import MAX_NAME, Identity
from daafl.secure.masks import KEY_BYTES
from daafl.secure.messages import HASH_BYTES
from daafl.secure.roster import Roster

_PHASES: Final = (Ready, Waiting, Confirmed)

Values = dict[str, int | bytes | list[int] | str]
MakeTerms = Callable[[int, int, bytes, bytes], SumTerms]
"""Called with round, attempt, and the digests of model and work."""


def member_values(member: KeyMember) -> Values:
    """Return what `member_of` needs."""
    return {
        "branch": member.terms.branch,
        "epoch": member.terms.epoch,
        "private": member.private.reveal(),
    }


def member_of(
    values: Mapping[str, object], roster: Roster, node: int, identity: Identity
) -> KeyMember:
    """Return the member that `member_values` described.

    Raises
    ------
    MessageError
        With reason ``schema`` if the values are damaged.
    """
    read = Fields.of(values, "a member put aside")
    terms = EpochTerms(roster, read.text("branch", MAX_NAME), read.integer("epoch"))
    private = Secret(read.data("private", KEY_BYTES))
    read.end()
    return KeyMember(terms, node, identity, private)


def key_values(held: HeldKey) -> Values:
    """Return what `key_of` needs."""
    group = held.group
    return {
        "branch": group.terms.branch,
        "epoch": group.terms.epoch,
        "dealer": group.dealer,
        "members": list(group.members),
        "root": held.key.root.reveal(),
    }


def key_of(values: Mapping[str, object], roster: Roster) -> HeldKey:
    """Return the key that `key_values` described.

    Parameters
    ----------
    roster
        As the node knows it now; a key dealt under another is of no use, since every tag and
        signature is bound to it.

    Raises
    ------
    MessageError
        With reason ``schema`` if the values are damaged, or as `KeyGroup`.
    """
    read = Fields.of(values, "a key put aside")
    terms = EpochTerms(roster, read.text("branch", MAX_NAME), read.integer("epoch"))
    group = KeyGroup(terms, read.integer("dealer"), read.nodes("members"))
    key = HeKey(Secret(read.data("root", SEED_BYTES)))
    read.end()
    return HeldKey(group, key)


def sum_values(node: SumNode) -> Values:
    """Return what `sum_of` needs; ``node`` must not be used after it.

    Raises
    ------
    MessageError
        With reason ``phase`` if the sum is over.
    """
    phase, terms = node.put_aside(), node.terms
    return {
        "phase": _PHASES.index(type(phase)),
        "nodes": list(phase.nodes) if isinstance(phase, Confirmed) else [],
        "round": terms.round,
        "attempt": terms.attempt,
        "model_hash": terms.model_hash,
        "plan_hash": terms.plan_hash,
    }


def sum_of(
    values: Mapping[str, object],
    make_terms: MakeTerms,
    node: int,
    identity: Identity,
    held: HeldKey,
    *,
    processes: int = 1,
) -> SumNode:
    """Return the node that `sum_values` put aside.

    Raises
    ------
    MessageError
        With reason ``schema`` if the values are damaged, or as `SumNode`.
    """
    read = Fields.of(values, "a sum put aside")
    place, nodes = read.integer("phase"), read.nodes("nodes")
    if place >= len(_PHASES):
        raise MessageError("schema", f"a sum put aside has phase {place}")
    terms = make_terms(
        read.integer("round"),
        read.integer("attempt"),
        read.data("model_hash", HASH_BYTES),
        read.data("plan_hash", HASH_BYTES),
    )
    read.end()
    phases: tuple[Phase, ...] = (Ready(), Waiting(), Confirmed(nodes))
    return SumNode(terms, node, identity, held, phase=phases[place], processes=processes)
