"""Two random slots per ciphertext, from which a decryptor sees whose ciphertexts were added up.

A server could send one node's ciphertext to be decrypted as if it were the sum, or swap chunks, or
count a node twice. So every node writes numbers into the first `TAG_SLOTS` slots of each chunk that
only holders of the key can compute, for this sum, this node and this chunk. Whoever decrypts adds
up the tags of the nodes that are said to be in the sum and compares: a wrong chunk passes with a
probability of about t**-2. The slots cannot be cut apart under encryption: that takes a product
with a mask, for which a sum has no noise budget left.

This makes a lie of the server visible; it does not make BFV secure against active attacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from daafl.errors import DataError, MessageError
from daafl.secure.encoding import encoded
from daafl.secure.he.packing import DEGREE, Slots
from daafl.secure.hidden import Secret
from daafl.secure.masks import derived, mask

TAG_SLOTS: Final = 2
DATA_SLOTS: Final = DEGREE - TAG_SLOTS


def num_chunks(num_slots: int) -> int:
    """Return how many ciphertexts carry so many slots and their tags.

    Examples
    --------
    >>> num_chunks(4094), num_chunks(4095)
    (1, 2)
    """
    return -(-num_slots // DATA_SLOTS)


def tags(key: Secret, session: bytes, node: int, shape: tuple[int, int]) -> Slots:
    """Return a node's tags: shape (number of chunks, `TAG_SLOTS`).

    Parameters
    ----------
    key
        The group's key for tags.
    session
        Digest of everything that the sum is about.
    shape
        Number of chunks, and the plain modulus below which tags lie.
    """
    chunks, plain_modulus = shape
    stream = mask(derived(key, encoded("he tag", session, node)), 2 * TAG_SLOTS * chunks)
    wide = stream.astype("<u4").view("<u8") % np.uint64(plain_modulus)
    return wide.astype(np.int64).reshape(chunks, TAG_SLOTS)


def tagged(slots: Slots, own: Slots) -> Slots:
    """Return slots cut into chunks with tags in front: shape (number of chunks, `DEGREE`)."""
    chunks = np.zeros((num_chunks(len(slots)), DEGREE), np.int64)
    if own.shape != (len(chunks), TAG_SLOTS):
        raise DataError(f"tags of shape {own.shape} for {len(chunks)} chunks")
    data = np.zeros(len(chunks) * DATA_SLOTS, np.int64)
    data[: len(slots)] = slots
    chunks[:, :TAG_SLOTS] = own
    chunks[:, TAG_SLOTS:] = data.reshape(len(chunks), DATA_SLOTS)
    return chunks


def untagged(
    chunks: Slots,
    num_slots: int,
    *,
    key: Secret,
    session: bytes,
    nodes: Iterable[int],
    plain_modulus: int,
) -> Slots:
    """Return the slots of a sum whose tags are those of ``nodes``, each counted once.

    Raises
    ------
    MessageError
        ``shape`` if there are not as many chunks, ``tag`` if this is not the sum over these nodes.
    """
    if chunks.shape != (num_chunks(num_slots), DEGREE):
        raise MessageError("shape", f"{len(chunks)} chunks are not those of {num_slots} slots")
    expected = np.zeros((len(chunks), TAG_SLOTS), np.int64)
    for node in nodes:
        expected += tags(key, session, node, (len(chunks), plain_modulus))
        expected %= plain_modulus
    if not np.array_equal(expected, chunks[:, :TAG_SLOTS]):
        raise MessageError(
            "tag", "what was sent to be decrypted is not the sum over the nodes it is said to be"
        )
    data = chunks[:, TAG_SLOTS:].reshape(-1)
    if np.any(data[num_slots:]):
        raise MessageError("range", "the sum has values beyond its end")
    return data[:num_slots]
