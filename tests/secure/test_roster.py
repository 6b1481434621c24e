"""Rosters: who may change them, what they may hold, and how they are read."""

from dataclasses import replace
from typing import Any

import pytest

from daafl.errors import ConfigError, MessageError
from daafl.secure import Identity, Roster, Secret, SignedRoster
from daafl.secure.roster_files import parsed_roster, read_roster, write_roster

# Always the same keys, since they are part of the names of tests.
AUTHORITY, SERVER, *OTHERS = (Identity(Secret(bytes([number]) * 32)) for number in range(6))
KEYS = [identity.public for identity in OTHERS]
ROSTER = Roster("fed", 1, SERVER.public, {1: KEYS[1], 0: KEYS[0]})


def reason_of(call: Any) -> str:
    with pytest.raises(MessageError) as caught:
        call()
    return caught.value.reason


def test_members_are_in_order_and_cannot_be_changed() -> None:
    assert list(ROSTER.members) == [0, 1]
    assert Roster("fed", 1, SERVER.public, {0: KEYS[0], 1: KEYS[1]}).digest == ROSTER.digest
    with pytest.raises(TypeError):
        ROSTER.members[2] = KEYS[2]  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": "fee"},
        {"epoch": 2},
        {"server": KEYS[3]},
        {"members": {0: KEYS[0]}},
        {"members": {0: KEYS[1], 1: KEYS[0]}},
        {"members": {0: KEYS[0], 2: KEYS[1]}},
        {"revoked": frozenset({KEYS[2]})},
    ],
)
def test_digest_and_signature_cover_everything(changes: dict[str, Any]) -> None:
    signed = SignedRoster.by(AUTHORITY, ROSTER)
    other = replace(ROSTER, **changes)
    assert other.digest != ROSTER.digest
    forged = replace(signed, roster=other)
    assert reason_of(lambda: forged.verified(AUTHORITY.public, federation=other.federation)) == (
        "signature"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": ""},
        {"federation": "x" * 257},
        {"federation": "a\tb"},
        {"epoch": 0},
        {"epoch": 2**63},
        {"server": b"short"},
        {"members": {-1: KEYS[0]}},
        {"members": {2**63: KEYS[0]}},
        {"members": {0: b"short"}},
        {"members": {0: KEYS[0], 1: KEYS[0]}},
        {"members": {0: SERVER.public}},
        {"revoked": frozenset({KEYS[0]})},
        {"revoked": frozenset({SERVER.public})},
        {"revoked": frozenset({b"short"})},
    ],
    ids=str,
)
def test_what_cannot_be_a_roster_is_refused(changes: dict[str, Any]) -> None:
    assert reason_of(lambda: replace(ROSTER, **changes)) == "roster"


def test_the_epoch_only_grows_and_old_keys_never_come_back() -> None:
    second = ROSTER.enrolled(2, KEYS[2])
    third = second.enrolled(2, KEYS[3])
    assert (second.epoch, third.epoch) == (2, 3)
    assert third.members[2] == KEYS[3]
    assert third.revoked == {KEYS[2]}
    fourth = third.without(0)
    assert fourth.revoked == {KEYS[2], KEYS[0]}
    assert 0 not in fourth.members
    for node in (0, 9):
        for key in (KEYS[0], KEYS[2]):
            assert reason_of(lambda node=node, key=key: fourth.enrolled(node, key)) == "roster"
    assert reason_of(lambda: fourth.without(0)) == "unknown_node"
    assert reason_of(lambda: fourth.key_of(0)) == "unknown_node"


def test_only_the_authority_that_is_not_the_server_signs() -> None:
    signed = SignedRoster.by(AUTHORITY, ROSTER)
    assert signed.verified(AUTHORITY.public, federation="fed") == ROSTER
    assert reason_of(lambda: signed.verified(KEYS[0], federation="fed")) == "signature"
    assert reason_of(lambda: signed.verified(SERVER.public, federation="fed")) == "authority"
    assert reason_of(lambda: signed.verified(AUTHORITY.public, federation="other")) == "federation"
    old = {"federation": "fed", "min_epoch": 2}
    assert reason_of(lambda: signed.verified(AUTHORITY.public, **old)) == "epoch"
    with pytest.raises(ConfigError, match="must not be the server"):
        SignedRoster.by(SERVER, ROSTER)


def test_it_comes_back_from_plain_values_and_from_a_file(tmp_path: Any) -> None:
    signed = SignedRoster.by(AUTHORITY, ROSTER.enrolled(5, KEYS[2]).without(1))
    assert SignedRoster.from_dict(signed.to_dict()) == signed
    write_roster(tmp_path / "roster.json", signed)
    assert read_roster(tmp_path / "roster.json") == signed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"epoch":' + b"9" * 5000 + b"}",
        b'{"members":[],"members":[],"revoked":[]}',
        b'{"members":[{"node":0}],"revoked":[]}',
        b'{"members":[],"revoked":["AB"],"server":"","signature":""}',
        b'{"members":[],"revoked":["zz"],"server":"","signature":""}',
        b'{"members":[],"revoked":[1],"server":"","signature":""}',
    ],
    ids=range(11),
)
def test_a_file_that_is_no_roster_is_refused(data: bytes, tmp_path: Any) -> None:
    assert reason_of(lambda: parsed_roster(data)) == "schema"
    (tmp_path / "roster.json").write_bytes(data)
    with pytest.raises(ConfigError, match="is no roster"):
        read_roster(tmp_path / "roster.json")
