"""TenSEAL, loaded on first use, and the bytes of a ciphertext, checked before SEAL reads them.

SEAL writes an object as a header of 16 bytes (magic number, version, kind of compression, length)
and a Zstandard frame (RFC 8878). A frame can unfold into far more than it has bytes, and SEAL sets
no bound; a ciphertext of ours always fits one block of at most 128 KiB, so nothing else is read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from daafl.errors import ConfigError, MessageError
from daafl.secure.he.packing import COEFFICIENT_BITS, DEGREE

HEADER_BYTES: Final = 16
MAX_CIPHERTEXT_BYTES: Final = 2 * DEGREE * 8 + 512
"""Two polynomials of 64-bit coefficients and their description, incompressible."""

_SEAL_START: Final = bytes.fromhex("5ea11004")
_ZSTANDARD: Final = 2
_FRAME_MAGIC: Final = bytes.fromhex("28b52ffd")
_MIN_FRAME: Final = 12


@lru_cache(maxsize=1)
def tenseal() -> Any:
    """Return TenSEAL.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module("tenseal")
    except ImportError as error:
        raise ConfigError(
            "homomorphic sums need TenSEAL, which is not installed: pip install 'daafl[he]'"
        ) from error


@lru_cache(maxsize=1)
def sealapi() -> Any:
    """Return TenSEAL's bindings of SEAL, or raise as `tenseal` does."""
    tenseal()
    return import_module("tenseal.sealapi")


def parameters(plain_modulus: int) -> Any:
    """Return SEAL's BFV parameters for a plain modulus."""
    seal = sealapi()
    values = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    values.set_poly_modulus_degree(DEGREE)
    values.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [COEFFICIENT_BITS]))
    values.set_plain_modulus(plain_modulus)
    return values


def context_of(values: Any) -> Any:
    """Return the context of parameters, which SEAL finds to have 128 bits of security.

    Raises
    ------
    ConfigError
        If it does not.
    """
    seal = sealapi()
    found = seal.SEALContext(values, True, seal.SEC_LEVEL_TYPE.TC128)
    if not found.parameters_set():
        raise ConfigError(f"SEAL refuses the parameters: {found.parameters_error_message()}")
    return found


@lru_cache(maxsize=8)
def context(plain_modulus: int) -> Any:
    """Return the context that encrypts, adds and decrypts: all of it is public."""
    return context_of(parameters(plain_modulus))


@contextmanager
def passage() -> Iterator[Passage]:
    """Yield the way for ciphertexts in and out of SEAL, which knows files only."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ciphertext")
        try:
            yield Passage(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        descriptor, path = tempfile.mkstemp()
        os.close(descriptor)
        try:
            yield Passage(path)
        finally:
            os.unlink(path)


class Passage:
    """A file in memory where there is such a thing; only ciphertexts pass, never a key."""

    def __init__(self, path: str) -> None:
        self._path = path

    def bytes_of(self, ciphertext: Any) -> bytes:
        """Return a ciphertext as SEAL writes it."""
        ciphertext.save(self._path)
        with open(self._path, "rb", buffering=0) as file:
            return file.read()

    def ciphertext(self, data: bytes, plain_modulus: int) -> Any:
        """Return the ciphertext that ``data``, checked by `split`, describes.

        Raises
        ------
        MessageError
            With reason ``ciphertext`` if SEAL finds it is none of these parameters.
        """
        with open(self._path, "wb", buffering=0) as file:
            file.write(data)
        read = sealapi().Ciphertext()
        try:
            read.load(context(plain_modulus), self._path)
        except (RuntimeError, ValueError, IndexError, MemoryError):
            raise MessageError("ciphertext", "SEAL cannot read a ciphertext") from None
        if read.size() != 2 or read.is_ntt_form() or read.is_transparent():
            raise MessageError("ciphertext", "a ciphertext is not a fresh one or a sum of them")
        return read


def split(data: bytes, count: int) -> list[bytes]:
    """Return the ``count`` ciphertexts that follow one another in ``data``.

    Raises
    ------
    MessageError
        With reason ``ciphertext`` if they are not that many, or one of them would unfold into
        more than a ciphertext.
    """
    if len(data) > count * MAX_CIPHERTEXT_BYTES:
        raise MessageError("ciphertext", f"{len(data)} bytes are too many for {count} ciphertexts")
    parts: list[bytes] = []
    view = memoryview(data)
    while view and len(parts) <= count:
        size = int.from_bytes(view[8:HEADER_BYTES], "little")
        part = bytes(view[:size])
        if not (len(part) == size <= MAX_CIPHERTEXT_BYTES and _is_bounded(part)):
            raise MessageError("ciphertext", f"ciphertext {len(parts)} is malformed")
        parts.append(part)
        view = view[size:]
    if len(parts) != count:
        raise MessageError("ciphertext", f"there must be {count} ciphertexts, not {len(parts)}")
    return parts


def _is_bounded(part: bytes) -> bool:
    """Return whether it is SEAL's header and one Zstandard frame of one block, and no more.

    A frame starts with its magic number and a descriptor: bits 7-6 give the width of the content
    size, bit 5 says that there is no window byte, bits 1-0 ask for a dictionary, which we have not.
    """
    frame = part[HEADER_BYTES:]
    if part[:4] != _SEAL_START or len(frame) < _MIN_FRAME or frame[:4] != _FRAME_MAGIC:
        return False
    if part[5] != _ZSTANDARD or part[6:8] != bytes(2):
        return False
    descriptor = frame[4]
    is_single = descriptor >> 5 & 1
    if not is_single or descriptor & 0b11111:
        return False
    width = (1, 2, 4, 8)[descriptor >> 6]
    start = 5 + width
    content = int.from_bytes(frame[5:start], "little") + (256 if width == 2 else 0)
    block = int.from_bytes(frame[start : start + 3], "little")
    is_last, kind, size = block & 1, block >> 1 & 3, block >> 3
    held = 1 if kind == 1 else size
    return bool(
        is_last
        and kind != 3
        and content <= MAX_CIPHERTEXT_BYTES
        and size <= MAX_CIPHERTEXT_BYTES
        and len(frame) == start + 3 + held
    )
