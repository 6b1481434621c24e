"""Ciphertexts as bytes, of which nothing but numbers is read.

SEAL writes a ciphertext as nested headers with sizes, compressed by Zstandard. Reading such bytes
from a stranger is not safe: SEAL bounds neither what a frame unfolds into nor what a size asks for,
and some wrong sizes end the process. So only the numbers travel: of a fresh ciphertext `DEGREE`
coefficients and the 64-byte seed that the others are expanded from, of a sum all coefficients.
Whoever reads them puts them into the place of the numbers in a ciphertext of its own making.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from daafl.errors import DataError, MessageError
from daafl.secure.he.library import coefficient_modulus, context, sealapi
from daafl.secure.he.packing import DEGREE

SEED_BYTES: Final = 64
POLYNOMIAL_BYTES: Final = 8 * DEGREE
FRESH_BYTES: Final = POLYNOMIAL_BYTES + SEED_BYTES
"""Bytes of a fresh ciphertext."""

SUM_BYTES: Final = 2 * POLYNOMIAL_BYTES
"""Bytes of a sum."""

_HEADER_BYTES: Final = 16
_FRAME_MAGIC: Final = bytes.fromhex("28b52ffd")
_START_BYTES: Final = 5  # magic number, length of the header, version


@contextmanager
def passage(plain_modulus: int) -> Iterator[Passage]:
    """Yield the way for ciphertexts in and out of SEAL, which knows files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ciphertext")
        try:
            yield Passage(f"/proc/self/fd/{descriptor}", plain_modulus)
        finally:
            os.close(descriptor)
    else:
        descriptor, path = tempfile.mkstemp()
        os.close(descriptor)
        try:
            yield Passage(path, plain_modulus)
        finally:
            os.unlink(path)


class Passage:
    """A file in memory where there is such a thing; only ciphertexts pass, never a key.

    Parameters
    ----------
    path
        Of the file.
    plain_modulus
        As all nodes have it.
    """

    def __init__(self, path: str, plain_modulus: int) -> None:
        self._path = path
        self._context = context(plain_modulus)
        self._modulus = plain_modulus

    def written(self, ciphertext: Any) -> bytes:
        """Return the numbers of a ciphertext: `FRESH_BYTES` of a fresh one, else `SUM_BYTES`."""
        _, content = self.content(ciphertext)
        fresh, total = (form(self._modulus, is_fresh) for is_fresh in (True, False))
        found = fresh if len(content) == fresh.length else total
        return found.numbers(content)

    def read(self, numbers: bytes) -> Any:
        """Return the ciphertext with these numbers.

        Raises
        ------
        MessageError
            With reason ``ciphertext`` if they are none.
        """
        is_fresh = len(numbers) == FRESH_BYTES
        if not is_fresh and len(numbers) != SUM_BYTES:
            raise MessageError("ciphertext", f"{len(numbers)} bytes are no ciphertext")
        own = len(numbers) - SEED_BYTES if is_fresh else len(numbers)
        if int(np.frombuffer(numbers[:own], "<u8").max()) >= coefficient_modulus():
            raise MessageError("ciphertext", "a ciphertext has a coefficient out of range")
        with open(self._path, "wb", buffering=0) as file:
            file.write(form(self._modulus, is_fresh).whole(numbers))
        found = sealapi().Ciphertext()
        try:
            found.load(self._context, self._path)
        except (RuntimeError, ValueError):
            raise MessageError("ciphertext", "SEAL cannot read a ciphertext") from None
        if found.is_transparent():
            raise MessageError("ciphertext", "a ciphertext hides nothing")
        return found

    def content(self, ciphertext: Any) -> tuple[bytes, bytes]:
        """Return how SEAL's header begins, and what follows it, out of the frame around it.

        Raises
        ------
        DataError
            If Zstandard made it smaller, which it does not with numbers that look random.
        """
        ciphertext.save(self._path)
        with open(self._path, "rb", buffering=0) as file:
            data = file.read()
        frame = data[_HEADER_BYTES:]
        # RFC 8878: magic number, descriptor (its upper two bits give the width of the length),
        # the length, and the header of one block: bit 0 for the last, bits 1-2 zero for raw.
        start = 5 + (1, 2, 4, 8)[frame[4] >> 6]
        block = int.from_bytes(frame[start : start + 3], "little")
        if frame[:4] != _FRAME_MAGIC or block & 0b111 != 1 or block >> 3 != len(frame) - start - 3:
            raise DataError("SEAL wrote a ciphertext in another form than it does")
        return data[:_START_BYTES], frame[start + 3 :]


@dataclass(frozen=True)
class Form:
    """What SEAL writes around the numbers of a ciphertext.

    Parameters
    ----------
    header
        In front of everything: magic number, version, no compression, length.
    before, between
        In front of the coefficients, and between them and the seed of a fresh ciphertext.
    num_bytes
        Of the coefficients.
    length
        Of everything but the header.
    """

    header: bytes
    before: bytes
    between: bytes
    num_bytes: int
    length: int

    @classmethod
    def of(cls, start: bytes, content: bytes, *, is_fresh: bool) -> Form:
        """Return the form of a ciphertext, of which it is known how long its numbers are."""
        tail = SEED_BYTES if is_fresh else 0
        num_bytes = POLYNOMIAL_BYTES if is_fresh else SUM_BYTES
        # After the coefficients of a fresh ciphertext: a header, the kind of generator, the seed.
        between = _HEADER_BYTES + 1 if is_fresh else 0
        first = len(content) - tail - between - num_bytes
        size = (_HEADER_BYTES + len(content)).to_bytes(8, "little")
        return cls(
            start + bytes(3) + size,  # three zeros: no compression, and nothing
            content[:first],
            content[first + num_bytes : len(content) - tail],
            num_bytes,
            len(content),
        )

    def numbers(self, content: bytes) -> bytes:
        """Return the numbers in what SEAL wrote.

        Raises
        ------
        DataError
            If there is something else around them.
        """
        stop = len(self.before) + self.num_bytes
        after = content[stop : stop + len(self.between)]
        if (len(content), content[: len(self.before)], after) != (
            self.length,
            self.before,
            self.between,
        ):
            raise DataError("SEAL wrote a ciphertext in another form than it does")
        return content[len(self.before) : stop] + content[stop + len(self.between) :]

    def whole(self, numbers: bytes) -> bytes:
        """Return what SEAL reads as the ciphertext with these numbers."""
        body = memoryview(numbers)
        return b"".join(
            (
                self.header,
                self.before,
                body[: self.num_bytes],
                self.between,
                body[self.num_bytes :],
            )
        )


@lru_cache(maxsize=16)
def form(plain_modulus: int, is_fresh: bool) -> Form:
    """Return the form of fresh ciphertexts or of sums, from one made with a key of its own."""
    seal, here = sealapi(), context(plain_modulus)
    encryptor = seal.Encryptor(here, seal.KeyGenerator(here).secret_key())
    with passage(plain_modulus) as way:
        start, content = way.content(encryptor.encrypt_zero_symmetric())
        fresh = Form.of(start, content, is_fresh=True)
        if is_fresh:
            return fresh
        with open(way._path, "wb", buffering=0) as file:
            file.write(fresh.whole(fresh.numbers(content)))
        expanded = seal.Ciphertext()
        expanded.load(here, way._path)
        return Form.of(*way.content(expanded), is_fresh=False)


def split(data: bytes, count: int, width: int) -> list[bytes]:
    """Return the ``count`` ciphertexts of ``width`` bytes that follow one another in ``data``.

    Raises
    ------
    MessageError
        With reason ``ciphertext`` if they are not that many.
    """
    if len(data) != count * width:
        raise MessageError(
            "ciphertext", f"{len(data)} bytes are not {count} ciphertexts of {width} bytes"
        )
    return [data[start : start + width] for start in range(0, len(data), width)]
