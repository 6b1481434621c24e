"""Signatures under updates, and which updates are too old or used."""

import copy
import pickle
from dataclasses import fields, replace
from typing import Any

import pytest

from daafl.errors import MessageError
from daafl.secure import Identity, Secret, Statement
from daafl.secure.identity import is_signed_by

STATEMENT = Statement("fed", "main", 3, 7, 11, b"m" * 32, b"p" * 32, b"c" * 32)


def test_signatures_are_those_of_rfc_8032() -> None:
    """Section 7.1, test 2: one byte, 0x72."""
    secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    identity = Identity(Secret(bytes.fromhex(secret)))
    assert identity.public.hex() == public
    assert identity.sign(b"\x72").hex() == signature
    assert is_signed_by(identity.public, b"\x72", bytes.fromhex(signature))


@pytest.mark.parametrize("entry", [entry.name for entry in fields(Statement)])
def test_a_signature_covers_every_field(entry: str) -> None:
    identity = Identity.new()
    signature = STATEMENT.sign(identity)
    STATEMENT.check(identity.public, signature)
    value = getattr(STATEMENT, entry)
    other: Any = value + 1 if isinstance(value, int) else value[:-1] + value[:1]
    changed = replace(STATEMENT, **{entry: other if other != value else b"x" * 32})
    with pytest.raises(MessageError) as caught:
        changed.check(identity.public, signature)
    assert caught.value.reason == "signature"


def test_a_signature_of_another_or_a_broken_one_is_refused() -> None:
    identity = Identity.new()
    signature = STATEMENT.sign(identity)
    for public, given_ in (
        (Identity.new().public, signature),
        (identity.public, signature[:-1]),
        (identity.public, b""),
        (b"short", signature),
        (bytes(32), signature),
        (identity.public, bytes([signature[0] ^ 1]) + signature[1:]),
    ):
        with pytest.raises(MessageError):
            STATEMENT.check(public, given_)


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": ""},
        {"federation": "x" * 257},
        {"branch": "a\nb"},
        {"branch": "\ud800"},
        {"branch": b"main"},
        {"round": -1},
        {"round": 2**63},
        {"round": 1.0},
        {"round": True},
        {"node": "7"},
        {"sequence": None},
        {"model_hash": b"short"},
        {"plan_hash": "p" * 32},
        {"content_hash": bytearray(32)},
    ],
    ids=str,
)
def test_what_cannot_be_signed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        replace(STATEMENT, **changes)
    assert caught.value.reason == "statement"


def test_an_identity_is_neither_shown_nor_pickled_nor_copied() -> None:
    identity = Identity.new()
    secret = identity.secret().reveal()
    assert secret.hex() not in repr(identity)
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises((TypeError, pickle.PicklingError)):
            act(identity.secret())
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(identity)


def test_two_identities_are_never_the_same() -> None:
    assert len({Identity.new().public for _ in range(20)}) == 20
