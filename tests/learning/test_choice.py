import json

import pytest

from daafl.errors import DataError
from daafl.learning.choice import Choice


def test_a_choice_survives_json() -> None:
    choice = Choice("dense", "it is 9 times as fast", {"eager": 0.001, "dense": 0.0001})
    assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"method": "fast", "reason": "", "seconds": {}},
        {"method": "dense", "reason": 3, "seconds": {}},
        {"method": "dense", "reason": "", "seconds": {"eager": "1"}},
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="a choice of training method must have"):
        Choice.from_json(value)
