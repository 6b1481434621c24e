from collections.abc import Callable
from dataclasses import replace

import pytest

from daafl.autonomy.plan import Change
from daafl.autonomy.records import Decision, Request
from daafl.errors import ConfigError
from daafl.observability.explanation import accounts, chosen, in_full, listed
from daafl.observability.explanation.account import Account
from daafl.observability.explanation.observed import MEANINGS, readings
from daafl.observability.explanation.words import decided, expected, happened
from daafl.observability.run import Run
from daafl.strategies.monitor import StepFacts

LOSSES = (1.0, 1.2, 1.1, 0.9, 0.7, 0.6)


@pytest.fixture
def account(halving_run, policies) -> Account:
    (found,) = accounts(halving_run(LOSSES), policies)
    return found


def test_a_decision_in_full(account: Account) -> None:
    text = "\n".join(line.plain for line in in_full(account))
    assert "Decision main:1, halving, after step 2 (tick 2)" in text
    assert "loss  1.2  (median of the losses nodes report" in text
    assert "halve: lr 0.8 → 0.4" in text
    assert "the loss rose to 1.2" in text
    assert "without it, loss was forecast at 1.2 after 3 cycles (step 5)" in text
    assert "with it, at 1.1: an improvement of 0.1" in text
    assert "spread 0.0577 = sqrt(sd_mean 0^2 + sd 0.1^2 / 3)" in text
    assert "better: after step 5 loss was 0.7" in text
    assert "improvement 1.2 - 0.7 = 0.5" in text
    assert "z = (0.5 - 0.1) / 0.0577 = 6.93; reward 3" in text
    assert "all as recorded" in text
    assert "◆ expected" in text


def test_only_plain_characters_where_others_cannot_be_printed(account: Account) -> None:
    (picture, *_) = [in_full(account, is_ascii=True)]
    drawn = [line.plain for line in picture if "|" in line.plain or "+--" in line.plain]
    assert len(drawn) == 13
    assert all(line.isascii() for line in drawn)


def test_a_mismatch_is_told(account: Account, halving_run, policies, altered) -> None:
    run = altered(halving_run(LOSSES), "closed", 0, ("insight", "z"), 7.5)
    (wrong,) = accounts(run, policies)
    text = "\n".join(line.plain for line in in_full(wrong))
    assert "1 not as recorded" in text
    assert "z: recorded 7.5, computed 6.9282032302755" in text
    assert "not as recorded" in "\n".join(line.plain for line in listed([wrong], num_steps=6))


def test_the_list_has_a_line_per_decision_and_a_summary(account: Account) -> None:
    lines = [line.plain for line in listed([account], num_steps=6)]
    assert "     2  main:1    halving  better (z +6.9)" in lines[1]
    assert lines[-1] == "halving: 1 decision (1 x halve); 1 better"
    assert listed([], num_steps=6)[0].plain == "no loop decided anything in 6 steps"


def test_requests_restores_and_clipped_wishes_are_told(account: Account) -> None:
    ask = Request("probe", "integrity", "halving", "the loss left its trend", low=1.0)
    asked = replace(account.decision, changes=(Change("lr", 0.8, 0.2),), number=None)
    told = replace(
        account,
        decision=replace(account.decision, requests=(ask,), restore=4),
        cycle=replace(
            account.cycle,
            restored=3,
            asked=(asked,),
            notes=("lr 0.2 of halving -> 0.4 for health", "other: nothing to do with it"),
        ),
    )
    assert decided(told) == [
        "halve: lr 0.8 → 0.4, asks for probe ≥ 1, back to model version 4",
        "probe: the loss left its trend (integrity, for 1 tick)",
        "the loop had wanted: halve: lr 0.8 → 0.2",
        "version 3 was the nearest one kept",
        "lr 0.2 of halving -> 0.4 for health",
    ]


def test_what_is_not_judged_says_so(account: Account) -> None:
    plain = replace(account, decision=Decision("halving", "alert", "x", "y"), insight=None)
    assert expected(plain) == ["nothing: this decision is not judged on its own"]
    assert happened(plain) == ["not judged"]
    (line,) = happened(replace(account, insight=None))
    assert "no judgement is recorded" in line


def numbered(account: Account, target: str, number: int) -> Account:
    return replace(
        account,
        cycle=replace(account.cycle, target=target),
        decision=replace(account.decision, number=number),
    )


def test_a_decision_is_chosen_by_number_target_and_loop(account: Account) -> None:
    found = [
        numbered(account, "main", 1), numbered(account, "main", 2),
        numbered(account, "federation", 1),
    ]  # fmt: skip
    assert chosen(found, decision="2") == (found[1],)
    assert chosen(found, decision="federation:1") == (found[2],)
    assert chosen(found, loop="halving") == tuple(found)
    with pytest.raises(ConfigError, match="write main:1 or federation:1"):
        chosen(found, decision="1")
    with pytest.raises(ConfigError, match=r"there are main:1 to 2 and federation:1 to 1"):
        chosen(found, decision="9")
    with pytest.raises(ConfigError, match="write 12, or main:12"):
        chosen(found, decision="main:")
    with pytest.raises(ConfigError, match="did you mean halving"):
        chosen(found, loop="halvin")


def test_every_fact_of_a_step_has_a_meaning(scripted_run: Callable[..., Run]) -> None:
    assert set(StepFacts.__dataclass_fields__) <= set(MEANINGS)


def test_readings_have_units() -> None:
    seen = {"round_seconds": 200.0, "num_updates": 3, "bytes_up": 1_250_000, "restored": False}
    seen |= {"suspects": [3, 1200], "probe_rates": [0.001, 0.1], "vote_share": 0.25, "new": 1.5}
    assert [reading.text for reading in readings(seen)] == [
        "3 min 20 s", "3 updates", "1.25 MB", "no", "3, 1200", "0.001, 0.1", "25 %", "1.5",
    ]  # fmt: skip
    assert readings(None) == ()
