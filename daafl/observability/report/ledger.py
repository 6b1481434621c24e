"""Tables of the report: every decision, and the numbers of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from daafl.observability.events import StepRecord
from daafl.observability.interventions import interventions
from daafl.observability.outcomes import Outcome, action_text
from daafl.observability.report.lanes import RESULT_WORDS, row_id
from daafl.observability.report.markup import Child, element
from daafl.observability.run import Run
from daafl.observability.units import duration, number, plural, share, size, value_text

_MANY = 30  # decisions from which routine ones are hidden at first
_MAX_ROWS = 2000
_SYMBOLS = {"better": "▲", "confirmed": "●", "worse": "▼", "pending": "○", "unjudged": "·"}


def decisions_section(run: Run, decisions: Sequence[Outcome]) -> Element:
    """Return the table of all decisions with their reasons and results."""
    if not decisions:
        body: list[Child] = [element("p", "No loop decided anything.", class_="absent")]
    else:
        routine = sum(outcome.is_routine for outcome in decisions)
        body = [
            element(
                "p",
                "Expected and actual are improvements of the named metric over the forecast made "
                "when the decision was taken; z is their difference in standard deviations.",
                class_="note",
            ),
            *(_filter(routine, is_on=len(decisions) > _MANY and routine < len(decisions))),
            element("div", _decision_table(decisions), class_="scroll"),
        ]
    by_hand = [element("p", found.sentence) for found in interventions(run)]
    return element("section", element("h2", "All decisions"), *by_hand, *body, id="decisions")


def steps_section(run: Run) -> Element | None:
    """Return the folded table of steps, which also feeds what the pointer shows."""
    if not run.rounds:
        return None
    every = -(-len(run.rounds) // _MAX_ROWS)
    chosen = run.rounds[::every]
    knobs = list(dict.fromkeys(name for step in run.rounds for name in step.knobs))
    moved = [k for k in knobs if len({step.knobs.get(k) for step in run.rounds}) > 1]
    heads = ["step", "clock", "accuracy", "loss", "loss before training", *moved]
    heads += ["updates", "rejected", "failed", "seconds", "from nodes", "to nodes", "decided"]
    title = f"Numbers of {'every step' if every == 1 else f'every {every}th step'}"
    return element(
        "section",
        element(
            "details",
            element("summary", title),
            element(
                "div",
                element(
                    "table",
                    element(
                        "thead", element("tr", *(element("th", h, scope="col") for h in heads))
                    ),
                    element("tbody", *(_step_row(step, moved) for step in chosen)),
                    id="steps",
                ),
                class_="scroll",
            ),
        ),
        id="numbers",
    )


def _filter(routine: int, *, is_on: bool) -> list[Element]:
    """Return a switch that hides plain adjustments; the style sheet does the hiding."""
    if not routine:
        return []
    return [
        element("input", type="checkbox", id="only-notable", checked=is_on),
        element(
            "label",
            f" hide {plural(routine, 'adjustment')} that did no harm",
            for_="only-notable",
        ),
    ]


def _decision_table(decisions: Sequence[Outcome]) -> Element:
    heads = ("#", "step", "loop", "state", "action", "why", "expected", "actual", "z", "result")
    return element(
        "table",
        element("thead", element("tr", *(element("th", head, scope="col") for head in heads))),
        element("tbody", *(_decision_row(i, outcome) for i, outcome in enumerate(decisions))),
        class_="decisions",
    )


def _decision_row(position: int, outcome: Outcome) -> Element:
    decision, insight = outcome.decision, outcome.insight
    promised = decision.expect.mean if decision.expect else None
    expected = insight.expected if insight else promised
    metric = f" {decision.expect.metric}" if decision.expect else ""
    result = element(
        "span",
        f"{_SYMBOLS[outcome.result]} {outcome.result}",
        class_=f"result {outcome.result}",
        title=insight.sentence if insight else RESULT_WORDS[outcome.result],
    )
    cells: tuple[tuple[str, Child], ...] = (
        ("#", str(decision.number if decision.number is not None else position + 1)),
        ("step", f"{outcome.step:,}"),
        ("loop", decision.loop.replace("_", " ")),
        ("state", decision.state.replace("_", " ")),
        ("action", action_text(decision)),
        ("why", decision.reason),
        ("expected", f"{number(expected)}{metric}" if expected is not None else "-"),
        ("actual", number(insight.actual) if insight else "-"),
        ("z", number(insight.z) if insight else "-"),
        ("result", result),
    )
    return element(
        "tr",
        *(
            element("td", content, data_label=label, class_="empty" if content == "-" else None)
            for label, content in cells
        ),
        id=row_id(position),
        class_="routine" if outcome.is_routine else None,
    )


def _step_row(step: StepRecord, knobs: Sequence[str]) -> Element:
    cells = [
        f"{step.step:,}",
        duration(step.clock_s),
        share(step.metrics.get("accuracy")),
        number(step.metrics.get("loss"), 4),
        number(step.train_loss, 4),
        *(value_text(step.knobs[name]) if name in step.knobs else "-" for name in knobs),
        f"{step.num_updates:,}",
        _counts(step.rejected),
        _counts(step.failures),
        duration(step.seconds),
        size(step.bytes_up),
        size(step.bytes_down),
        "; ".join(f"{d.loop} {action_text(d)}" for d in step.decisions),
    ]
    return element("tr", *(element("td", cell) for cell in cells))


def _counts(by_reason: Mapping[str, int]) -> str:
    total = sum(by_reason.values())
    if not total:
        return "0"
    return f"{total:,} ({', '.join(sorted(by_reason))})"
