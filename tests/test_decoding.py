"""What is read from the network is exactly what was expected, or refused with a reason."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.decoding import decoded
from daafl.errors import MessageError

UINT8 = np.dtype(np.uint8)


def array_of(data: bytes, dtype: str = "uint8", shape: tuple[int, ...] = (3,)) -> Array:
    return Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=data)


def npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


GOOD = npy(np.array([1, 2, 3], np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (1, 2, 3)])
def test_what_numpy_saved_is_read_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    back = decoded(Array(array), array.dtype, shape)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_the_result_is_a_read_only_view_of_the_bytes() -> None:
    array = Array(np.zeros(1000, np.uint8))
    view = decoded(array, UINT8, (1000,))
    assert not view.flags.writeable
    assert view.base is not None
    start = np.frombuffer(array.data, np.uint8).ctypes.data
    assert view.ctypes.data - start == len(array.data) - 1000


def reason_of(array: Array, dtype: npt.DTypeLike = np.uint8, shape: tuple[int, ...] = (3,)) -> str:
    with pytest.raises(MessageError) as caught:
        decoded(array, np.dtype(dtype), shape)
    return caught.value.reason


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (array_of(b""), "schema"),
        (array_of(GOOD[:9]), "schema"),
        (array_of(GOOD[:20]), "schema"),
        (array_of(b"x" + GOOD[1:]), "schema"),
        (array_of(GOOD[:6] + b"\x02" + GOOD[7:]), "schema"),
        (array_of(GOOD[:8] + b"\xff\xff" + GOOD[10:]), "schema"),
        (array_of(GOOD.replace(b"False", b"1 // 0")), "schema"),
        (array_of(GOOD.replace(b"'|u1'", b"'|O1'")), "dtype"),
        (array_of(GOOD.replace(b"|u1", b"|i1")), "dtype"),
        (array_of(GOOD, dtype="int8"), "dtype"),
        (array_of(GOOD, shape=(4,)), "shape"),
        (array_of(npy(np.zeros(4, np.uint8))), "shape"),
        (array_of(npy(np.zeros((3, 1), np.uint8))), "shape"),
        (array_of(GOOD.replace(b"(3,)", b"(9999999999999999999,)")), "schema"),
        (array_of(GOOD[:-1]), "size"),
        (array_of(GOOD + b"\x00"), "size"),
        (Array(dtype="uint8", shape=(3,), stype="other", data=GOOD), "schema"),
    ],
)
def test_anything_else_is_refused_with_a_reason(array: Array, reason: str) -> None:
    assert reason_of(array) == reason


def test_number_types_are_not_confused_with_their_byte_order() -> None:
    big = npy(np.zeros(3, ">f4"))
    assert reason_of(array_of(big, "float32"), np.float32) == "dtype"


def test_fortran_order_is_refused() -> None:
    data = npy(np.asfortranarray(np.ones((2, 2), np.uint8)))
    assert reason_of(array_of(data, shape=(2, 2)), shape=(2, 2)) == "schema"


@settings(deadline=None)
@given(position=st.integers(0, len(GOOD) - 4), byte=st.integers(0, 255))
def test_a_changed_header_is_refused_or_changes_nothing(position: int, byte: int) -> None:
    data = GOOD[:position] + bytes([byte]) + GOOD[position + 1 :]
    try:
        result = decoded(array_of(data), UINT8, (3,))
    except MessageError:
        return
    assert result.tolist() == [1, 2, 3]


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_always_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decoded(array_of(data), UINT8, (3,))
