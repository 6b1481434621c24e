import math

import pytest

from daafl.observability.units import duration, number, share, size, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.5, "-0.5"),
        (0.0001234, "0.000123"),
        (0.00001234, "1.23e-05"),
        (99.96, "100"),
        (1234567.0, "1,234,567"),
        (2.5e9, "2.5e9"),
        (math.inf, "not finite"),
        (None, "-"),
    ],
)
def test_number_keeps_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text.replace("e9", "e+09")


def test_size_moves_to_the_next_unit_before_four_digits() -> None:
    assert [size(n) for n in (0, 999, 1000, 999_499, 999_500, 3 * 10**15)] == [
        "0 B", "999 B", "1 kB", "999 kB", "1 MB", "3 PB",
    ]  # fmt: skip


def test_duration_never_shows_sixty_seconds() -> None:
    assert duration(119.6) == "2 min 00 s"
    assert duration(7199.7) == "2 h 00 min"
    assert duration(math.nan) == "not finite"


def test_share_and_values() -> None:
    assert share(1.0) == "1.0000"
    assert share(math.nan) == "not finite"
    assert [value_text(v) for v in (False, 0.25, 7, "fedavg")] == ["off", "0.25", "7", "fedavg"]
