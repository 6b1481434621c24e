"""A node's part in a masked sum, put aside as plain values between two messages, and taken up.

Flower starts a node's program anew for every message, so a session has to wait somewhere. Where
that is must be memory: what is returned here holds the session's private keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from daafl.errors import MessageError
from daafl.secure import boxes, client, graph
from daafl.secure.fields import Fields
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.identity import MAX_NAME, SIGNATURE_BYTES, Identity
from daafl.secure.masks import KEY_BYTES, public_key
from daafl.secure.messages import HASH_BYTES, Advertisement, Cohort
from daafl.secure.protocol import Node, State
from daafl.secure.roster import Roster
from daafl.secure.shamir import SHARE_BYTES
from daafl.secure.terms import Group, Terms

_PHASES: Final = (client.Advertising, client.Sharing, client.Masking, client.Confirming)


def suspended(node: Node) -> dict[str, int | bytes | list[int] | str]:
    """Return what `resumed` needs, secrets included; ``node`` must not be used after it.

    Raises
    ------
    MessageError
        With reason ``phase`` if the session is over.
    """
    state = node.put_aside()
    keys = state.keys
    values: dict[str, int | bytes | list[int] | str] = {
        "phase": _PHASES.index(type(state)),
        "node": keys.node,
        "mask_key": keys.mask_key.reveal(),
        "share_key": keys.share_key.reveal(),
    }
    if isinstance(state, client.Advertising):
        one = state.advertisement
        return {**values, **_terms(state.terms), "signature": one.signature}
    rows = state.group.members.values()
    values |= _terms(state.group.terms)
    values |= {
        "nodes": list(state.group.members),
        "mask_keys": b"".join(one.mask_key for one in rows),
        "share_keys": b"".join(one.share_key for one in rows),
        "signatures": b"".join(one.signature for one in rows),
    }
    if isinstance(state, client.Sharing):
        return {**values, "seed": state.seed.reveal()}
    values |= {
        "participants": list(state.participants),
        "holders": list(state.held),
        "held": b"".join(
            held.of_seed.reveal() + held.of_key.reveal() for held in state.held.values()
        ),
    }
    if isinstance(state, client.Confirming):
        values["survivors"] = list(state.survivors)
    return values


def resumed(
    values: Mapping[str, object], roster: Roster, policy: graph.Policy, identity: Identity
) -> Node:
    """Return the node that `suspended` put aside.

    Parameters
    ----------
    values
        From `suspended`.
    roster, policy, identity
        As the node knows them itself; a session begun under others goes on with nobody, since all
        keys and signatures are bound to them.

    Raises
    ------
    MessageError
        With reason ``schema`` if the values are damaged.
    """
    read = Fields.of(values, "a session put aside")
    phase = read.integer("phase")
    if phase >= len(_PHASES):
        raise MessageError("schema", f"a session put aside has phase {phase}")
    terms = Terms(
        roster,
        read.text("branch", MAX_NAME),
        read.integer("round"),
        read.integer("attempt"),
        read.data("model_hash", HASH_BYTES),
        read.data("plan_hash", HASH_BYTES),
        read.integer("length"),
        policy,
    )
    node = read.integer("node")
    mask_key, share_key = (Secret(read.data(name, KEY_BYTES)) for name in ("mask_key", "share_key"))
    keys = client.Keys(node, identity, mask_key, share_key)
    if phase == 0:
        signature = read.data("signature", SIGNATURE_BYTES)
        read.end()
        publics = public_key(mask_key), public_key(share_key)
        advertisement = Advertisement(node, *publics, signature)
        return Node.taken_up(client.Advertising(keys, terms, advertisement))
    nodes = read.nodes("nodes")
    cohort = Cohort(
        nodes,
        read.rows("mask_keys", KEY_BYTES, len(nodes)),
        read.rows("share_keys", KEY_BYTES, len(nodes)),
        read.rows("signatures", SIGNATURE_BYTES, len(nodes)),
    )
    group = Group.of(terms, cohort.advertisements(), is_checked=True)
    state: State
    if phase == 1:
        state = client.Sharing(keys, group, Secret(read.data("seed", SEED_BYTES)))
    else:
        participants, holders = read.nodes("participants"), read.nodes("holders")
        rows = read.rows("held", 2 * SHARE_BYTES, len(holders))
        held = {
            other: boxes.Held(Secret(row[:SHARE_BYTES]), Secret(row[SHARE_BYTES:]))
            for other, row in zip(holders, rows, strict=True)
        }
        state = client.Masking(keys, group, participants, held)
        if phase == 3:
            survivors = read.nodes("survivors")
            state = client.Confirming(keys, group, participants, held, survivors)
    read.end()
    return Node.taken_up(state)


_TERMS: Final = ("branch", "round", "attempt", "model_hash", "plan_hash", "length")


def _terms(terms: Terms) -> dict[str, int | bytes | list[int] | str]:
    return {name: getattr(terms, name) for name in _TERMS}
