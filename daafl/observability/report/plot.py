"""Pieces of a chart as SVG that keeps its text size whatever the width of the window.

The plot is an ``svg`` of fixed height and fluid width. Positions along x are percentages; curves
lie in an inner ``svg`` that is stretched to the full width with strokes that do not scale. Labels
of the y axis hang out to the left, into a margin that the style sheet leaves free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from daafl.observability.report.markup import Child, element
from daafl.observability.report.scale import Scale

Point = tuple[float, float | None]
"""A position on x and its value; ``None`` or a value that is not finite interrupts a curve."""

MAX_POINTS = 800  # of one curve; more cannot be told apart on a screen
_WIDTH = 1000  # inner units of the stretched svg


@dataclass(frozen=True)
class Plot:
    """The area in which values are drawn.

    Parameters
    ----------
    x, y
        The axes.
    height
        In pixels.
    """

    x: Scale
    y: Scale
    height: int = 190

    def left(self, value: float) -> str:
        """Return the horizontal position as a percentage of the width."""
        return f"{100 * self.x.fraction(value):.2f}".rstrip("0").rstrip(".") + "%"

    def top(self, value: float) -> float:
        """Return the vertical position in pixels from the top."""
        return self.height * (1 - self.y.fraction(value))


@dataclass(frozen=True)
class Curve:
    """A named series; ``style`` is a class of the style sheet, ``is_step`` holds values."""

    label: str
    points: Sequence[Point]
    style: str
    is_step: bool = False


def figure(title: str, note: str, legend: Iterable[tuple[str, str]], *content: Child) -> Element:
    """Return a chart with its caption; ``legend`` pairs labels with classes."""
    keys = [element("span", label, class_=f"key {style}") for label, style in legend]
    return element(
        "figure",
        element(
            "figcaption",
            element("strong", title),
            element("span", note, class_="note") if note else None,
            element("span", *keys, class_="legend") if keys else None,
        ),
        *content,
        class_="chart",
    )


def canvas(plot: Plot, description: str, *layers: Child, is_timeline: bool = True) -> Element:
    """Return the ``svg`` with its layers, later ones on top.

    ``is_timeline`` says that x counts steps, which lets the page follow the pointer.
    """
    return element(
        "svg",
        element("desc", description),
        *layers,
        role="img",
        aria_label=description,
        class_="plot timeline" if is_timeline else "plot",
        height=plot.height,
        **({"data_low": plot.x.low, "data_high": plot.x.high} if is_timeline else {}),
    )


def axes(
    plot: Plot,
    label_y: Callable[[float], str],
    label_x: Callable[[float], str],
    *,
    name_x: str = "step",
    about_y: int = 4,
    about_x: int = 6,
) -> Element:
    """Return grid lines and labels of both axes."""
    parts: list[Child] = []
    for value in plot.y.ticks(about_y):
        top = plot.top(value)
        parts.append(element("line", x1=0, x2="100%", y1=top, y2=top, class_="grid"))
        parts.append(element("text", label_y(value), x=-8, y=top + 4, class_="tick y"))
    bottom = plot.height
    parts.append(element("line", x1=0, x2="100%", y1=bottom, y2=bottom, class_="axis"))
    return element(
        "g", *parts, ticks_x(plot, label_x, name=name_x, about=about_x), aria_hidden="true"
    )


def ticks_x(
    plot: Plot, label: Callable[[float], str], *, name: str = "step", about: int = 6
) -> Element:
    """Return the labels below the plot, with the name of the axis to their left."""
    top = plot.height + 16
    return element(
        "g",
        element("text", name, x=-8, y=top, class_="tick y"),
        *(
            element(
                "text",
                label(value),
                x=plot.left(value),
                y=top,
                # The last label would hang out of a narrow page.
                class_="tick x last" if plot.x.fraction(value) > 0.96 else "tick x",
            )
            for value in plot.x.ticks(about)
        ),
        aria_hidden="true",
    )


def curves(plot: Plot, series: Iterable[Curve]) -> Element:
    """Return the curves, and a dot for every point that has no neighbour to be joined with."""
    paths: list[Child] = []
    dots: list[Child] = []
    for curve in series:
        runs = _unbroken(thinned(curve.points))
        long = [run for run in runs if len(run) > 1]
        if long:
            outline = "".join(_outline(plot, run, is_step=curve.is_step) for run in long)
            paths.append(element("path", d=outline, class_=f"curve {curve.style}"))
        for run in runs:
            if len(run) == 1:
                (x, value), *_ = run
                dots.append(_dot(plot, x, value, curve.style))
    stretched = element(
        "svg",
        *paths,
        viewBox=f"0 0 {_WIDTH} {plot.height}",
        preserveAspectRatio="none",
        width="100%",
        height=plot.height,
    )
    return element("g", stretched, *dots)


def level(plot: Plot, value: float, label: str, style: str, *, is_left: bool = False) -> Element:
    """Return a horizontal line across the plot with its label at one end."""
    top = plot.top(value)
    text_top = top - 5 if top > 16 else top + 13
    end = {"x": 0, "dx": 4} if is_left else {"x": "100%", "dx": -4}
    return element(
        "g",
        element("line", x1=0, x2="100%", y1=top, y2=top),
        element("text", label, y=text_top, class_="start" if is_left else None, **end),
        class_=f"level {style}",
    )


def band(plot: Plot, start: float, end: float, title: str, style: str) -> Element:
    """Return a vertical band from ``start`` to ``end`` that explains itself when pointed at."""
    width = 100 * (plot.x.fraction(end) - plot.x.fraction(start))
    return element(
        "rect",
        element("title", title),
        x=plot.left(start),
        y=0,
        width=f"{width:.2f}%",
        height=plot.height,
        class_=f"band {style}",
    )


def upright(plot: Plot, x: float, style: str) -> Element:
    """Return a vertical line over the height of the plot."""
    left = plot.left(x)
    return element("line", x1=left, x2=left, y1=0, y2=plot.height, class_=style)


def bar(
    plot: Plot, span: tuple[float, float], values: tuple[float, float], title: str, style: str
) -> Element:
    """Return a bar over ``span`` on x, between two ``values`` on y."""
    start, end = (plot.x.fraction(edge) for edge in span)
    bottom, top = (plot.top(value) for value in values)
    return element(
        "rect",
        element("title", title),
        x=f"{100 * start:.2f}%",
        y=top,
        width=f"{100 * (end - start):.2f}%",
        height=bottom - top,
        class_=f"bar {style}",
    )


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Return at most about ``limit`` points that look the same when drawn.

    Of every bucket the first, the lowest, the highest and the last point stay, so that no spike
    disappears; so does one point that interrupts the curve.
    """
    if len(points) <= limit:
        return list(points)
    width = math.ceil(4 * len(points) / limit)
    kept: list[Point] = []
    for start in range(0, len(points), width):
        bucket = points[start : start + width]
        drawn = [i for i, (_, value) in enumerate(bucket) if _is_drawn(value)]
        gap = next((i for i in range(len(bucket)) if not _is_drawn(bucket[i][1])), None)
        chosen = {0, len(bucket) - 1} | ({gap} if gap is not None else set())
        if drawn:
            chosen |= {
                min(drawn, key=lambda i: bucket[i][1] or 0.0),
                max(drawn, key=lambda i: bucket[i][1] or 0.0),
            }
        kept += [bucket[i] for i in sorted(chosen)]
    return kept


def _is_drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _unbroken(points: Iterable[Point]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, value in points:
        if value is not None and math.isfinite(value):
            runs[-1].append((x, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _outline(plot: Plot, run: Sequence[tuple[float, float]], *, is_step: bool) -> str:
    text = ""
    for index, (x, value) in enumerate(run):
        left, top = round(_WIDTH * plot.x.fraction(x), 1), round(plot.top(value), 1)
        if index == 0:
            text += f"M{left:g} {top:g}"
        else:
            text += f"H{left:g}V{top:g}" if is_step else f"L{left:g} {top:g}"
    return text


def _dot(plot: Plot, x: float, value: float, style: str) -> Element:
    return element("circle", cx=plot.left(x), cy=plot.top(value), r=3.5, class_=f"dot {style}")
