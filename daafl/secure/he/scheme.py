"""BFV with a key that all nodes of a group hold and their server does not: encrypt, add, decrypt.

The key is 32 random bytes. SEAL makes its own secret key out of them with a seeded generator, so
that it travels as 64 bytes (with a fingerprint, in case another version of SEAL would make another
key of them) and not as the 131 kB in which TenSEAL writes it. Encryption is symmetric: the second
polynomial of a fresh ciphertext is the expansion of a public random seed, which travels in its
place and halves the upload. Its randomness comes from the operating system, never from the key.

Sources: Fan & Vercauteren (2012), "Somewhat practical fully homomorphic encryption"; TenSEAL
(Benaissa et al. 2021) with SEAL 4 for the implementation.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daafl.errors import DataError, MessageError
from daafl.secure.encoding import encoded
from daafl.secure.he.ciphertexts import FRESH_BYTES, passage, split
from daafl.secure.he.library import context, context_of, parameters, sealapi
from daafl.secure.he.packing import DEGREE, MAX_FIELD_BITS, Slots, batching_prime
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.masks import derived

FINGERPRINT_BYTES: Final = 32
KEY_BLOB_BYTES: Final = SEED_BYTES + FINGERPRINT_BYTES

Chunks = Slots
"""Slots as rows of `DEGREE`, each the content of one ciphertext."""


@dataclass(frozen=True)
class HeKey:
    """What decrypts: held by the nodes of a group, never by their server.

    Parameters
    ----------
    root
        32 random bytes; everything else is derived from them.
    """

    root: Secret = field(repr=False)

    @classmethod
    def new(cls) -> HeKey:
        """Return a key that nobody had before."""
        return cls(Secret(secrets.token_bytes(SEED_BYTES)))

    def seal_key(self, plain_modulus: int) -> Any:
        """Return SEAL's secret key: a ternary polynomial, the same for the same root and SEAL.

        Its coefficients do not depend on the plain modulus. The generator that is seeded with the
        root makes this key only; contexts that encrypt have generators of their own.
        """
        halves = [derived(self.root, encoded("he key", part)).reveal() for part in range(2)]
        values = parameters(plain_modulus)
        seed = list(struct.unpack("<8Q", b"".join(halves)))
        values.set_random_generator(sealapi().Blake2xbPRNGFactory(seed))
        return sealapi().KeyGenerator(context_of(values)).secret_key()

    @property
    def fingerprint(self) -> bytes:
        """A digest from which the key cannot be told: 32 bytes."""
        owner = self.seal_key(batching_prime(MAX_FIELD_BITS))
        plain = owner.data()  # a view: it must not outlive the key
        coefficients = [plain.data(place) for place in range(plain.coeff_count())]
        digest = hashlib.sha256(np.array(coefficients, "<u8").tobytes()).digest()
        return derived(Secret(digest), encoded("he fingerprint")).reveal()

    @property
    def tag_key(self) -> Secret:
        """The key of the tags; see `daafl.secure.he.tags`."""
        return derived(self.root, encoded("he tags"))

    def to_secret(self) -> Secret:
        """Return the bytes to be sealed: root and fingerprint."""
        return Secret(self.root.reveal() + self.fingerprint)

    @classmethod
    def from_secret(cls, blob: Secret) -> HeKey:
        """Return the key that `to_secret` described.

        Raises
        ------
        MessageError
            With reason ``key`` if it is malformed, or if SEAL makes another key here than there.
        """
        content = blob.reveal()
        if len(content) != KEY_BLOB_BYTES:
            raise MessageError("key", f"a key for sums must have {KEY_BLOB_BYTES} bytes")
        key = cls(Secret(content[:SEED_BYTES]))
        if not hmac.compare_digest(key.fingerprint, content[SEED_BYTES:]):
            raise MessageError(
                "key",
                "SEAL makes another key of the dealt bytes than it did at the dealer's; all nodes "
                "must run the same version of TenSEAL",
            )
        return key


def encrypted(key: HeKey, plain_modulus: int, chunks: Chunks) -> list[bytes]:
    """Return a ciphertext for every row of ``chunks``, about 8 bytes per slot.

    Parameters
    ----------
    plain_modulus
        Above every slot.
    chunks
        Shape (number of ciphertexts, `DEGREE`), not negative.
    """
    check_chunks(chunks, plain_modulus)
    seal, here = sealapi(), context(plain_modulus)
    encoder, encryptor = seal.BatchEncoder(here), seal.Encryptor(here, key.seal_key(plain_modulus))
    plain = seal.Plaintext()
    parts = []
    with passage(plain_modulus) as way:
        for row in chunks:
            encoder.encode(row.tolist(), plain)
            parts.append(way.written(encryptor.encrypt_symmetric(plain)))
    return parts


def decrypted(key: HeKey, plain_modulus: int, parts: Sequence[bytes]) -> Chunks:
    """Return the slots in each ciphertext: shape (number of ciphertexts, `DEGREE`).

    Raises
    ------
    MessageError
        With reason ``ciphertext`` if SEAL cannot read one.
    """
    seal, here = sealapi(), context(plain_modulus)
    encoder, decryptor = seal.BatchEncoder(here), seal.Decryptor(here, key.seal_key(plain_modulus))
    plain = seal.Plaintext()
    chunks: npt.NDArray[np.int64] = np.empty((len(parts), DEGREE), np.int64)
    with passage(plain_modulus) as way:
        for row, part in zip(chunks, parts, strict=True):
            decryptor.decrypt(way.read(part), plain)
            row[:] = np.fromiter(encoder.decode_uint64(plain), np.int64, DEGREE)
    return chunks


def noise_budget(key: HeKey, plain_modulus: int, part: bytes) -> int:
    """Return how many bits of noise a ciphertext can still take before it decrypts wrongly."""
    decryptor = sealapi().Decryptor(context(plain_modulus), key.seal_key(plain_modulus))
    with passage(plain_modulus) as way:
        return int(decryptor.invariant_noise_budget(way.read(part)))


class Summation:
    """The server's sum of ciphertexts, of which it keeps no other.

    Parameters
    ----------
    plain_modulus
        As all nodes have it.
    num_chunks
        How many ciphertexts each node sends.

    Examples
    --------
    >>> from daafl.secure.he.ciphertexts import SUM_BYTES
    >>> key, modulus = HeKey.new(), batching_prime(44)
    >>> total = Summation(modulus, num_chunks=1)
    >>> for value in (1, 2):
    ...     total.add(b"".join(encrypted(key, modulus, np.full((1, DEGREE), value))))
    >>> int(decrypted(key, modulus, split(total.to_bytes(), 1, SUM_BYTES))[0, 0])
    3
    """

    def __init__(self, plain_modulus: int, num_chunks: int) -> None:
        self._modulus = plain_modulus
        self._num_chunks = num_chunks
        self._evaluator = sealapi().Evaluator(context(plain_modulus))
        self._total: list[Any] = []

    def add(self, data: bytes) -> None:
        """Add one node's ciphertexts, all of them or none.

        Raises
        ------
        MessageError
            With reason ``ciphertext`` if they are not as many, or not of these parameters.
        """
        parts = split(data, self._num_chunks, FRESH_BYTES)
        with passage(self._modulus) as way:
            read = [way.read(part) for part in parts]
        if not self._total:
            self._total = read
            return
        for place, (total, one) in enumerate(zip(self._total, read, strict=True)):
            try:
                self._evaluator.add_inplace(total, one)
            except (RuntimeError, ValueError):
                self._undo(read[: place + 1])
                raise MessageError("ciphertext", "a ciphertext cancels the sum's key") from None

    def to_bytes(self) -> bytes:
        """Return the sum's ciphertexts one after another, about 16 bytes per slot.

        Raises
        ------
        DataError
            If nothing was added.
        """
        if not self._total:
            raise DataError("a sum of no ciphertexts")
        with passage(self._modulus) as way:
            return b"".join(way.written(one) for one in self._total)

    def _undo(self, added: Sequence[Any]) -> None:
        for total, one in zip(self._total, added, strict=False):
            self._evaluator.sub_inplace(total, one)


def check_chunks(chunks: Chunks, plain_modulus: int) -> None:
    """Refuse what cannot be encrypted (`DataError`)."""
    if chunks.ndim != 2 or chunks.shape[1] != DEGREE or not len(chunks):
        raise DataError(f"chunks of shape {chunks.shape} to encrypt; rows must have {DEGREE}")
    if int(chunks.min()) < 0 or int(chunks.max()) >= plain_modulus:
        raise DataError(f"a slot to encrypt is not in 0 to below {plain_modulus}")
