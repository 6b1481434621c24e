"""Masks that two nodes agree on, or that one node keeps, as streams of 32-bit words.

A pair of nodes runs X25519 (RFC 7748) and takes the key of the pair's mask out of the result with
HKDF-SHA256 (RFC 5869); the mask is the AES-256-CTR keystream (NIST SP 800-38A) under that key from
counter 0, read as little-endian ``uint32``. Every key is used for one stream only. The stream is
made and added block by block, so that a mask of any length needs the memory of one block.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from daafl.errors import MessageError
from daafl.secure.encoding import encoded
from daafl.secure.hidden import SEED_BYTES, Secret

Words: TypeAlias = npt.NDArray[np.uint32]

KEY_BYTES: Final = 32
BLOCK_BYTES: Final = 1 << 18
"""Bytes expanded at a time: with the words they are added to, they stay in a core's cache."""

_ZEROS: Final = bytes(BLOCK_BYTES)
_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 325606250916557431795983626356110631294008115727848805560023387167927233504
_SMALL: Final = {0, 1, _FIELD - 1, _ORDER_8, pow(_ORDER_8, -1, _FIELD)}
"""First coordinates of the points of Curve25519 and its twist whose order is 1, 2, 4 or 8."""


def new_private_key() -> Secret:
    """Return a fresh X25519 private key."""
    return Secret(X25519PrivateKey.generate().private_bytes_raw())


def public_key(private: Secret) -> bytes:
    """Return the 32-byte X25519 public key of ``private``."""
    return X25519PrivateKey.from_private_bytes(private.reveal()).public_key().public_bytes_raw()


def check_public(public: bytes) -> None:
    """Return if ``public`` is a key with which two owners agree on something that nobody else has.

    With a point of small order everybody agrees on zero (RFC 7748, section 6.1). Found when keys
    are advertised, one costs its sender the session and not its neighbours.

    Raises
    ------
    MessageError
        With reason ``key``.
    """
    # X25519 ignores the highest bit and takes numbers modulo the prime.
    coordinate = (int.from_bytes(public, "little") & ((1 << 255) - 1)) % _FIELD
    if len(public) != KEY_BYTES or coordinate in _SMALL:
        raise MessageError("key", "an X25519 public key is malformed or of small order")


class Agreement:
    """One end of many key agreements: reading a private key costs as much as agreeing with it.

    Parameters
    ----------
    private
        X25519 private key.
    """

    __slots__ = ("_private",)

    def __init__(self, private: Secret) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private.reveal())

    def key(self, public: bytes, info: bytes) -> Secret:
        """Return the 32-byte key that this end shares with the owner of ``public``.

        Parameters
        ----------
        info
            What the key is for; different for every use.

        Raises
        ------
        MessageError
            With reason ``key`` if ``public`` is not a point that a key can have.
        """
        try:
            common = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise MessageError(
                "key", "an X25519 public key is malformed or of small order"
            ) from None
        return derived(Secret(common), info)


def agreed_key(private: Secret, public: bytes, info: bytes) -> Secret:
    """Return the key that the owner of ``private`` shares with that of ``public``, once."""
    return Agreement(private).key(public, info)


def derived(secret: Secret, info: bytes) -> Secret:
    """Return 32 bytes for the use ``info`` out of a secret, by HKDF-SHA256 without salt."""
    return Secret(HKDF(SHA256(), SEED_BYTES, None, info).derive(secret.reveal()))


def pair_info(session: bytes, first: int, second: int) -> bytes:
    """Return the ``info`` of the mask between two nodes, the same for both of them."""
    return encoded("pair mask", session, min(first, second), max(first, second))


def own_info(session: bytes, node: int) -> bytes:
    """Return the ``info`` of the mask that a node shares with nobody."""
    return encoded("own mask", session, node)


def add_masks(total: Words, masks: Iterable[tuple[Secret, bool]]) -> None:
    """Add masks to ``total`` in place, modulo 2**32.

    Parameters
    ----------
    total
        One-dimensional, contiguous, writeable.
    masks
        Key of each mask, and whether it is added (else it is subtracted).
    """
    block = bytearray(BLOCK_BYTES)
    words = np.frombuffer(block, "<u4")
    zeros, target = memoryview(_ZEROS), memoryview(block)
    for key, is_added in masks:
        stream = Cipher(algorithms.AES256(key.reveal()), modes.CTR(bytes(16))).encryptor()
        combine = np.add if is_added else np.subtract
        for start in range(0, len(total), len(words)):
            part = total[start : start + len(words)]
            stream.update_into(zeros[: part.nbytes], target)
            combine(part, words[: len(part)], out=part)


def words_digest(words: Words) -> bytes:
    """Return the SHA-256 digest of words as they travel: little-endian."""
    return sha256(np.ascontiguousarray(words, "<u4").data).digest()


def mask(key: Secret, length: int) -> Words:
    """Return the first ``length`` words of the mask of ``key``."""
    total = np.zeros(length, np.uint32)
    add_masks(total, [(key, True)])
    return total
