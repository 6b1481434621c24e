"""One byte string for a list of values, such that no two lists share one.

What is signed, hashed or authenticated is first written like this: each value as a letter for its
type, its length in eight bytes and its bytes. Without lengths, ``("ab", "c")`` and ``("a", "bc")``
would carry the same signature.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, TypeAlias

Value: TypeAlias = bytes | str | int
DOMAIN: Final = "daafl secure 1"
"""First value of everything that is signed or hashed, so that nothing else verifies as it."""

_WORD: Final = 8


def encoded(purpose: str, *values: Value) -> bytes:
    """Return the byte string of ``values``, marked with what it is for.

    Integers must lie in [0, 2**64).

    Examples
    --------
    >>> encoded("a", "bc") == encoded("ab", "c")
    False
    """
    parts = []
    for value in (DOMAIN, purpose, *values):
        match value:
            case bytes():
                tag, data = b"b", value
            case str():
                tag, data = b"s", value.encode()
            case int():
                tag, data = b"i", value.to_bytes(_WORD, "big")
        parts += [tag, len(data).to_bytes(_WORD, "big"), data]
    return b"".join(parts)


def digest(purpose: str, *values: Value) -> bytes:
    """Return the SHA-256 digest of `encoded`: 32 bytes."""
    return hashlib.sha256(encoded(purpose, *values)).digest()


def nodes_digest(purpose: str, session: bytes, nodes: Sequence[int]) -> bytes:
    """Return the digest of a list of nodes within one session."""
    return digest(purpose, session, b"".join(node.to_bytes(_WORD, "big") for node in nodes))
