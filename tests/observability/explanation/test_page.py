import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from daafl.observability.explanation import account_json, accounts, explanation_html
from daafl.observability.explanation.picture import picture
from daafl.observability.run import Run

LOSSES = (1.0, 1.2, 1.1, 0.9, 0.7, 0.6)


def test_the_page_stands_alone_and_shows_the_chart(
    halving_run: Callable[..., Run], policies
) -> None:
    (account,) = accounts(halving_run(LOSSES), policies)
    evil = replace(account, decision=replace(account.decision, reason="<script>alert(1)</script>"))
    page = explanation_html("halving", [evil], ["replayed"])
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<figure") == 1
    assert "expected 1.1, give or take 0.0577" in page
    assert "0.7 when it was judged" in page
    assert "forecast without it" in page


def test_a_decision_without_a_metric_shows_its_knob(
    halving_run: Callable[..., Run], policies
) -> None:
    (account,) = accounts(halving_run(LOSSES), {})
    page = explanation_html("halving", [account])
    assert "lr 0.8 → 0.4" in page
    assert page.count("<figure") == 1


def test_the_json_holds_everything(halving_run: Callable[..., Run], policies, altered) -> None:
    run = altered(halving_run(LOSSES), "closed", 0, ("insight", "z"), 7.5)
    (account,) = accounts(run, policies)
    told = json.loads(json.dumps(account_json(account), allow_nan=False))
    assert (told["decision"], told["step"], told["result"]) == ("main:1", 2, "better")
    assert told["seen"]["loss"]["value"] == 1.2
    assert told["judged"] == {"tick": 5, "step": 5}
    assert [sample["value"] for sample in told["metric"]] == list(LOSSES)
    (wrong,) = told["checks"]["mismatches"]
    assert (wrong["what"], wrong["recorded"]) == ("z", 7.5)


def test_a_knob_is_drawn_as_held_from_one_step_to_the_next(
    halving_run: Callable[..., Run],
) -> None:
    (account,) = accounts(halving_run(LOSSES), {})
    drawn = picture(account)
    assert drawn is not None
    # lr is 0.8 until step 2 has been looked at, then 0.4; tick 0 counts as step 0.
    assert drawn.before == ((0, 0.8), (1, 0.8), (1, 0.8), (2, 0.8), (2, 0.4))
    assert drawn.after[:3] == ((2, 0.4), (3, 0.4), (3, 0.4))
    assert drawn.unit_x == "step"


def test_the_forecast_starts_where_the_metric_was(
    halving_run: Callable[..., Run], policies
) -> None:
    (account,) = accounts(halving_run(LOSSES), policies)
    drawn = picture(account)
    assert drawn is not None
    assert drawn.before == ((1, 1.0), (2, 1.2))
    assert drawn.forecast == ((2, 1.2), (5, 1.2))
    assert drawn.expected == ((5, pytest.approx(1.1)),)
    assert drawn.spread == pytest.approx(0.1 / 3**0.5)
