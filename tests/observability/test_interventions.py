from collections.abc import Callable, Mapping

from daafl.autonomy.plan import Change
from daafl.observability.interventions import Intervention, interventions
from daafl.observability.report import report_html
from daafl.observability.run import Run

CHANGE = {"knob": "lr", "old": 0.1, "new": 3.0}


def override(changes: object, target: str = "main") -> Mapping[str, object]:
    return {"kind": "override", "target": target, "tick": 9, "changes": changes,
            "by": "operator", "reason": "a test"}  # fmt: skip


def decided(step: int, target: str = "main") -> Mapping[str, object]:
    observations = {"health": {"loss": 0.5}, "learning_rate": {"step": step}}
    return {"kind": "decided", "target": target, "tick": 9, "observations": observations}


def test_an_edit_belongs_to_the_step_its_target_saw_next(scripted_run: Callable[..., Run]) -> None:
    journal = (decided(7), override([CHANGE]), decided(30, target="trial"), decided(8), decided(9))
    (found,) = interventions(scripted_run(journal=journal))
    assert found == Intervention(8, "operator", "a test", (Change("lr", 0.1, 3.0),))
    assert found.sentence == "Before step 8 the operator set lr 0.1 → 3 (a test)."


def test_what_describes_no_edit_is_passed_over(scripted_run: Callable[..., Run]) -> None:
    damaged = (override("all"), override([{"knob": "lr"}]), decided(8), override([CHANGE]))
    assert interventions(scripted_run(journal=damaged)) == ()


def test_the_report_marks_and_tells_an_edit(scripted_run: Callable[..., Run]) -> None:
    page = report_html(scripted_run(journal=(override([CHANGE]), decided(8))))
    # Accuracy, loss and the two numeric knobs that moved; step 7.5 of 60 lies at 7/60.
    assert page.count(f'x1="{100 * 7 / 60:.2f}%"') == page.count('class="by-hand"') == 4
    assert "Before step 8 the operator set lr 0.1 → 3 (a test)." in page
