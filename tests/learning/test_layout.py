"""The packed form of a model: offsets by hand, round trips, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import DataError
from daafl.learning.layout import DTYPES, MAX_DIMENSIONS, Entry, Layout

MIXED = {
    "weight": np.array([[1.5, -2.0]], np.float32),
    "mask": np.array([True, False, True]),
    "count": np.array(7, np.int64),
    "half": np.array([0.5], np.float16),
}


def test_entries_start_at_multiples_of_their_item_size() -> None:
    layout = Layout.of(MIXED)
    # weight: 8 bytes from 0; mask: 3 from 8; count: 11 rounded up to 16; half: 2 from 24.
    assert layout.offsets == (0, 8, 16, 24)
    assert layout.num_bytes == 26
    assert layout.num_parameters == 7
    assert layout.dtype == np.float32


def test_packed_bytes_are_little_endian_with_zeros_between() -> None:
    packed = Layout.of(MIXED).pack(MIXED)
    assert packed.dtype == np.uint8 and packed.flags.c_contiguous
    assert packed[:4].tobytes() == np.float32(1.5).astype("<f4").tobytes()
    assert packed[8:24].tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]


def test_pack_copies_and_unpack_shares() -> None:
    arrays = {"a": np.ones(3, np.float32)}
    layout = Layout.of(arrays)
    packed = layout.pack(arrays)
    arrays["a"][:] = 9
    view = layout.unpack(packed)["a"]
    assert view.tolist() == [1, 1, 1]
    view[0] = 5
    assert layout.vector(packed).tolist() == [5, 1, 1]


def test_views_are_aligned_even_when_the_packed_array_is_not() -> None:
    layout = Layout.of(MIXED)
    message = np.concatenate([np.zeros(1, np.uint8), layout.pack(MIXED)])
    for name, view in layout.unpack(message[1:]).items():
        assert view.flags.aligned
        np.testing.assert_array_equal(view, MIXED[name])


def test_the_vector_of_a_float32_model_is_a_view() -> None:
    layout = Layout.of({"a": np.ones((2, 2), np.float32), "b": np.ones(1, np.float32)})
    packed = layout.pack({"a": np.ones((2, 2), np.float32), "b": np.ones(1, np.float32)})
    vector = layout.vector(packed)
    assert vector.dtype == np.float32 and np.shares_memory(vector, packed)
    assert np.shares_memory(layout.packed(vector), vector)


def test_a_float64_entry_makes_the_vector_float64() -> None:
    arrays = {"a": np.array([1e-12 + 1]), "b": np.array([2], np.float32)}
    layout = Layout.of(arrays)
    assert layout.vector(layout.pack(arrays)).tolist() == [1e-12 + 1, 2.0]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int32", 2.5, 2),
        ("int32", 3.5, 4),
        ("int8", 1000.0, 127),
        ("uint8", -1.0, 0),
        ("int64", np.inf, 2**63 - 1024),
        ("int64", -1e30, -(2**63)),
        ("int16", np.nan, 0),
        ("bool", 0.5, False),
        ("bool", 0.51, True),
        ("float16", 1e6, np.inf),
    ],
)
def test_a_vector_is_cast_back_entry_by_entry(dtype: str, value: float, expected: object) -> None:
    layout = Layout((Entry("w", (1,), "float32"), Entry("x", (), dtype)))
    arrays = layout.unpack(layout.packed(np.array([1.25, value], np.float32)))
    assert arrays["w"].tolist() == [1.25]
    assert arrays["x"].dtype == dtype
    assert arrays["x"].item() == expected


def test_a_vector_of_another_float_type_is_cast() -> None:
    layout = Layout((Entry("w", (2,), "float32"),))
    assert layout.vector(layout.packed(np.array([1.0, 1e300]))).tolist() == [1.0, np.inf]


@st.composite
def models(draw: st.DrawFn) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kinds = draw(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=6))
    shapes = [draw(st.lists(st.integers(0, 3), max_size=3)) for _ in kinds]
    return {
        f"p{i}": rng.integers(0, 100, shape).astype(dtype)
        for i, (dtype, shape) in enumerate(zip(kinds, shapes, strict=True))
    }


@settings(deadline=None)
@given(models())
def test_every_way_round_gives_the_same_arrays(arrays: dict[str, np.ndarray]) -> None:
    layout = Layout.of(arrays)
    packed = layout.pack(arrays)
    assert layout.packed(layout.vector(packed)).tobytes() == packed.tobytes()
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    for name, array in layout.unpack(packed).items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])


def test_digests_tell_layouts_apart() -> None:
    layouts = [
        Layout((Entry("a", (2, 3), "float32"),)),
        Layout((Entry("a", (3, 2), "float32"),)),
        Layout((Entry("a", (2, 3), "float16"),)),
        Layout((Entry("b", (2, 3), "float32"),)),
    ]
    assert len({layout.digest for layout in layouts}) == 4
    assert layouts[0].digest == Layout((Entry("a", (2, 3), "float32"),)).digest
    assert len(layouts[0].digest) == 16


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": np.ones(2, np.float32)}, "lacks 'b'"),
        ({"a": np.ones(2), "b": np.ones(1), "c": np.ones(1)}, "has the unknown entry 'c'"),
        (
            {"a": np.ones(3, np.float32), "b": np.ones(1, np.int64)},
            r"'a' has shape \(3,\); expected \(2,\)",
        ),
        (
            {"a": np.ones(2, np.float32), "b": np.ones(1, np.int32)},
            "'b' has number type int32; expected int64",
        ),
    ],
)
def test_pack_says_which_entry_differs(arrays: dict[str, np.ndarray], sentence: str) -> None:
    layout = Layout((Entry("a", (2,), "float32"), Entry("b", (1,), "int64")))
    with pytest.raises(DataError, match=sentence):
        layout.pack(arrays)


@pytest.mark.parametrize(
    "packed", [np.zeros(8, np.float32), np.zeros(7, np.uint8), np.zeros((2, 4), np.uint8)]
)
def test_a_packed_array_of_another_size_or_type_is_refused(packed: np.ndarray) -> None:
    layout = Layout((Entry("a", (2,), "float32"),))
    for read in (layout.unpack, layout.vector):
        with pytest.raises(DataError, match=r"expected uint8 and \(8,\)"):
            read(packed)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(2,\)"):
        Layout((Entry("a", (2,), "float32"),)).packed(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        ["a"],
        [["a", [1]]],
        [["a", [1], "float32", 0]],
        [[1, [1], "float32"]],
        [["a", 1, "float32"]],
        [["a", [True], "float32"]],
        [["a", [1.0], "float32"]],
        [["a", [-1], "float32"]],
        [["a", [1], "complex64"]],
        [["a", [1], "object"]],
        [["a", [1], "<f4"]],
        [["", [1], "float32"]],
        [["a" * 513, [1], "float32"]],
        [["a", [1] * (MAX_DIMENSIONS + 1), "float32"]],
        [["a", [2**40, 2**40], "float32"]],
        [["a", [1], "float32"], ["a", [2], "float32"]],
        [["a", [1], "float32"]] * 100_001,
    ],
)
def test_a_malformed_layout_is_refused(value: object) -> None:
    with pytest.raises(DataError):
        Layout.from_json(value)


def test_a_number_type_that_cannot_travel_is_named() -> None:
    with pytest.raises(DataError, match="'phase' has number type complex64"):
        Layout.of({"phase": np.zeros(1, np.complex64)})
