"""What a node refuses that takes part in hidden sums, whatever a coordinator asks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from daafl.clients.summing import TRAINED, Latest
from daafl.clients.waiting import Vector
from daafl.errors import MessageError


@pytest.fixture
def context() -> Context:
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})


def reason_of(call: Callable[[], Any]) -> str:
    with pytest.raises(MessageError) as caught:
        call()
    return caught.value.reason


def test_no_training_goes_into_two_sums(context: Context) -> None:
    TRAINED.check_new(context, 4, 0)
    TRAINED.note(context, 4, 0)
    assert reason_of(lambda: TRAINED.check_new(context, 4, 0)) == "freshness"
    assert reason_of(lambda: TRAINED.check_new(context, 3, 9)) == "freshness"
    TRAINED.check_new(context, 4, 1)
    TRAINED.check_new(context, 5, 0)


def test_kinds_of_what_is_newest_do_not_mix(context: Context) -> None:
    TRAINED.note(context, 4, 0)
    Latest("other").check_new(context, 1)


VECTOR = Vector(np.arange(5, dtype=np.uint32), 3, 0.25, "a claim")


def test_a_vector_waits_for_its_own_session_only(context: Context) -> None:
    VECTOR.put_aside(context, b"s" * 32, VECTOR.words, b"commitment")
    found, commitment = Vector.taken_up(context, b"s" * 32)
    assert (found.steps, found.seconds, found.claim, commitment) == (
        3,
        0.25,
        "a claim",
        b"commitment",
    )
    assert found.words.tolist() == [0, 1, 2, 3, 4]
    assert reason_of(lambda: Vector.taken_up(context, b"s" * 32)) == "phase"

    VECTOR.put_aside(context, b"s" * 32, VECTOR.words, b"commitment")
    assert reason_of(lambda: Vector.taken_up(context, b"t" * 32)) == "phase"
    assert not any(isinstance(record, ConfigRecord) for record in context.state.values())


def test_a_node_trains_once_in_a_session(context: Context) -> None:
    Vector.check_none(context)
    VECTOR.put_aside(context, b"s" * 32, VECTOR.words, b"commitment")
    assert reason_of(lambda: Vector.check_none(context)) == "phase"
    Vector.forget(context)
    Vector.check_none(context)
