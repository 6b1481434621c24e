import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.autonomy.codec import decode, encode
from daafl.errors import CodecError, DaaflError


@dataclass(frozen=True)
class Inner:
    label: Literal["calm", "storm"]
    size: int | None = None


@dataclass(frozen=True)
class Outer:
    value: float | int | str | bool
    pair: tuple[int, str]
    inners: tuple[Inner, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    anything: object = None


INNERS = st.builds(
    Inner, label=st.sampled_from(["calm", "storm"]), size=st.none() | st.integers(-(10**9), 10**9)
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
OUTERS = st.builds(
    Outer,
    value=FLOATS | st.integers() | st.text() | st.booleans(),
    pair=st.tuples(st.integers(), st.text()),
    inners=st.lists(INNERS, max_size=3).map(tuple),
    weights=st.dictionaries(st.text(), FLOATS, max_size=3),
    anything=st.none() | st.lists(st.integers()) | st.text(),
)


@given(OUTERS)
def test_a_value_survives_json_text_with_its_exact_types(value: Outer) -> None:
    again = decode(Outer, json.loads(json.dumps(encode(value), allow_nan=False)))
    assert again == value
    assert type(again.value) is type(value.value)


def test_encoded_form_is_plain_json() -> None:
    value = Outer(1.5, (2, "x"), (Inner("calm"),), {"a": 0.0})
    assert encode(value) == {
        "value": 1.5,
        "pair": [2, "x"],
        "inners": [{"label": "calm", "size": None}],
        "weights": {"a": 0.0},
        "anything": None,
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_is_refused_both_ways(number: float) -> None:
    with pytest.raises(CodecError, match="finite"):
        encode(Outer(number, (1, "")))
    with pytest.raises(CodecError, match=r"Outer\.weights\.a must be a finite number"):
        decode(Outer, {"value": 1, "pair": [1, ""], "weights": {"a": float(number)}})


def test_numpy_scalars_become_python_numbers() -> None:
    encoded = encode({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})
    assert encoded == {"a": 0.5, "b": 3, "c": True}
    assert [type(encoded[key]) for key in "abc"] == [float, int, bool]


@pytest.mark.parametrize("value", [np.zeros(2), {1: 2.0}, object(), {1.0}])
def test_other_values_cannot_be_recorded(value: object) -> None:
    with pytest.raises(CodecError):
        encode(value)


@pytest.mark.parametrize(
    ("json_value", "sentence"),
    [
        ([], "Outer must be an object"),
        ({"value": 1}, "lacks the field pair"),
        ({"value": 1, "pair": [1, ""], "valu": 1}, "has no field valu"),
        ({"value": None, "pair": [1, ""]}, "Outer.value must be"),
        ({"value": 1, "pair": [1]}, "an array of 2"),
        ({"value": 1, "pair": [1.0, ""]}, r"pair\[0\] must be a whole number"),
        ({"value": 1, "pair": [True, ""]}, r"pair\[0\] must be a whole number"),
        ({"value": 1, "pair": [1, ""], "inners": [{"label": "wet"}]}, "one of 'calm', 'storm'"),
        ({"value": 1, "pair": [1, ""], "inners": {}}, "inners must be an array"),
        ({"value": 1, "pair": [1, ""], "weights": {"a": True}}, "weights.a must be a finite"),
        ({"value": 1, "pair": [1, ""], "weights": [1]}, "weights must be an object"),
    ],
)
def test_json_of_another_shape_is_refused_by_name(json_value: object, sentence: str) -> None:
    with pytest.raises(DaaflError, match=sentence):
        decode(Outer, json_value)


def test_a_whole_number_is_read_as_the_float_a_field_asks_for() -> None:
    weight = decode(Outer, {"value": 1, "pair": [1, ""], "weights": {"a": 3}}).weights["a"]
    assert weight == 3.0 and type(weight) is float


def test_a_type_that_json_cannot_hold_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        when: set[int]

    with pytest.raises(CodecError, match="cannot be read from JSON"):
        decode(Odd, {"when": []})
