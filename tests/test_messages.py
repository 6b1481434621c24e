"""What travels survives the trip; what should not have been sent is refused with a reason."""

import math
from collections.abc import Mapping

import pytest
from flwr.app import ConfigRecord, MetricRecord
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import MessageError
from daafl.messages import MAX_COUNT, MAX_TEXT, Assignment, Ballot, Envelope, Hello

counts = st.integers(0, MAX_COUNT)
texts = st.text(max_size=MAX_TEXT)
own_keys = frozenset(Assignment().to_record())
settings = st.dictionaries(
    texts.filter(lambda key: key not in own_keys),
    st.booleans() | st.integers(-MAX_COUNT, MAX_COUNT) | st.floats(allow_nan=False) | texts,
    max_size=5,
)
assignments = st.builds(
    Assignment,
    federation=texts,
    branch=texts,
    version=st.integers(0, MAX_COUNT - 1),
    ticket=counts,
    draw=counts,
    seed=counts,
    lr=st.floats(0.0, 1e6),
    local_steps=st.integers(1, 1_000_000),
    batch_size=st.integers(1, 1_000_000),
    plan_hash=texts,
    layout=texts,
    settings=settings,
)
envelopes = st.builds(
    Envelope,
    federation=texts,
    branch=texts,
    base_version=counts,
    node=counts,
    sequence=counts,
    plan_hash=texts,
    codec=st.none() | texts,
    privacy_claim=st.none() | texts,
    signature=st.none() | st.binary(max_size=4096),
)
greetings = st.builds(
    Hello, node=counts, num_examples=counts, layout=texts, software=texts, num_nodes=counts
)

ENVELOPE = Envelope("digits", "main", base_version=4, node=3, sequence=9, plan_hash="ab")
HELLO = Hello(node=3, num_examples=60, layout="cafe", software="daafl 0.1.0", num_nodes=30)


def changed(record: Mapping[str, object], **changes: object) -> dict[str, object]:
    """Return the record with keys replaced, ``_`` read as ``-``; ``...`` takes a key away."""
    values = {**record, **{key.replace("_", "-"): value for key, value in changes.items()}}
    return {key: value for key, value in values.items() if value is not ...}


@given(assignments)
def test_an_assignment_survives_the_trip(assignment: Assignment) -> None:
    record = assignment.to_record()
    assert Assignment.from_record(record) == assignment
    assert record["server-round"] == assignment.version + 1


@given(envelopes)
def test_an_envelope_survives_the_trip(envelope: Envelope) -> None:
    record = envelope.to_record()
    assert Envelope.from_record(record) == envelope
    absent = {"codec", "privacy-claim", "signature"} - set(record)
    values = (envelope.codec, envelope.privacy_claim, envelope.signature)
    assert len(absent) == values.count(None)


@given(greetings)
def test_a_greeting_survives_the_trip(hello: Hello) -> None:
    assert Hello.from_record(hello.to_record()) == hello


def test_the_identity_of_an_update_leaves_out_how_it_travels() -> None:
    assert ENVELOPE.key == ("digits", "main", 4, 3, 9)
    assert Envelope("digits", "main", 4, 3, 9, "cd", codec="int8").key == ENVELOPE.key


def test_an_empty_record_is_the_default_assignment() -> None:
    assert Assignment.from_record({}) == Assignment()


@pytest.mark.parametrize(("server_round", "version"), [(1, 0), (5, 4), (0, 0)])
def test_flowers_round_counter_stands_for_the_version(server_round: int, version: int) -> None:
    assert Assignment.from_record({"server-round": server_round}).version == version
    assert Assignment.from_record({"server-round": server_round, "version": 7}).version == 7


def test_what_an_assignment_does_not_know_is_a_setting_if_it_is_a_scalar() -> None:
    record = {"proximal-mu": 0.1, "name": "x", "on": True, "rates": [1.0], "raw": b"1"}
    assert Assignment.from_record(record).settings == {"proximal-mu": 0.1, "name": "x", "on": True}


def test_settings_cannot_take_the_place_of_a_field() -> None:
    record = Assignment(lr=0.3, version=2, settings={"lr": 9.0, "server-round": 40}).to_record()
    assert (record["lr"], record["server-round"]) == (0.3, 3)


def test_an_integer_is_a_rate_and_nothing_else_is() -> None:
    assert Assignment.from_record({"lr": 1}).lr == 1.0
    assert type(Assignment.from_record({"lr": 1}).lr) is float


HOSTILE_ASSIGNMENTS: list[tuple[dict[str, object], str]] = [
    ({"lr": -0.1}, "lr"),
    ({"lr": math.nan}, "lr"),
    ({"lr": math.inf}, "lr"),
    ({"lr": "0.1"}, "lr"),
    ({"lr": True}, "lr"),
    ({"lr": [0.1]}, "lr"),
    ({"lr": 10**400}, "lr"),
    ({"local-steps": 0}, "local-steps"),
    ({"local-steps": 10**9}, "local-steps"),
    ({"local-steps": 2.0}, "local-steps"),
    ({"batch-size": True}, "batch-size"),
    ({"version": -1}, "version"),
    ({"version": 2**63}, "version"),
    ({"server-round": "1"}, "server-round"),
    ({"federation": b"digits"}, "federation"),
    ({"federation": "x" * (MAX_TEXT + 1)}, "federation"),
    ({"layout": 7}, "layout"),
    ({"seed": None}, "seed"),
]


@pytest.mark.parametrize(("record", "key"), HOSTILE_ASSIGNMENTS)
def test_a_bad_assignment_is_refused_by_key(record: dict[str, object], key: str) -> None:
    with pytest.raises(MessageError, match=f"field {key} "):
        Assignment.from_record(record)


@pytest.mark.parametrize(
    ("record", "reason", "complaint"),
    [
        (changed(ENVELOPE.to_record(), node=...), "schema", "field node is missing"),
        (changed(ENVELOPE.to_record(), format_version=...), "schema", "format-version is missing"),
        (changed(ENVELOPE.to_record(), format_version=2), "schema", "format 2 is not format 1"),
        (changed(ENVELOPE.to_record(), format_version="1"), "schema", "of type str, not int"),
        (changed(ENVELOPE.to_record(), format_version=True), "schema", "of type bool, not int"),
        (changed(ENVELOPE.to_record(), node=-1), "schema", "node is -1"),
        (changed(ENVELOPE.to_record(), node=1.0), "schema", "of type float, not int"),
        (changed(ENVELOPE.to_record(), sequence=MAX_COUNT + 1), "schema", "sequence is"),
        (changed(ENVELOPE.to_record(), base_version=[1]), "schema", "of type list"),
        (changed(ENVELOPE.to_record(), federation=b"x"), "schema", "of type bytes, not str"),
        (changed(ENVELOPE.to_record(), federation="x" * 257), "size", "longer than 256"),
        (changed(ENVELOPE.to_record(), codec=3), "schema", "codec is of type int"),
        (changed(ENVELOPE.to_record(), codec=None), "schema", "codec is of type NoneType"),
        (changed(ENVELOPE.to_record(), privacy_claim=0.1), "schema", "privacy-claim is of type"),
        (changed(ENVELOPE.to_record(), signature="text"), "schema", "signature is not at most"),
        (changed(ENVELOPE.to_record(), signature=b"x" * 4097), "schema", "not at most 4096"),
        (changed(ENVELOPE.to_record(), surprise=1), "schema", r"unknown fields \['surprise'\]"),
        ({}, "schema", "format-version is missing"),
    ],
)
def test_a_bad_envelope_is_refused_with_a_reason(
    record: dict[str, object], reason: str, complaint: str
) -> None:
    with pytest.raises(MessageError, match=complaint) as caught:
        Envelope.from_record(record)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (changed(HELLO.to_record(), node=...), "field node is missing"),
        (changed(HELLO.to_record(), num_examples=-1), "num-examples is -1"),
        (changed(HELLO.to_record(), num_examples=math.nan), "of type float"),
        (changed(HELLO.to_record(), layout=b"cafe"), "of type bytes"),
        (changed(HELLO.to_record(), software="x" * 300), "longer than 256"),
        (changed(HELLO.to_record(), num_nodes="30"), "num-nodes is of type str"),
    ],
)
def test_a_bad_greeting_is_refused(record: dict[str, object], complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        Hello.from_record(record)


def test_an_old_node_that_counts_no_nodes_is_understood() -> None:
    assert Hello.from_record(changed(HELLO.to_record(), num_nodes=...)).num_nodes == 0


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=20)
    | st.lists(st.integers(), max_size=3)
)
keys = st.sampled_from(
    sorted({*Assignment().to_record(), *ENVELOPE.to_record(), *HELLO.to_record(), "codec", "?"})
)


@given(st.dictionaries(keys, values, max_size=8), st.sampled_from([Assignment, Envelope, Hello]))
def test_any_record_is_understood_or_refused_and_nothing_else(
    record: dict[str, object], kind: type[Assignment] | type[Envelope] | type[Hello]
) -> None:
    base = {Assignment: {}, Envelope: ENVELOPE.to_record(), Hello: HELLO.to_record()}[kind]
    try:
        parsed = kind.from_record({**base, **record})
    except MessageError as error:
        assert error.reason in {"schema", "size"}
    else:
        assert kind.from_record(ConfigRecord(dict(parsed.to_record()))) == parsed


BALLOT = Ballot(is_in_favour=True, loss=0.25, accepted_loss=0.5, num_examples=48)


@pytest.mark.parametrize(
    "ballot",
    [
        BALLOT,
        Ballot(False, math.inf, 0.5, 1),
        Ballot(True, -2.5, math.inf, MAX_COUNT),
    ],
)
def test_a_ballot_survives_the_trip(ballot: Ballot) -> None:
    assert Ballot.from_record(ballot.to_record()) == ballot


def test_a_ballot_is_four_numbers() -> None:
    assert BALLOT.to_record() == MetricRecord(
        {"in-favour": 1, "loss": 0.25, "accepted-loss": 0.5, "num-examples": 48}
    )


@pytest.mark.parametrize(
    ("changes", "reason", "complaint"),
    [
        ({"in-favour": ...}, "schema", "in-favour is missing"),
        ({"in-favour": 2}, "schema", "in-favour is 2, not 0 or 1"),
        ({"in-favour": -1}, "schema", "in-favour is -1"),
        ({"in-favour": 1.0}, "schema", "of type float, not int"),
        ({"in-favour": [1]}, "schema", "of type list"),
        ({"loss": ...}, "schema", "loss is missing"),
        ({"loss": math.nan}, "schema", "loss is nan"),
        ({"accepted-loss": math.nan}, "schema", "accepted-loss is nan"),
        ({"accepted-loss": [0.5]}, "schema", "of type list"),
        ({"num-examples": 0}, "sample_count", "no example"),
        ({"num-examples": -3}, "schema", "num-examples is -3"),
        ({"num-examples": 2**60}, "schema", "num-examples is"),
        ({"num-examples": 3.5}, "schema", "of type float"),
        ({"gossip": 1}, "schema", "1 unknown fields"),
        ({"loss": math.inf}, "plausibility", "favours a model whose loss is infinite"),
    ],
)
def test_a_bad_ballot_is_refused(changes: dict[str, object], reason: str, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint) as refusal:
        Ballot.from_record(changed(BALLOT.to_record(), **{k: v for k, v in changes.items()}))
    assert refusal.value.reason == reason


numbers = st.integers() | st.floats() | st.lists(st.integers(), max_size=2) | st.booleans()


@given(st.dictionaries(st.sampled_from([*BALLOT.to_record(), "?"]), numbers))
def test_any_ballot_is_understood_or_refused_and_nothing_else(record: dict[str, object]) -> None:
    try:
        ballot = Ballot.from_record({**BALLOT.to_record(), **record})
    except MessageError as error:
        assert error.reason in {"schema", "sample_count", "plausibility"}
    else:
        assert Ballot.from_record(ballot.to_record()) == ballot
