import json
from dataclasses import replace

import pytest

from daafl.autonomy.codec import decode, encode
from daafl.autonomy.plan import Plan
from daafl.loops.node_failures import FAILURE_KNOBS
from daafl.strategies.standing import (
    Conduct,
    Discipline,
    Record,
    acquitted,
    barred,
    next_step,
    struck,
)

RULE = Discipline(strikes=2.5, steps=4)
MEMBERS = range(10)


def steps(conduct: Conduct, count: int) -> Conduct:
    for _ in range(count):
        conduct = next_step(conduct)
    return conduct


def out(conduct: Conduct, members: range = MEMBERS, least: int = 2) -> list[int]:
    return sorted(barred(conduct, members, least=least))


def failing(conduct: Conduct, node: int, count: int, rule: Discipline | None = RULE) -> Conduct:
    """Return the conduct after a fault of the node in each of ``count`` steps."""
    for _ in range(count):
        conduct = struck(next_step(conduct), node, "shape", rule)
    return conduct


def test_strikes_fade_by_half_in_twenty_steps() -> None:
    conduct = struck(next_step(Conduct()), 3, "shape", RULE)
    assert conduct.of(3) == Record(strikes=1.0, reason="shape")
    assert steps(conduct, 20).of(3).strikes == pytest.approx(0.5)
    # 0.5 ** (66 / 20) = 0.1015 and 0.5 ** (67 / 20) = 0.098: then nothing is held against it.
    assert list(steps(conduct, 66).records) == ["3"]
    assert steps(conduct, 67).records == {}


def test_three_failures_in_a_row_are_quarantine_and_two_are_not() -> None:
    # The third strike makes 1 + 0.966 + 0.933 = 2.899.
    conduct = failing(Conduct(), 3, 2)
    assert out(conduct) == []
    conduct = failing(conduct, 3, 1)
    assert conduct.of(3).strikes == pytest.approx(1 + 0.5 ** (1 / 20) + 0.5 ** (2 / 20))
    assert out(conduct) == [3]


def test_three_failures_within_ten_steps_are_quarantine_and_within_twenty_are_not() -> None:
    conduct = Conduct()
    for _ in range(3):
        conduct = struck(steps(conduct, 5), 3, "timeout", RULE)
    assert out(conduct) == [3]  # 1 + 0.841 + 0.707
    conduct = Conduct()
    for _ in range(3):
        conduct = struck(steps(conduct, 10), 3, "timeout", RULE)
    assert out(conduct) == []  # 1 + 0.707 + 0.5


def test_quarantine_ends_after_its_steps() -> None:
    conduct = failing(Conduct(), 3, 3)  # in step 3; out for steps 4 to 7
    assert [out(steps(conduct, n)) for n in (1, 4, 5)] == [[3], [3], []]
    assert steps(conduct, 5).of(3).is_on_parole


def test_a_fault_on_parole_doubles_the_quarantine_up_to_32_times() -> None:
    conduct, lengths = failing(Conduct(), 3, 3), []
    for _ in range(8):
        length = conduct.of(3).until - conduct.step - 1
        lengths.append(length)
        conduct = struck(steps(conduct, length + 1), 3, "shape", RULE)
    assert lengths == [4, 8, 16, 32, 64, 128, 128, 128]


def test_a_good_update_on_parole_halves_the_strikes_and_ends_it() -> None:
    conduct = steps(failing(Conduct(), 3, 3), 5)
    before = conduct.of(3)
    after = acquitted(conduct, 3).of(3)
    assert after == replace(before, strikes=before.strikes / 2, is_on_parole=False)
    # One more fault, at 1.22 + 1 strikes, is forgiven now.
    assert out(struck(acquitted(conduct, 3), 3, "shape", RULE)) == []
    # It still doubles the next quarantine.
    again = failing(acquitted(conduct, 3), 3, 2)
    assert again.of(3).until - again.step - 1 == 8


def test_good_updates_of_others_and_of_nodes_in_quarantine_change_nothing() -> None:
    conduct = failing(Conduct(), 3, 3)
    assert acquitted(conduct, 3) is conduct  # still in quarantine: an answer from before
    assert acquitted(conduct, 4) is conduct
    free = failing(Conduct(), 5, 1)
    assert acquitted(free, 5) is free


def test_faults_in_quarantine_do_not_lengthen_it() -> None:
    conduct = failing(Conduct(), 3, 3)
    late = struck(next_step(conduct), 3, "timeout", RULE)
    assert (late.of(3).until, late.of(3).sentences) == (conduct.of(3).until, 1)


def test_half_of_the_members_stay_in_play() -> None:
    conduct = Conduct()
    for _ in range(5):
        conduct = next_step(conduct)
        for node in range(9):
            conduct = struck(conduct, node, "shape", RULE)
    conduct = struck(conduct, 8, "shape", RULE)
    assert out(conduct) == [0, 1, 2, 3, 4]
    assert out(conduct, least=7) == [0, 1, 2]
    assert out(conduct, least=10) == []
    assert out(conduct, members=range(7, 10)) == [7]  # two of three stay
    assert out(conduct, members=range(8, 9)) == []


def test_without_a_rule_nobody_is_left_out() -> None:
    conduct = failing(Conduct(), 3, 50, rule=None)
    assert conduct.of(3).strikes > 10
    assert out(conduct) == []
    assert Discipline.of(Plan(0)) is None
    assert Discipline.of(Plan.of(FAILURE_KNOBS)) == Discipline(strikes=2.5, steps=5)


def test_strikes_are_bounded() -> None:
    conduct = next_step(Conduct())
    for _ in range(200):
        conduct = struck(conduct, 3, "shape", RULE)
    assert conduct.of(3).strikes == 100.0


def test_it_survives_json() -> None:
    conduct = failing(failing(Conduct(), 3, 3), 5, 1)
    assert decode(Conduct, json.loads(json.dumps(encode(conduct)))) == conduct


def test_who_came_first_stays_out_while_others_get_worse() -> None:
    conduct = failing(failing(Conduct(), 5, 3), 4, 3)
    assert out(conduct) == [4, 5]
    assert out(conduct, members=range(3, 6)) == [5]
    assert out(struck(conduct, 4, "shape", RULE), members=range(3, 6)) == [5]
