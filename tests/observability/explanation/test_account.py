import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from daafl.autonomy.beliefs import Belief
from daafl.errors import JournalError
from daafl.observability.explanation import accounts
from daafl.observability.explanation.checks import Policies
from daafl.observability.run import Run

Make = Callable[..., Run]
Alter = Callable[..., Run]

# Step 2 raises the loss from 1.0 to 1.2: lr is halved, judged three cycles later at 0.7.
LOSSES = (1.0, 1.2, 1.1, 0.9, 0.7, 0.6)


def test_an_account_tells_what_was_seen_decided_and_judged(
    halving_run: Make, policies: Policies
) -> None:
    (account,) = accounts(halving_run(LOSSES), policies)
    assert account.name == "main:1"
    assert (account.cycle.step, account.cycle.tick, account.due) == (2, 2, 5)
    assert [(r.name, r.value) for r in account.seen] == [("step", 2), ("loss", 1.2)]
    (change,) = account.decision.changes
    assert (change.old, change.new) == (0.8, 0.4)
    assert account.closed is not None
    assert account.closed.step == 5
    assert account.insight is not None
    assert account.insight.actual == pytest.approx(0.5)
    # (0.5 - 0.1) / (0.1 / sqrt(3))
    assert account.insight.z == pytest.approx(4 * math.sqrt(3))
    assert [(s.step, s.value) for s in account.metric] == list(enumerate(LOSSES, start=1))
    assert account.mismatches == ()
    assert sum(check.is_made for check in account.checks) == len(account.checks) > 15


TAMPERED: list[tuple[str, int, tuple[Any, ...], object, str]] = [
    ("closed", 0, ("insight", "z"), 7.5, "z"),
    ("closed", 0, ("insight", "actual"), 0.6, "actual"),
    ("closed", 0, ("insight", "expected"), 0.2, "expected"),
    ("closed", 0, ("insight", "reward"), 1.0, "reward"),
    ("closed", 0, ("insight", "verdict"), "worse", "verdict"),
    ("closed", 0, ("insight", "sentence"), "all is well", "sentence"),
    ("decided", 5, ("observations", "halving", "loss"), 0.5, "actual"),
    ("decided", 2, ("observations", "halving", "loss"), 1.3, "loss in rounds.jsonl"),
    ("decided", 2, ("decisions", 0, "expect", "baseline"), 1.3, "actual"),
    ("decided", 2, ("decisions", 0, "expect", "horizon"), 4, "tick of the judgement"),
    ("decided", 2, ("decisions", 0, "changes", 0, "old"), 0.7, "lr before"),
    ("decided", 2, ("decisions", 0, "changes", 0, "new"), 0.3, "lr after"),
    ("decided", 2, ("decisions", 0, "reason"), "it felt right", "reason in rounds.jsonl"),
    ("decided", 2, ("before", "values", "lr"), 0.7, "lr before"),
]


@pytest.mark.parametrize(("kind", "index", "path", "value", "found"), TAMPERED)
def test_a_number_that_was_altered_is_found(
    kind: str, index: int, path: Sequence[Any], value: object, found: str,
    halving_run: Make, altered: Alter, policies: Policies,
) -> None:  # fmt: skip
    run = altered(halving_run(LOSSES), kind, index, path, value)
    (account,) = accounts(run, policies)
    assert found in [check.what for check in account.mismatches]


def test_a_number_that_was_left_out_is_found(
    halving_run: Make, altered: Alter, policies: Policies
) -> None:
    run = altered(halving_run(LOSSES), "decided", 2, ("decisions", 0, "number"), 3)
    run = replace(run, journal=tuple(r for r in run.journal if r["kind"] != "closed"))
    (account,) = accounts(run, policies)
    assert "number" in [check.what for check in account.mismatches]


def test_without_its_policy_only_the_measurement_is_believed(
    halving_run: Make, altered: Alter
) -> None:
    run = halving_run(LOSSES)
    (account,) = accounts(run, {})
    assert account.mismatches == ()
    assert {check.what for check in account.checks if not check.is_made} == {"actual", "sentence"}
    assert account.metric == ()
    (wrong,) = accounts(altered(run, "closed", 0, ("insight", "z"), 7.5), {})
    assert [check.what for check in wrong.mismatches] == ["z"]


def test_what_experience_makes_one_expect_is_computed_again(
    halving_run: Make, policies: Policies
) -> None:
    key = "halving/rising/halve"
    run = halving_run(LOSSES, {key: Belief(4.0, 2.0)})
    (account,) = accounts(run, policies)
    assert account.decision.expect is not None
    # mean 2.0 sd, and sd / sqrt(4)
    assert account.decision.expect.mean == pytest.approx(0.2)
    assert account.decision.expect.sd_mean == pytest.approx(0.05)
    assert account.mismatches == ()
    believed = {"kind": "header", "beliefs": {key: {"n": 4.0, "mean": 1.0}}}
    (wrong,) = accounts(replace(run, header=believed), policies)
    assert [c.what for c in wrong.mismatches] == ["expected improvement, from experience"]
    assert wrong.mismatches[0].recomputed == pytest.approx(0.1)


def test_a_restore_judges_what_is_pending_early_and_names_the_version_used(
    halving_run: Make, policies: Policies
) -> None:
    # Halved after step 2; step 3 explodes, one cycle after the decision instead of three.
    first, second = accounts(halving_run((1.0, 1.2, 50.0, 1.0, 1.0, 1.0)), policies)
    assert first.closed is not None
    assert first.closed.tick == 3
    assert first.insight is not None
    assert first.insight.actual == pytest.approx(1.2 - 50.0)
    assert (second.decision.restore, second.cycle.restored) == (1, 0)
    assert first.mismatches == second.mismatches == ()


def test_what_early_judgements_teach_does_not_count_before_they_are_made(
    halving_run: Make, policies: Policies
) -> None:
    # With three rewards known, one more would change what the restore itself expects.
    belief = {"halving/rising/halve": Belief(3.5, 1.0)}
    found = accounts(halving_run((1.0, 1.2, 50.0, 1.0), belief), policies)
    assert [account.mismatches for account in found] == [(), ()]


def test_a_decision_that_is_still_open_has_no_judgement(
    halving_run: Make, policies: Policies
) -> None:
    (account,) = accounts(halving_run((1.0, 1.2)), policies)
    assert account.insight is None
    assert account.due == 5
    assert account.outcome.result == "pending"
    assert account.mismatches == ()


def test_steps_come_from_what_was_seen_where_lines_are_missing(
    halving_run: Make, policies: Policies
) -> None:
    run = halving_run(LOSSES)
    damaged = replace(run, steps=(run.steps[0], *run.steps[2:]), left_out=(2,))
    (account,) = accounts(damaged, policies)
    assert account.cycle.step == 2
    assert account.cycle.record is None
    assert account.mismatches == ()
    # The same without anybody knowing that a line is missing.
    (account,) = accounts(replace(damaged, left_out=()), policies)
    assert (account.cycle.step, account.mismatches) == (2, ())


def test_a_run_killed_between_journal_and_rounds_is_explained(
    halving_run: Make, policies: Policies
) -> None:
    run = halving_run((1.0, 1.2))
    (account,) = accounts(replace(run, steps=run.steps[:1]), policies)
    assert (account.cycle.step, account.mismatches) == (2, ())


def test_a_damaged_line_is_named(halving_run: Make, policies: Policies, altered: Alter) -> None:
    run = altered(halving_run(LOSSES), "decided", 2, ("before",), "lr 0.1")
    with pytest.raises(JournalError, match="line 4 cannot be explained: Plan must be an object"):
        accounts(run, policies)


def test_a_policy_that_fails_is_not_followed(halving_run: Make) -> None:
    class Broken:
        name = "halving"
        observation = dict

        def reflect(self, *_: object) -> None:
            raise RuntimeError("broken")

    (account,) = accounts(halving_run(LOSSES), {"halving": Broken()})
    assert account.mismatches == ()
    assert any("cannot tell" in check.why for check in account.checks)
