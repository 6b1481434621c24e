"""Accounts for the terminal: one in full with its picture, or all of them in a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.text import Text

from daafl.observability.explanation.account import Account
from daafl.observability.explanation.canvas import Frame, Trace, chart
from daafl.observability.explanation.picture import Picture, picture
from daafl.observability.explanation.words import (
    check_lines,
    decided,
    expected,
    happened,
    headline,
    loop_lines,
    result_text,
)
from daafl.observability.outcomes import action_text
from daafl.observability.report.scale import Scale, scale_over
from daafl.observability.report.timeline import step_label
from daafl.observability.units import number, plural

_STYLES: Final = {"better": "blue", "confirmed": "dim", "worse": "dark_orange"}
_WIDEST: Final = 72  # columns of a picture


def in_full(account: Account, *, width: int = 80, is_ascii: bool = False) -> list[Text]:
    """Return an account in words and as a picture, line by line.

    Parameters
    ----------
    account
        Of which decision.
    width
        Columns of the terminal.
    is_ascii
        Whether only plain characters can be printed.
    """
    result = account.outcome.result
    lines = [Text(headline(account), style="bold")]
    lines += _section("seen", _seen_lines(account))
    lines += _section("decided", decided(account))
    lines += _section("why", [account.decision.reason, f"state: {account.decision.state}"])
    lines += _section("expected", expected(account))
    lines += _section("happened", happened(account), style=_STYLES.get(result, ""))
    drawn = picture(account)
    if drawn is not None:
        lines += [Text(), *_drawn(drawn, width=width, is_ascii=is_ascii)]
    style = "bold red" if account.mismatches else "dim"
    return [*lines, *_section("checked", check_lines(account.checks), style=style)]


def listed(found: Sequence[Account], *, num_steps: int) -> list[Text]:
    """Return a line for every decision in order, and a summary of every loop."""
    if not found:
        return [Text(f"no loop decided anything in {plural(num_steps, 'step')}")]
    width = max(len(account.name) for account in found)
    loops = max(len(account.decision.loop) for account in found)
    results = max(len(result_text(account)) for account in found)
    heads = f"{'step':>6}  {'decision':<{max(width, 8)}}  {'loop':<{loops}}"
    lines = [Text(f"{heads}  {'what came of it':<{max(results, 15)}}  what and why", "dim")]
    for account in found:
        step = "start" if account.cycle.step is None else f"{account.cycle.step:,}"
        result = account.outcome.result
        line = Text(f"{step:>6}  {account.name:<{max(width, 8)}}  ")
        line.append(f"{account.decision.loop:<{loops}}  ")
        line.append(f"{result_text(account):<{max(results, 15)}}  ", _STYLES.get(result, "dim"))
        line.append(action_text(account.decision))
        line.append(f" ({account.decision.reason})", "dim")
        if account.mismatches:
            line.append("  not as recorded", "bold red")
        lines.append(line)
    return [*lines, Text(), *(Text(line) for line in loop_lines(found))]


def _seen_lines(account: Account) -> list[str]:
    seen = account.seen
    if not seen:
        return ["nothing: the decision follows from what others asked for"]
    known = [reading for reading in seen if reading.value is not None]
    unknown = [reading.name for reading in seen if reading.value is None]
    names = max((len(reading.name) for reading in known), default=0)
    lines = [f"{reading.name:<{names}}  {reading.text}  ({reading.meaning})" for reading in known]
    return [*lines, *([f"not known: {', '.join(unknown)}"] if unknown else [])]


def _section(title: str, lines: Iterable[str], style: str = "") -> list[Text]:
    """Return lines below each other, the first beside their title."""
    return [
        Text(f"  {title if index == 0 else '':<9} ", "dim").append(line, style or None)
        for index, line in enumerate(lines)
    ]


def _drawn(drawn: Picture, *, width: int, is_ascii: bool) -> list[Text]:
    traces = [Trace("observed before", drawn.before, "default")]
    if drawn.forecast:
        traces.append(Trace("forecast without it", drawn.forecast, "magenta", is_dashed=True))
    traces.append(Trace("observed after", drawn.after, "blue"))
    if drawn.expected:
        traces.append(Trace("expected", drawn.expected, "green", mark="◆"))
    last = [point for point in drawn.after if drawn.end is not None and point[0] == drawn.end]
    if last:
        traces.append(Trace("when judged", last, "blue", mark="●"))
    frame = Frame(
        _axis(drawn.positions), scale_over(drawn.values, is_log=False), min(width - 14, _WIDEST)
    )
    lines = chart(
        frame,
        traces,
        label_y=number,
        label_x=step_label,
        upright=drawn.moment,
        is_ascii=is_ascii,
    )
    title = Text(f"{'':<12}{drawn.title} by {drawn.unit_x}; the upright line is the decision")
    return [title, *(Text("  ").append_text(line) for line in lines)]


def _axis(positions: Sequence[float]) -> Scale:
    low, high = min(positions), max(positions)
    return Scale(low, high if high > low else low + 1)
