"""State comes back bit for bit, and nothing but a whole manifest is read."""

import hashlib
import json
import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from daafl.errors import StoreError
from daafl.store import manifest as module
from daafl.store.manifest import INLINE_BYTES, encoded, parsed
from daafl.store.tree import Tree

MAGIC = b"daafl checkpoint 1\n"


def round_trip(state: Tree) -> Tree:
    made = encoded(3, state)
    read = parsed(made.manifest)
    assert read.step == 3
    assert read.blobs == {name: len(blob) for name, blob in made.blobs.items()}
    return read.state(lambda name, size: bytes(made.blobs[name]))


def is_same(left: object, right: object) -> bool:
    """Return whether two trees are equal in type and to the last bit."""
    if type(left) is not type(right):
        return False
    match left:
        case float():
            return struct.pack("d", left) == struct.pack("d", right)
        case np.ndarray() | np.generic():
            return (
                left.dtype == right.dtype
                and left.shape == right.shape
                and left.tobytes() == right.tobytes()
            )
        case list() | tuple():
            return len(left) == len(right) and all(map(is_same, left, right))
        case dict():
            return list(left) == list(right) and all(is_same(left[k], right[k]) for k in left)
    return left == right


numbers = st_numpy.arrays(
    st.one_of(
        st_numpy.boolean_dtypes(),
        st_numpy.integer_dtypes(endianness="?"),
        st_numpy.floating_dtypes(endianness="?"),
        st_numpy.complex_number_dtypes(endianness="?"),
        st_numpy.unicode_string_dtypes(endianness="?", max_len=5),
    ),
    st_numpy.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=6),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.just(math.nan),
    st.text(),
    st.binary(max_size=40),
    st.builds(bytes, st.integers(INLINE_BYTES - 2, INLINE_BYTES + 2)),
    numbers,
    st.sampled_from([np.float64(0.1), np.float32("inf"), np.int64(-3), np.True_]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.sampled_from(["~a", "~f", "~d", "~", ""])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_any_state_comes_back_to_the_last_bit(state: Tree) -> None:
    assert is_same(round_trip(state), state)


def test_numbers_that_text_could_lose_come_back() -> None:
    state: Tree = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2**63, -(2**200), 2.0, 2]
    assert is_same(round_trip(state), state)
    back = round_trip([math.nan, math.inf, -math.inf])
    assert math.isnan(back[0])
    assert back[1:] == [math.inf, -math.inf]


def test_arrays_that_are_no_blocks_of_memory_come_back_in_c_order() -> None:
    table = np.arange(24.0).reshape(4, 6)
    for array in (table.T, table[::2, 1:], np.asfortranarray(table), table[:, :0]):
        back = round_trip(array)
        assert is_same(back, np.ascontiguousarray(array))
        back[...] = 0  # ours to change


def test_equal_bytes_are_kept_once_whatever_they_are() -> None:
    model = np.random.default_rng(0).standard_normal(1000)
    state: Tree = {
        "model": model,
        "bytes": model.view(np.uint8),
        "points": [model.copy(), model.reshape(10, 100)],
        "message": model.tobytes(),
    }
    made = encoded(1, state)
    assert [len(blob) for blob in made.blobs.values()] == [8000]
    assert list(made.blobs) == [hashlib.sha256(model.tobytes()).hexdigest()]
    assert is_same(round_trip(state), state)
    small = np.random.default_rng(1).bytes(900)
    assert len(encoded(1, [small] * 20).manifest) < 1150


def test_restored_arrays_share_nothing() -> None:
    model = np.zeros(1000)
    first, second = round_trip([model, model])
    first[:] = 1.0
    assert not second.any()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seen": {1, 2}}, "a set, which is not plain data"),
        ([object()], "a object, which"),
        ({1: 2}, "a key that is not a string"),
        ([np.array([None])], "array of object"),
        (np.zeros(2, "datetime64[s]"), "array of datetime64"),
        (np.zeros(2, [("a", "f4")]), "which is not plain data"),
    ],
)
def test_what_would_need_pickle_is_refused(state: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encoded(1, state)  # type: ignore[arg-type]  # the point of the test


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="not JSON"):
        encoded(1, 10**5000)
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 1000)
    with pytest.raises(StoreError, match="beside its arrays; at most 1000"):
        encoded(1, "x" * 1000)


def sealed(body: bytes) -> bytes:
    """Return a manifest with the right checksum, as the documentation describes it."""
    return checked(b"z" + zlib.compress(body))


def checked(rest: bytes) -> bytes:
    return MAGIC + hashlib.sha256(rest).digest() + rest


def written(document: object, tail: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    return sealed(len(text).to_bytes(8, "big") + text + tail)


def test_the_format_is_the_documented_one() -> None:
    data = np.arange(200, dtype="<i8")
    name = hashlib.sha256(data.tobytes()).hexdigest()
    document = {
        "blobs": [[name, 1600]],
        "step": 7,
        "state": {
            "model": {"~a": ["<i8", [200], 0]},
            "table": {"~a": ["<f4", [1, 2], [3, 8]]},
            "raw": {"~b": [0, 3]},
            "pair": {"~t": [1, {"~f": "-inf"}]},
            "odd": {"~d": {"~f": "nan"}},
            "scalar": {"~s": ["<i8", [], [11, 8]]},
        },
    }
    tail = b"abc" + struct.pack("<2f", 0.5, -1.0) + struct.pack("<q", -9)
    manifest = parsed(written(document, tail))
    state = manifest.state(lambda asked, size: data.tobytes())
    assert (manifest.step, manifest.blobs) == (7, {name: 1600})
    assert is_same(
        state,
        {
            "model": data,
            "table": np.array([[0.5, -1.0]], "<f4"),
            "raw": b"abc",
            "pair": (1, -math.inf),
            "odd": {"~f": "nan"},
            "scalar": np.int64(-9),
        },
    )


@pytest.mark.parametrize(
    "state",
    [
        {"~a": ["<f4", [2], [0, 4]]},
        {"~a": ["<f4", [-1], [0, 4]]},
        {"~a": ["<f4", [1.0], [0, 4]]},
        {"~a": ["<f4", [True], [0, 4]]},
        {"~a": ["<f4", [10**30], [0, 4]]},
        {"~a": ["<f4", [0, 10**30], [0, 0]]},
        {"~a": ["<f4", [1] * 100, [0, 4]]},
        {"~a": ["|O", [1], [0, 8]]},
        {"~a": ["V4", [1], [0, 4]]},
        {"~a": ["<f4", [1], [6, 4]]},
        {"~a": ["<f4", [1], [-4, 4]]},
        {"~a": ["<f4", [1], [4, -4]]},
        {"~a": ["<f4", [1], 0]},
        {"~a": ["<f4", [1], True]},
        {"~a": ["<f4", [1]]},
        {"~s": ["<f4", [1], [0, 4]]},
        {"~b": "abc"},
        {"~b": [0, 4, 4]},
        {"~t": {}},
        {"~f": "1.0"},
        {"~f": 1},
        {"~d": []},
        {"~x": 1},
        {"~b": [0, 4], "more": 1},
        {"~b": [0, 4], "~t": []},
    ],
)
def test_parts_that_mean_nothing_are_refused_before_anything_is_made(state: object) -> None:
    manifest = parsed(written({"blobs": [], "step": 1, "state": state}, b"12345678"))
    with pytest.raises(StoreError, match="its state"):
        manifest.state(lambda name, size: b"")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"blobs": [], "step": 1},
        {"blobs": [], "step": "1", "state": 0},
        {"blobs": [], "step": 1, "state": 0, "more": 0},
        {"blobs": [["xyz", 1]], "step": 1, "state": 0},
        {"blobs": [["a" * 64, -1]], "step": 1, "state": 0},
        {"blobs": [["../" + "a" * 61, 1]], "step": 1, "state": 0},
    ],
)
def test_a_document_of_another_form_is_refused(document: object) -> None:
    with pytest.raises(StoreError, match="its manifest"):
        parsed(written(document))


NESTED = b'{"blobs":[],"step":1,"state":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "checksum"),
        (MAGIC, "checksum"),
        (b"daafl checkpoint 2\n" + bytes(40), "it has format 2, and this release reads format 1"),
        (sealed(b""), "cannot be parsed"),
        (sealed(b"\xff" * 20), "longer than the file"),
        (sealed((3).to_bytes(8, "big") + b"\xff\xff\xff"), "cannot be parsed"),
        (checked(b"z no zlib"), "cannot be unpacked"),
        (checked(b"l no lzma"), "cannot be unpacked"),
        (checked(b"k unknown"), "a method b'k' that is not known"),
        (checked(b""), "a method b'' that is not known"),
        (sealed(len(NESTED).to_bytes(8, "big") + NESTED), "cannot be parsed"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        parsed(data)


def test_a_small_file_cannot_unfold_into_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 10_000)
    with pytest.raises(StoreError, match="does not end where it should"):
        parsed(sealed(bytes(10_000_000)))


def test_a_manifest_ends_where_its_document_does() -> None:
    with pytest.raises(StoreError, match="does not end where it should"):
        parsed(checked(b"z" + zlib.compress(b"x") + b"more"))


@settings(max_examples=200, deadline=None)
@given(change=st.data())
def test_no_bit_of_a_manifest_can_change_unnoticed(change: st.DataObject) -> None:
    data = bytearray(encoded(5, {"a": 1.5, "b": [b"xyz", (1, 2)], "c": np.arange(9)}).manifest)
    place = change.draw(st.integers(0, len(data) - 1))
    data[place] ^= 1 << change.draw(st.integers(0, 7))
    with pytest.raises(StoreError):
        parsed(bytes(data))


def test_a_state_nested_deeper_than_any_is_refused() -> None:
    state = "[" * 950 + "]" * 950
    text = f'{{"blobs": [], "step": 1, "state": {state}}}'.encode()
    data = sealed(len(text).to_bytes(8, "big") + text)
    with pytest.raises(StoreError, match=r"nested too deeply|cannot be parsed"):
        parsed(data).state(lambda name, size: b"")
