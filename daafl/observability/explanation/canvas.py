"""Curves in a terminal, drawn with braille dots: eight of them per character.

Where braille cannot be printed, a plain character stands for every cell that holds a dot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rich.text import Text

from daafl.observability.report.scale import Scale

_EMPTY: Final = 0x2800  # the braille pattern without a dot
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, by column
_ASCII: Final = {"●": "o", "◆": "+", "○": "o", "┤": "|", "│": "|", "└": "+", "─": "-", "╎": ":"}


@dataclass(frozen=True)
class Trace:
    """Points that are joined by lines, or single marks.

    Parameters
    ----------
    label
        What it is.
    points
        Positions and values, in order.
    color
        For terminals with colours.
    mark
        Character at every point instead of lines between them; empty for lines.
    is_dashed
        Whether lines have gaps.
    """

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    mark: str = ""
    is_dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """Where a chart is drawn: its axes, and its size in characters."""

    x: Scale
    y: Scale
    width: int = 64
    height: int = 12

    def column(self, x: float) -> int:
        """Return the character column of a position."""
        return round(self.x.fraction(x) * (self.width - 1))

    def row(self, y: float) -> int:
        """Return the character row of a value, 0 at the top."""
        return round((1 - self.y.fraction(y)) * (self.height - 1))


def chart(
    frame: Frame,
    traces: Sequence[Trace],
    *,
    label_y: Callable[[float], str],
    label_x: Callable[[float], str],
    upright: float | None = None,
    is_ascii: bool = False,
) -> list[Text]:
    """Return the lines of a chart with labelled axes and a legend below.

    Parameters
    ----------
    frame, traces
        Where and what to draw; later traces lie on top, marks above all lines.
    label_y, label_x
        Texts of the axes' ends and ticks.
    upright
        Position of a vertical line, such as the moment of a decision.
    is_ascii
        Whether only plain characters can be printed.
    """
    cells = _Cells(frame)
    if upright is not None:
        for row in range(frame.height):
            cells.put(frame.column(upright), row, "╎", "dim")
    for trace in traces:
        if not trace.mark:
            cells.lines(trace)
    for trace in traces:
        for x, y in trace.points if trace.mark else ():
            cells.put(frame.column(x), frame.row(y), trace.mark, f"bold {trace.color}")
    lines = _framed(cells, frame, label_y, label_x)
    lines.append(_legend(traces, _margin(frame, label_y)))
    return [_as_ascii(line) for line in lines] if is_ascii else lines


class _Cells:
    """The characters of the area in which values are drawn."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._dots = [[_EMPTY] * frame.width for _ in range(frame.height)]
        self._chars: list[list[str]] = [[""] * frame.width for _ in range(frame.height)]
        self._styles = [[""] * frame.width for _ in range(frame.height)]

    def put(self, column: int, row: int, char: str, style: str) -> None:
        self._chars[row][column], self._styles[row][column] = char, style

    def lines(self, trace: Trace) -> None:
        if len(trace.points) == 1:
            self._line(trace, trace.points[0], trace.points[0])
        for first, second in pairwise(trace.points):
            self._line(trace, first, second)

    def _line(self, trace: Trace, first: tuple[float, float], second: tuple[float, float]) -> None:
        """Set every dot between two points."""
        (x0, y0), (x1, y1) = (self._dot(point) for point in (first, second))
        count = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(count + 1):
            if trace.is_dashed and i % 4 > 1:
                continue
            x, y = round(x0 + (x1 - x0) * i / count), round(y0 + (y1 - y0) * i / count)
            row, column = y // 4, x // 2
            self._dots[row][column] |= _DOTS[y % 4][x % 2]
            self._chars[row][column] = ""
            self._styles[row][column] = trace.color

    def _dot(self, point: tuple[float, float]) -> tuple[int, int]:
        frame = self._frame
        x = round(frame.x.fraction(point[0]) * (2 * frame.width - 1))
        y = round((1 - frame.y.fraction(point[1])) * (4 * frame.height - 1))
        return x, y

    def row(self, row: int) -> Text:
        text = Text()
        for char, dots, style in zip(
            self._chars[row], self._dots[row], self._styles[row], strict=True
        ):
            shown = char or (chr(dots) if dots != _EMPTY else " ")
            text.append(shown, style=style or None)
        return text


def _framed(
    cells: _Cells,
    frame: Frame,
    label_y: Callable[[float], str],
    label_x: Callable[[float], str],
) -> list[Text]:
    """Return the rows with the labels of both axes."""
    margin = _margin(frame, label_y)
    at_row = {frame.row(value): label_y(value) for value in frame.y.ticks(3)}
    lines = []
    for row in range(frame.height):
        head = Text(f"{at_row.get(row, ''):>{margin}} {'┤' if row in at_row else '│'}", "dim")
        lines.append(head.append_text(cells.row(row)))
    lines.append(Text(f"{'':>{margin}} └{'─' * frame.width}", "dim"))
    below = [" "] * (frame.width + 8)
    for value in frame.x.ticks(6):
        label = label_x(value)
        start = frame.column(value) - len(label) // 2
        taken = below[max(start - 1, 0) : start + len(label)]
        if label and start >= 0 and set(taken) == {" "}:
            below[start : start + len(label)] = label
    lines.append(Text(f"{'':>{margin}}  {''.join(below).rstrip()}", "dim"))
    return lines


def _margin(frame: Frame, label_y: Callable[[float], str]) -> int:
    return max(len(label_y(value)) for value in (*frame.y.ticks(3), frame.y.low))


def _legend(traces: Sequence[Trace], margin: int) -> Text:
    text = Text(" " * (margin + 2))
    for index, trace in enumerate(traces):
        symbol = trace.mark or ("╌╌" if trace.is_dashed else "──")
        text.append("   " if index else "").append(symbol, trace.color).append(f" {trace.label}")
    return text


def _as_ascii(line: Text) -> Text:
    plain = "".join(
        _ASCII.get(char, "*" if _EMPTY < ord(char) < _EMPTY + 256 else "-" if char == "╌" else char)
        for char in line.plain
    )
    return Text(plain)
