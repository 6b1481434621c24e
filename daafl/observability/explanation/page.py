"""Accounts as a page that needs nothing else, with a chart for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

from daafl.observability.explanation.account import Account
from daafl.observability.explanation.picture import Picture, picture
from daafl.observability.explanation.words import (
    check_lines,
    decided,
    expected,
    happened,
    headline,
    loop_lines,
)
from daafl.observability.report.markup import Child, element
from daafl.observability.report.page import document
from daafl.observability.report.plot import Curve, Plot, axes, canvas, curves, figure, upright
from daafl.observability.report.scale import Scale, scale_over
from daafl.observability.report.timeline import step_label
from daafl.observability.units import number, plural


def explanation_html(name: str, found: Sequence[Account], notes: Sequence[str] = ()) -> str:
    """Return a page that explains decisions.

    Parameters
    ----------
    name
        Of the run.
    found
        The decisions, in order.
    notes
        What is to be said about the run as a whole, one sentence each.
    """
    wrong = sum(bool(account.mismatches) for account in found)
    return document(
        f"{name}: explained",
        element(
            "header",
            element("h1", f"Why {name} did what it did"),
            element("p", f"{plural(len(found), 'decision')}, each computed again from the journal"),
            element(
                "p", f"{plural(wrong, 'decision')} not as recorded", class_="ended failed"
            ) if wrong else None,
            *(element("p", note, class_="ended") for note in notes),
            *(element("p", line) for line in loop_lines(found)),
        ),
        *(_section(account) for account in found),
    )  # fmt: skip


def _section(account: Account) -> Element:
    result = account.outcome.result
    drawn = picture(account)
    return element(
        "section",
        element("h2", headline(account), " ", element("span", result, class_=f"result {result}")),
        _chart(drawn) if drawn is not None else None,
        element(
            "div",
            _part("Decided", [*decided(account), account.decision.reason]),
            _part("Expected", expected(account)),
            _part("Happened", happened(account)),
            class_="triple",
        ),
        _seen(account),
        element(
            "p",
            "; ".join(check_lines(account.checks)),
            class_="ended failed" if account.mismatches else "note",
        ),
        id=account.name.replace(":", "-"),
    )


def _part(title: str, lines: Iterable[str]) -> Element:
    return element("div", element("h3", title), *(element("p", line) for line in lines))


def _seen(account: Account) -> Element | None:
    if not account.seen:
        return None
    rows = [
        element(
            "tr",
            element("td", reading.name),
            element("td", reading.text),
            element("td", reading.meaning, class_="note"),
        )
        for reading in account.seen
    ]
    return element(
        "details", element("summary", f"What {account.decision.loop} saw"), element("table", *rows)
    )


def _chart(drawn: Picture) -> Element:
    low, high = min(drawn.positions), max(drawn.positions)
    plot = Plot(Scale(low - 0.5, high + 0.5), scale_over(drawn.values, is_log=False), height=230)
    series = [Curve("observed", (*drawn.before, *drawn.after), "s1")]
    legend = [("observed", "s1")]
    if drawn.forecast:
        series.append(Curve("forecast without it", drawn.forecast, "s5 branch-1"))
        legend.append(("forecast without it, frozen at the decision", "s5"))
    moment = element(
        "g",
        upright(plot, drawn.moment, "by-hand"),
        element("text", "decision", x=plot.left(drawn.moment), y=13, dx=6),
    )
    if drawn.expected:
        legend.append(("expected with it, and its spread", "choice-5"))
    return figure(
        drawn.title,
        f"by {drawn.unit_x}",
        legend if len(legend) > 1 else [],
        canvas(
            plot,
            f"{drawn.title} around the decision, by {drawn.unit_x}.",
            axes(plot, number, step_label, name_x=drawn.unit_x),
            moment,
            curves(plot, series),
            *_expected(plot, drawn),
            *_judged(plot, drawn),
            is_timeline=False,
        ),
    )


def _expected(plot: Plot, drawn: Picture) -> list[Child]:
    """Return the expected value, with a bar of one standard deviation to either side."""
    marks: list[Child] = []
    for x, y in drawn.expected:
        spread = drawn.spread or 0.0
        left = plot.left(x)
        text = f"expected {number(y, 4)}, give or take {number(spread)}"
        marks.append(
            element(
                "g",
                element("title", text),
                element(
                    "line",
                    x1=left,
                    x2=left,
                    y1=plot.top(y - spread),
                    y2=plot.top(y + spread),
                    class_="whisker",
                ),
                element("circle", cx=left, cy=plot.top(y), r=5, class_="dot"),
                class_="choice-5",
            )
        )
    return marks


def _judged(plot: Plot, drawn: Picture) -> list[Child]:
    """Return the observation by which the decision was judged."""
    return [
        element(
            "circle",
            element("title", f"{number(y, 4)} when it was judged"),
            cx=plot.left(x),
            cy=plot.top(y),
            r=5,
            class_="dot s1",
        )
        for x, y in drawn.after
        if x == drawn.end
    ]
