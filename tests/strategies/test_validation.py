import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import MessageError
from daafl.learning.layout import Layout
from daafl.messages import Assignment, Envelope
from daafl.strategies.mailbox import Ticket
from daafl.strategies.validation import (
    CHECKS,
    MAX_ENTRIES,
    Accepted,
    Terms,
    as_float,
    check_records,
    checked_evaluation,
    finite,
    validated,
)

LAYOUT = Layout.of({"w": np.zeros(4, np.float32)})
ASSIGNMENT = Assignment(local_steps=5, plan_hash="plan")
TICKET = Ticket(1, "train", 3, "main", 7, 0, 0.0, 1.0, assignment=ASSIGNMENT, num_examples=100)
ENVELOPE = Envelope("home", "main", 7, 3, sequence=9, plan_hash="plan")
BASE = np.ones(4, np.float32)


def terms(layout: Layout = LAYOUT, base: np.ndarray = BASE, **changes: Any) -> Terms:
    return Terms("home", TICKET, layout, base.view(np.uint8), **changes)


def reply(weights: Any = (2.0, 2.0, 2.0, 2.0), *, layout: Layout = LAYOUT, **numbers: Any) -> Any:
    packed = layout.packed(np.array(weights, layout.dtype))
    values = {"num-examples": 100, "train_loss": 0.5, **numbers}
    return RecordDict(
        {
            "arrays": ArrayRecord({"packed": Array(packed)}),
            "metrics": MetricRecord(values),
            "envelope": ENVELOPE.to_record(),
            "telemetry": ConfigRecord({"steps": 5, "seconds": 0.1}),
        }
    )


def reason(content: RecordDict, held_to: Terms | None = None) -> str:
    with pytest.raises(MessageError) as refusal:
        validated(content, held_to or terms())
    return refusal.value.reason


def test_a_good_update_passes_every_check_or_it_does_not_apply() -> None:
    update = validated(reply(), terms())
    assert tuple(update.checks) == CHECKS
    assert len(CHECKS) == len(set(CHECKS)) == 11
    outcomes = {name: outcome for name, outcome in update.checks.items() if outcome != "passed"}
    assert outcomes == {"signature": "not applicable", "privacy_claim": "not applicable"}
    assert update.envelope == ENVELOPE
    assert update.delta.tolist() == [1.0] * 4
    assert update.metrics == {"num-examples": 100.0, "train_loss": 0.5}


def test_the_model_is_a_view_of_what_came() -> None:
    content = reply()
    packed = validated(content, terms()).packed
    assert not packed.flags.writeable
    assert not packed.flags.owndata


def test_cheap_checks_come_first() -> None:
    # Everything is wrong with it; what is told is the first of the checks.
    content = reply([np.nan] * 4, **{"num-examples": -1})
    content["envelope"]["federation"] = "away"
    assert reason(content) == "freshness"
    content["envelope"]["federation"] = "home"
    assert reason(content) == "sample_count"
    content["metrics"]["num-examples"] = 100
    content["metrics"]["accuracy"] = 2.0
    assert reason(content) == "plausibility"
    content["metrics"]["accuracy"] = 0.2
    assert reason(content) == "finiteness"


@pytest.mark.parametrize("count", [100, 200, 0.5])
def test_as_many_examples_as_greeted_with_and_at_most_twice_as_many(count: float) -> None:
    assert validated(reply(**{"num-examples": count}), terms()).metrics["num-examples"] == count
    assert reason(reply(**{"num-examples": 201})) == "sample_count"


def test_a_node_that_claims_no_examples_counts_as_one() -> None:
    ticket = replace(TICKET, num_examples=0)
    held_to = replace(terms(), ticket=ticket)
    assert validated(reply(**{"num-examples": 2}), held_to)
    assert reason(reply(**{"num-examples": 3}), held_to) == "sample_count"


def test_the_norm_is_bounded_by_what_was_sent() -> None:
    # The weights sent have a root mean square of 1: a change of 1000 * (1 + 1) is credible.
    assert validated(reply([2000.0] * 4), terms())
    assert reason(reply([2002.0] * 4)) == "norm"
    assert validated(reply([2002.0] * 4), terms(base=np.full(4, 2, np.float32)))
    # Four weights, of which one changes by 4000: the same root mean square.
    assert validated(reply([4000.0, 1.0, 1.0, 1.0]), terms())
    assert reason(reply([4002.0, 1.0, 1.0, 1.0])) == "norm"


def test_finite_numbers_whose_square_is_not_are_a_matter_of_the_norm() -> None:
    assert reason(reply([3e38] * 4)) == "norm"
    assert reason(reply([-3e38, 3e38, 0.0, 0.0])) == "norm"
    assert reason(reply([math.inf, 0.0, 0.0, 0.0])) == "finiteness"
    assert reason(reply([0.0, math.nan, 3e38, 0.0])) == "finiteness"


def test_running_statistics_take_on_the_scale_of_the_data() -> None:
    names = ("w", "0.running_var")
    layout = Layout.of({name: np.zeros(2, np.float32) for name in names})
    held_to = terms(layout)
    assert validated(reply([2.0, 2.0, 1e6, 1e6], layout=layout), held_to)
    assert reason(reply([2.0, 2.0, 1e12, 1e12], layout=layout), held_to) == "norm"
    assert reason(reply([1e6, 2.0, 1.0, 1.0], layout=layout), held_to) == "norm"


def test_losses_that_a_model_can_have() -> None:
    for loss, taken in ((-3.5, -3.5), (math.inf, math.inf), (math.nan, math.inf), (1e308, 1e308)):
        assert validated(reply(train_loss=loss), terms()).metrics["train_loss"] == taken
    for loss in (-1e7, -math.inf, -(10**400)):
        assert reason(reply(train_loss=loss)) == "plausibility"


def test_telemetry_is_held_to_the_assignment() -> None:
    for telemetry, expected in (
        ({"steps": 6}, "plausibility"),
        ({"steps": math.nan}, "plausibility"),
        ({"seconds": -1.0}, "plausibility"),
        ({"steps": 10**400}, "plausibility"),
        ({"steps": [1]}, "schema"),
        ({"steps": True}, "schema"),
        ({"colour": 1.0}, "schema"),
        ({"battery_fraction": "full"}, "schema"),
        ({"battery_fraction": 1.5}, "plausibility"),
        ({"uplink_mbps": math.nan}, "plausibility"),
        ({"memory_mib": 10**400}, "plausibility"),
    ):
        content = reply()
        content["telemetry"] = ConfigRecord(telemetry)
        assert reason(content) == expected
    content = reply()
    content["telemetry"] = ConfigRecord({"steps": 5, "battery_fraction": 0.5, "is_charging": 1})
    validated(content, terms())
    content["telemetry"] = MetricRecord({"steps": 5})
    assert reason(content) == "schema"


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Accepted(7, 9), "duplicate"),
        (Accepted(7, 10), "freshness"),
        (Accepted(8, 2), "freshness"),
        (Accepted(7, 8), ""),
        (Accepted(6, 50), ""),
    ],
)
def test_sequences_within_a_version_and_from_one_to_the_next(last: Any, expected: str) -> None:
    held_to = terms(last=last)
    if expected:
        assert reason(reply(), held_to) == expected
    else:
        assert validated(reply(), held_to)


def test_so_many_entries_and_no_more() -> None:
    names = {f"m{i}": 0.0 for i in range(MAX_ENTRIES - 2)}
    assert len(validated(reply(**names), terms()).metrics) == MAX_ENTRIES
    assert reason(reply(**names, one=1.0)) == "schema"


def test_a_total_that_no_reply_has() -> None:
    content = reply()
    content["config"] = ConfigRecord({f"text{i}": "x" * 4096 for i in range(15)})
    assert validated(content, terms())
    content["config"] = ConfigRecord({f"text{i}": "x" * 4096 for i in range(16)})
    assert reason(content) == "size"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (ConfigRecord({"a": "x" * 5000}), "size"),
        (ConfigRecord({"a": ["x" * 300]}), "size"),
        (ConfigRecord({"a": [b"x" * 300]}), "size"),
        (MetricRecord({"a": [0.0] * 1025}), "size"),
        (MetricRecord({"a" * 257: 0.0}), "schema"),
        (ArrayRecord({f"{i}": Array(np.zeros(1)) for i in range(65)}), "schema"),
    ],
)
def test_records_are_bounded_in_every_reply(record: Any, expected: str) -> None:
    with pytest.raises(MessageError) as refusal:
        check_records(RecordDict({"metrics": record}))
    assert refusal.value.reason == expected
    with pytest.raises(MessageError, match="unknown record"):
        check_records(RecordDict({"metric": MetricRecord()}))


def test_evaluations_are_checked_and_finite() -> None:
    values = {"num-examples": 4, "accuracy": 0.5, "trace": [1.0, 2.0], "loss": math.inf}
    content = RecordDict({"metrics": MetricRecord(values)})
    assert checked_evaluation(content, claimed=4) == {"num-examples": 4.0, "accuracy": 0.5}
    for changes, expected in (
        ({"num-examples": 9}, "sample_count"),
        ({"accuracy": -0.1}, "plausibility"),
        ({"loss": -1e9}, "plausibility"),
    ):
        with pytest.raises(MessageError, match=expected):
            wrong = RecordDict({"metrics": MetricRecord({**values, **changes})})
            checked_evaluation(wrong, claimed=4)


def test_numbers_beyond_any_float_are_infinite() -> None:
    assert [as_float(v) for v in (3, 0.5, 10**400, -(10**400))] == [3.0, 0.5, math.inf, -math.inf]


def test_finite_metrics() -> None:
    assert finite({"a": 1.0, "b": math.nan, "c": -math.inf}) == {"a": 1.0}


scalars = st.one_of(
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=20),
    st.booleans(),
    st.lists(st.floats(), max_size=3),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*ENVELOPE.to_record(), "x"]), scalars))
def test_no_envelope_raises_anything_but_a_named_reason(fields: dict[str, Any]) -> None:
    content = reply()
    content["envelope"] = ConfigRecord({**ENVELOPE.to_record(), **fields})
    try:
        update = validated(content, terms())
    except MessageError as error:
        assert error.reason in CHECKS
    else:
        assert update.envelope.key[:4] == ("home", "main", 7, 3)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["num-examples", "train_loss", "accuracy"]),
        st.one_of(st.integers(), st.floats(), st.lists(st.floats(), max_size=2)),
    )
)
def test_no_metrics_raise_anything_but_a_named_reason(values: dict[str, Any]) -> None:
    try:
        metrics = validated(reply(**values), terms()).metrics
    except MessageError as error:
        assert error.reason in {"schema", "sample_count", "plausibility"}
    else:
        assert 0 < metrics["num-examples"] <= 200
        assert not math.isnan(metrics.get("train_loss", 0.0))
