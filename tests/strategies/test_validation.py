import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import MessageError
from daafl.learning.layout import Layout
from daafl.messages import Envelope
from daafl.strategies.mailbox import Ticket
from daafl.strategies.validation import (
    MAX_METRICS,
    as_float,
    check_finite,
    checked_envelope,
    checked_metrics,
    checked_model,
    finite,
)

LAYOUT = Layout.of({"w": np.zeros(2, np.float32)})
TICKET = Ticket(1, "train", 3, "main", 7, 0, 0.0, 1.0)


def metrics(**values: Any) -> RecordDict:
    return RecordDict({"metrics": MetricRecord(values)})


def test_numbers_beyond_any_float_are_infinite() -> None:
    assert [as_float(value) for value in (3, 0.5, 10**400)] == [3.0, 0.5, math.inf]


def test_lists_are_left_out_of_the_metrics() -> None:
    content = metrics(**{"num-examples": 4, "accuracy": 0.5, "trace": [1.0, 2.0]})
    assert checked_metrics(content) == {"num-examples": 4.0, "accuracy": 0.5}


def test_so_many_metrics_and_no_more() -> None:
    names = {f"m{i}": 0.0 for i in range(MAX_METRICS - 1)}
    assert len(checked_metrics(metrics(**{"num-examples": 1}, **names))) == MAX_METRICS
    with pytest.raises(MessageError, match="at most 64"):
        checked_metrics(metrics(**{"num-examples": 1, "one": 1}, **names))


def test_finite_metrics() -> None:
    assert finite({"a": 1.0, "b": math.nan, "c": -math.inf}) == {"a": 1.0}


def test_a_vector_with_one_bad_value_is_refused() -> None:
    check_finite(np.zeros(3, np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(MessageError, match="finiteness"):
            check_finite(np.array([0.0, bad, 0.0], np.float32))


def test_a_model_is_a_view_of_what_came() -> None:
    packed = np.array([1.0, 2.0], np.float32).view(np.uint8)
    content = RecordDict({"arrays": ArrayRecord({"packed": Array(packed)})})
    received = checked_model(content, LAYOUT)
    assert LAYOUT.vector(received).tolist() == [1.0, 2.0]
    assert not received.flags.writeable


def test_an_envelope_must_be_about_the_ticket() -> None:
    good = Envelope("home", "main", 7, 3, sequence=9, plan_hash="x")
    content = RecordDict({"envelope": good.to_record()})
    assert checked_envelope(content, TICKET, "home") == good
    with pytest.raises(MessageError, match=r"freshness.*the assignment was"):
        checked_envelope(content, TICKET, "away")


scalars = st.one_of(
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=20),
    st.booleans(),
    st.lists(st.floats(), max_size=3),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*Envelope("", "", 0, 0, 0, "").to_record(), "x"]), scalars))
def test_no_envelope_raises_anything_but_a_message_error(fields: dict[str, Any]) -> None:
    try:
        envelope = checked_envelope(RecordDict({"envelope": ConfigRecord(fields)}), TICKET, "home")
    except MessageError as error:
        assert error.reason
    else:
        assert envelope.node == TICKET.node


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["num-examples", "train_loss", "accuracy"]),
        st.one_of(st.integers(), st.floats(), st.lists(st.floats(), max_size=2)),
    )
)
def test_no_metrics_raise_anything_but_a_message_error(values: dict[str, Any]) -> None:
    try:
        checked = checked_metrics(metrics(**values))
    except MessageError as error:
        assert error.reason in {"schema", "sample_count"}
    else:
        assert 0 < checked["num-examples"] <= 2**53
        assert not math.isnan(checked.get("train_loss", 0.0))
