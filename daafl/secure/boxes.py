"""What a node's shares travel in: one box per neighbour, which the server carries unread.

AES-256-GCM under a key that sender and receiver agree on with X25519 and HKDF, one for each
direction of each pair in each session. As a key seals one box only, its nonce is always zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daafl.errors import DataError, MessageError
from daafl.secure import masks, shamir
from daafl.secure.encoding import encoded
from daafl.secure.hidden import Secret

_NONCE: Final = bytes(12)


@dataclass(frozen=True)
class Held:
    """Another node's shares: of the seed of its own mask, and of its mask key."""

    of_seed: Secret = field(repr=False)
    of_key: Secret = field(repr=False)


def sealed(
    session: bytes, ends: tuple[int, int], *, end: masks.Agreement, public: bytes, held: Held
) -> bytes:
    """Return the box that carries ``held`` from the first of ``ends`` to the second."""
    info = encoded("box", session, *ends)
    key = end.key(public, info)
    content = held.of_seed.reveal() + held.of_key.reveal()
    return AESGCM(key.reveal()).encrypt(_NONCE, content, info)


def opened(
    session: bytes, ends: tuple[int, int], *, end: masks.Agreement, public: bytes, box: bytes
) -> Held | None:
    """Return what a box carries, or nothing if it is not one for these ends and this session."""
    info = encoded("box", session, *ends)
    try:
        key = end.key(public, info)
        content = AESGCM(key.reveal()).decrypt(_NONCE, box, info)
        parts = content[: shamir.SHARE_BYTES], content[shamir.SHARE_BYTES :]
        for part in parts:
            shamir.share_from_bytes(part)
    except (InvalidTag, DataError, MessageError):
        return None
    return Held(*map(Secret, parts))
