"""Packing loses nothing, and unpacking makes no more than was asked for."""

import lzma
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import StoreError
from daafl.store import packing
from daafl.store.packing import SMALL_BYTES, in_planes, out_of_planes, packed, unpacked


@given(st.binary(max_size=300))
def test_what_is_packed_comes_back(data: bytes) -> None:
    assert unpacked(packed(data), len(data)) == data
    assert out_of_planes(in_planes(data)) == data
    assert sorted(in_planes(data)) == sorted(data)


@pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1, 4 * SMALL_BYTES])
def test_either_method_comes_back(size: int) -> None:
    data = np.random.default_rng(0).bytes(size // 2) + bytes(size - size // 2)
    assert packed(data)[:1] == (b"l" if size <= SMALL_BYTES else b"z")
    assert unpacked(packed(data), size) == data


def test_numbers_of_a_model_pack_by_a_tenth() -> None:
    model = np.random.default_rng(0).standard_normal(2_410).astype(np.float32).tobytes()
    assert len(packed(in_planes(model))) < 0.9 * len(model)


def test_without_lzma_the_other_method_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = packed(b"abc" * 99)
    monkeypatch.setattr(packing, "lzma", None)
    without = packed(b"abc" * 99)
    assert without[:1] == b"z"
    assert unpacked(without, 297) == b"abc" * 99
    with pytest.raises(StoreError, match="method b'l' that is not known here"):
        unpacked(with_it, 297)


@pytest.mark.parametrize("kind", [b"l", b"z"])
def test_more_than_was_asked_for_is_never_made(kind: bytes) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 4, "dict_size": SMALL_BYTES}]
    bomb = (
        zlib.compress(bytes(50_000_000))
        if kind == b"z"
        else lzma.compress(bytes(50_000_000), format=lzma.FORMAT_RAW, filters=filters)
    )
    for limit in (0, 1, 1000):
        with pytest.raises(StoreError, match="does not end where it should"):
            unpacked(kind + bomb, limit)


@given(data=st.binary(min_size=1, max_size=99), cut=st.integers(1, 20))
def test_a_cut_end_is_noticed(data: bytes, cut: int) -> None:
    small = packed(data)
    with pytest.raises(StoreError):
        unpacked(small[: max(len(small) - cut, 0)], 99)
