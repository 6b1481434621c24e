"""Names and bounds of sensor readings."""

import math
import re

import pytest

from daafl import sensing
from daafl.errors import MessageError
from daafl.sensing import BOUNDS, checked_reading


@pytest.mark.parametrize("name", BOUNDS)
def test_readings_are_within_their_bounds(name: str) -> None:
    low, high = BOUNDS[name]
    assert checked_reading(name, low) == low
    assert checked_reading(name, high) == high
    for value in (low - 1, high * 1.01 + 1, math.nan, math.inf, -math.inf, 10**400, -(10**400)):
        with pytest.raises(MessageError, match="plausibility"):
            checked_reading(name, value)
    for value in (True, "1", None, [1.0]):
        with pytest.raises(MessageError, match="schema"):
            checked_reading(name, value)


def test_the_table_has_every_reading() -> None:
    assert set(re.findall(r"^``(\w+)``", sensing.__doc__ or "", re.MULTILINE)) == set(BOUNDS)
    with pytest.raises(MessageError, match="schema: there is no reading 'colour'"):
        checked_reading("colour", 1.0)
