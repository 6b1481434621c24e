"""Every decision as a mark on the time axis, one lane per loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from daafl.observability.outcomes import RESULTS, Kind, Outcome, Result, action_text, tally
from daafl.observability.report.markup import Child, element
from daafl.observability.report.plot import Plot, canvas, figure, ticks_x
from daafl.observability.report.scale import Scale
from daafl.observability.report.timeline import step_label, steps_axis
from daafl.observability.run import Run
from daafl.observability.units import number, plural

LANE_HEIGHT = 44
_MARK_TOP = 29  # centre of a lane's marks below its upper edge; its name stands above them
_STAGGER = 10  # between marks of one loop at one step
_CROWDED = 150  # decisions of a loop from which its adjustments become slim strokes

# Outlines around (0, 0): the shape says what was done, the colour and its filling what came of it.
_SHAPES: dict[Kind, str] = {
    "adjust": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0Z",
    "request": "M-4.2-4.2H4.2V4.2H-4.2Z",
    "restore": "M0-6.5L6.5 0L0 6.5L-6.5 0Z",
    "alert": "M0-6.2L6.2 5H-6.2Z",
}
_SLIM = "M-.6-7H.6V7H-.6Z"
_KIND_WORDS: dict[Kind, str] = {
    "adjust": "changes a knob",
    "request": "asks another loop",
    "restore": "rolls back",
    "alert": "raises an alarm",
}
RESULT_WORDS: dict[Result, str] = {
    "better": "better than expected",
    "confirmed": "as expected",
    "worse": "worse than expected",
    "pending": "still open at the end",
    "unjudged": "not judged",
}


def row_id(position: int) -> str:
    """Return the anchor of a decision's row in the table."""
    return f"decision-{position + 1}"


def shapes() -> Element:
    """Return the hidden definitions that every mark on the page refers to."""
    paths = [element("path", d=outline, id=f"mark-{kind}") for kind, outline in _SHAPES.items()]
    paths.append(element("path", d=_SLIM, id="mark-slim"))
    return element("svg", element("defs", *paths), class_="definitions", aria_hidden="true")


def lanes(run: Run, decisions: Sequence[Outcome]) -> Element:
    """Return the lanes; each mark names its decision and leads to its row in the table."""
    if not decisions:
        return element("p", "No loop decided anything in this run.", class_="absent")
    by_loop: dict[str, list[tuple[int, Outcome]]] = {}
    for position, outcome in enumerate(decisions):
        by_loop.setdefault(outcome.decision.loop, []).append((position, outcome))
    plot = Plot(steps_axis(run), Scale(0, 1), height=LANE_HEIGHT * len(by_loop))
    rows: list[Child] = []
    for index, (loop, members) in enumerate(by_loop.items()):
        rows += _lane(plot, index, loop, members)
    description = f"{plural(len(decisions), 'decision')} of {plural(len(by_loop), 'loop')} by step."
    return figure(
        "Decisions",
        "point at a mark to read it, click to find it in the table",
        _legend(decisions),
        canvas(plot, description, *rows, ticks_x(plot, step_label)),
        _shape_legend(decisions),
    )


def explanation(outcome: Outcome) -> str:
    """Return all about a decision in a few lines."""
    decision, insight = outcome.decision, outcome.insight
    name = "Decision" if decision.number is None else f"Decision {decision.number}"
    lines = [
        f"{name} of {decision.loop} after step {outcome.step} ({decision.state})",
        action_text(decision),
        decision.reason,
        RESULT_WORDS[outcome.result].capitalize(),
    ]
    if insight is not None:
        lines[-1] += (
            f": expected {number(insight.expected)}, was {number(insight.actual)}"
            f" (z {number(insight.z)})"
        )
    return "\n".join(lines)


def _lane(
    plot: Plot, index: int, loop: str, members: Sequence[tuple[int, Outcome]]
) -> list[Element]:
    top = index * LANE_HEIGHT
    middle = top + _MARK_TOP
    return [
        element(
            "text",
            element("tspan", loop.replace("_", " "), class_="loop"),
            f" {plural(len(members), 'decision')}",
            x=0,
            y=top + 14,
            class_="lane",
        ),
        element("line", x1=0, x2="100%", y1=middle, y2=middle, class_="grid"),
        *_marks(plot, middle, members),
    ]


def _marks(plot: Plot, middle: float, members: Sequence[tuple[int, Outcome]]) -> list[Element]:
    """Return a lane's marks, the notable ones on top, those of one step one below the other."""
    at_step = Counter(outcome.step for _, outcome in members)
    placed: Counter[int] = Counter()
    ordered: list[tuple[bool, Element]] = []
    for position, outcome in members:
        offset = placed[outcome.step] - (at_step[outcome.step] - 1) / 2
        placed[outcome.step] += 1
        slim = len(members) > _CROWDED and outcome.kind == "adjust"
        mark = element(
            "a",
            element("title", explanation(outcome)),
            element(
                "use",
                href=f"#mark-{'slim' if slim else outcome.kind}",
                x=plot.left(outcome.step),
                y=middle + _STAGGER * offset,
            ),
            href=f"#{row_id(position)}",
            class_=f"mark {'slim' if slim else outcome.kind} {outcome.result}",
            tabindex="-1",
        )
        ordered.append((not outcome.is_routine, mark))
    return [mark for _, mark in sorted(ordered, key=lambda pair: pair[0])]


def _legend(decisions: Sequence[Outcome]) -> list[tuple[str, str]]:
    counts = tally(decisions)
    return [
        (f"{counts[result]:,} {RESULT_WORDS[result]}", f"verdict {result}")
        for result in RESULTS
        if counts[result]
    ]


def _shape_legend(decisions: Sequence[Outcome]) -> Element:
    present = {outcome.kind for outcome in decisions}
    keys = [
        element(
            "span",
            element(
                "svg",
                element("use", href=f"#mark-{kind}"),
                viewBox="-8 -8 16 16",
                width=14,
                height=14,
                aria_hidden="true",
            ),
            words,
        )
        for kind, words in _KIND_WORDS.items()
        if kind in present
    ]
    return element("p", *keys, class_="shapes")
