from dataclasses import replace

from daafl.autonomy.plan import Change
from daafl.autonomy.records import ALERT, Decision
from daafl.observability.events import Flag, RunInfo, StepRecord
from daafl.strategies.totals import Totals

INFO = RunInfo(task="t", strategy="FedAvg", num_nodes=7, num_rounds=3, num_parameters=10, seed=11)
STEP = StepRecord(
    kind="train",
    step=1,
    branch="main",
    version=1,
    clock_s=1.0,
    seconds=1.0,
    wall_seconds=0.5,
    train_loss=0.9,
    metrics={},
    knobs={},
    num_updates=2,
    num_examples=20.0,
    rejected={},
    failures={},
    staleness=0,
    bytes_up=100,
    bytes_down=1000,
    decisions=(),
    insights=(),
    restored=None,
)
LOWER = Decision("lr", "decrease", "stable", "lower", (Change("lr", 0.2, 0.1),), number=0)
ALARM = Decision("health", ALERT, "degraded", "loss left its trend", number=1)


def totals(*records: StepRecord, is_virtual: bool = True) -> Totals:
    made = Totals(version="1.2.3", is_virtual=is_virtual)
    made.started(INFO)
    for record in records:
        made.stepped(record)
    return made


def test_a_run_is_the_sum_of_its_steps() -> None:
    summary = totals(
        replace(STEP, kind="probe", bytes_up=5, bytes_down=50),
        replace(STEP, metrics={"accuracy": 0.5, "loss": 1.0}, decisions=(LOWER, ALARM)),
        replace(STEP, step=2, clock_s=2.0, metrics={"accuracy": 0.8, "loss": 0.6}, restored=1),
        replace(STEP, step=3, clock_s=4.5, metrics={"accuracy": 0.7}, decisions=(LOWER,)),
    ).summary("completed", "all 3 rounds done", 2.5)
    assert (summary.rounds, summary.nodes, summary.seed) == (3, 7, 11)
    assert (summary.bytes_up, summary.bytes_down) == (305, 3050)
    assert (summary.decisions, summary.alarms, summary.rollbacks) == (3, 1, 1)
    assert (summary.final_accuracy, summary.best_accuracy) == (0.7, 0.8)
    assert summary.final_loss == 0.6
    assert (summary.seconds, summary.virtual_seconds) == (2.5, 4.5)
    assert (summary.status, summary.reason) == ("completed", "all 3 rounds done")
    assert (summary.epsilon, summary.delta, summary.flagged_nodes) == (None, None, ())
    assert summary.version == "1.2.3"


def test_figures_of_a_model_that_was_given_up_do_not_end_up_in_the_summary() -> None:
    steps = [
        replace(STEP, version=1, metrics={"accuracy": 0.5, "loss": 1.0}),
        replace(STEP, version=2, metrics={"accuracy": 0.9, "loss": 0.5}),
        replace(STEP, version=3, metrics={"accuracy": 0.1, "loss": 9.0}, restored=1),
    ]
    back = totals(*steps).summary("completed", "", 0.0)
    assert (back.final_accuracy, back.final_loss, back.best_accuracy) == (0.5, 1.0, 0.9)
    # Version 4 is version 1 again. Back to 5, which nobody evaluated, is back to that.
    again = totals(*steps, replace(STEP, version=6, metrics={"accuracy": 0.2}, restored=5))
    assert again.summary("completed", "", 0.0).final_accuracy == 0.5
    nothing = totals(replace(STEP, version=1, metrics={"accuracy": 0.2}, restored=0))
    assert nothing.summary("completed", "", 0.0).final_accuracy is None


def test_what_was_not_measured_is_none() -> None:
    summary = totals(is_virtual=False).summary("failed", "no node", 1.0)
    assert (summary.final_accuracy, summary.best_accuracy, summary.final_loss) == (None,) * 3
    assert summary.virtual_seconds is None
    assert summary.rounds == 0


def test_the_final_figures_are_those_of_the_model_that_a_rollback_returned_to() -> None:
    steps = [
        replace(STEP, step=1, version=1, metrics={"accuracy": 0.5, "loss": 1.0}),
        replace(STEP, step=2, version=2, metrics={"accuracy": 0.8, "loss": 0.6}),
        replace(STEP, step=3, version=3, metrics={"accuracy": 0.1, "loss": 9.0}, restored=2),
    ]
    summary = totals(*steps).summary("completed", "", 1.0)
    assert (summary.final_accuracy, summary.final_loss) == (0.8, 0.6)
    assert summary.best_accuracy == 0.8
    # Nothing that old was evaluated: it is not known how good the model is.
    summary = totals(replace(steps[2], restored=0)).summary("completed", "", 1.0)
    assert (summary.final_accuracy, summary.final_loss) == (None, None)


def test_a_restored_model_that_was_not_evaluated_counts_as_the_one_before() -> None:
    steps = [
        replace(STEP, step=1, version=1, metrics={"accuracy": 0.5}),
        replace(STEP, step=2, version=2),
        replace(STEP, step=3, version=3, metrics={"accuracy": 0.1}, restored=2),
    ]
    assert totals(*steps).summary("completed", "", 1.0).final_accuracy == 0.5


def test_flagged_are_the_nodes_that_were_suspected_in_any_step() -> None:
    def flag(node: int, *, is_suspect: bool) -> Flag:
        return Flag(node, 5.0, "norm", is_suspect, "too long")

    steps = [
        replace(STEP, step=1, flags=(flag(9, is_suspect=True), flag(2, is_suspect=False))),
        replace(STEP, step=2, flags=(flag(4, is_suspect=True), flag(9, is_suspect=False))),
    ]
    assert totals(*steps).summary("completed", "", 1.0).flagged_nodes == (4, 9)
