"""Byte strings made smaller without loss, for files of which a small model has several."""

from __future__ import annotations

import zlib
from typing import Final

from daafl.errors import StoreError

try:
    import lzma
except ImportError:  # a Python that was built without it packs a little less tightly
    lzma = None  # type: ignore[assignment]  # a module or nothing

SMALL_BYTES: Final = 64 * 1024
"""Up to this size the slower and better of two methods takes a few milliseconds at most."""

_LZMA: Final = b"l"
_ZLIB: Final = b"z"
_PRESET: Final = 4


def packed(data: bytes) -> bytes:
    """Return bytes from which `unpacked` makes ``data`` again, the first of which tells how."""
    if lzma is not None and len(data) <= SMALL_BYTES:
        return _LZMA + lzma.compress(data, format=lzma.FORMAT_RAW, filters=_filters())
    return _ZLIB + zlib.compress(data)


def unpacked(data: bytes, limit: int) -> bytes:
    """Return what was packed; never makes more than a byte beyond ``limit``.

    Raises
    ------
    StoreError
        If ``data`` is not what `packed` returns, or holds more than that.
    """
    kind, rest = data[:1], data[1:]
    if kind == _ZLIB:
        plain, is_whole = _inflated(rest, limit + 1)
    elif kind == _LZMA and lzma is not None:
        plain, is_whole = _opened(rest, limit + 1)
    else:
        raise StoreError(f"it is packed by a method {kind!r} that is not known here")
    if not is_whole or len(plain) > limit:
        raise StoreError("it does not end where it should")
    return plain


def in_planes(data: bytes) -> bytes:
    """Return first bytes of all groups of four, then all second bytes, and so on.

    Exponents of float32 numbers are much alike and their fractions are not; side by side they
    pack better.

    Examples
    --------
    >>> in_planes(b"ABCDabcdxy")
    b'AaBbCcDdxy'
    """
    whole = len(data) // 4 * 4
    return b"".join(data[plane:whole:4] for plane in range(4)) + data[whole:]


def out_of_planes(data: bytes) -> bytes:
    """Return what `in_planes` was given.

    Examples
    --------
    >>> out_of_planes(b"AaBbCcDdxy")
    b'ABCDabcdxy'
    """
    groups = len(data) // 4
    plain = bytearray(data)
    for plane in range(4):
        plain[plane : 4 * groups : 4] = data[plane * groups : (plane + 1) * groups]
    return bytes(plain)


def _inflated(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` unpacked bytes, and whether that is all."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, limit)
    except zlib.error as error:
        raise StoreError(f"it cannot be unpacked ({error})") from error
    return plain, inflater.eof and not inflater.unused_data


def _opened(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Return at most `limit` unpacked bytes, and whether that is all."""
    opener = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters())
    try:
        plain = opener.decompress(data, limit)
    except lzma.LZMAError as error:
        raise StoreError(f"it cannot be unpacked ({error})") from error
    return plain, opener.eof and not opener.unused_data


def _filters() -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": SMALL_BYTES}]
