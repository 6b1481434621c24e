"""Who was left out: flags, suspicion and quarantine per node over the steps, and the votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from daafl.observability.events import Flag, StepRecord, Vote
from daafl.observability.remarks import node_text, vote_text
from daafl.observability.report.markup import Child, element
from daafl.observability.report.plot import (
    Curve,
    Plot,
    axes,
    canvas,
    curves,
    figure,
    ticks_x,
)
from daafl.observability.report.scale import Scale
from daafl.observability.report.timeline import step_label, steps_axis
from daafl.observability.run import Run
from daafl.observability.screened import NodeRecord, Screened, screened_of
from daafl.observability.units import number, plural

_ROW = 20  # pixels of a node's lane
_MAX_ROWS = 60
_SINGLE, _SUSPECT = 8, 14  # heights of a mark: an update left out alone, and one of a suspect
_VOTES_HEIGHT = 110


def screening_section(run: Run) -> Element | None:
    """Return who was left out, why, and what committees said; ``None`` if nobody looked."""
    found = screened_of(run)
    votes = [(step, step.vote) for step in run.rounds if step.vote is not None]
    if not (found.nodes or votes or found.was_on):
        return None
    return element(
        "section",
        element("h2", "Who was left out"),
        *(element("p", line) for line in _summary(found)),
        element("div", _lanes(run, found), _votes(run, votes), class_="stack")
        if found.nodes or votes
        else None,
        _table(found) if found.nodes else None,
        id="screening",
    )


def _summary(found: Screened) -> list[str]:
    """Return in words how many updates were left out, and how many of them rightly."""
    if not found.was_on and not found.num_flags:
        lines = ["No update was screened in this run."]
    elif found.num_groups:
        lines = [
            f"Screening left out {plural(found.num_groups, 'sum')} of groups. Which member of a "
            "group is to blame is hidden, so nobody came under suspicion."
        ]
    elif not found.num_flags:
        lines = ["Screening left no update out."]
    else:
        senders = plural(sum(bool(node.flags) for node in found.nodes), "node")
        lines = [
            f"Screening left out {plural(found.num_flags, 'update')} of {senders}, of "
            f"{plural(found.num_screened, 'update')} that came in; "
            f"{plural(len(found.suspects), 'node')} came under suspicion."
        ]
    return [*lines, _rightly(found)]


def _rightly(found: Screened) -> str:
    """Return how much of it was right, as far as a simulation tells who was hostile."""
    if found.attackers is None:
        return "Outside a simulation nobody can know which of them were hostile."
    honest = (
        f"Of honest nodes, {plural(found.num_honest_flags, 'update')} were left out wrongly and "
        f"{plural(len(found.accused), 'node')} suspected"
        + (f" ({_names(found.accused)})." if found.accused else ".")
    )
    if not found.attackers:
        return f"The simulation had no hostile node. {honest}"
    attackers = plural(len(found.attackers), "hostile node")
    verb = "was" if len(found.caught) == 1 else "were"
    missed = f", {len(found.missed):,} never ({_names(found.missed)})" if found.missed else ""
    caught = f"The simulation had {attackers}: {len(found.caught):,} {verb} suspected{missed}."
    return f"{caught} {honest}"


def _names(nodes: Sequence[int]) -> str:
    return ", ".join(node_text(node).removeprefix("node ") for node in nodes)


def _lanes(run: Run, found: Screened) -> Element | None:
    """Return a lane per node, with a mark for every update of its that was left out."""
    nodes = found.nodes[:_MAX_ROWS]
    if not nodes:
        return None
    plot = Plot(steps_axis(run), Scale(0, 1), height=_ROW * len(nodes))
    styles = {signal: f"choice-{i % 6}" for i, signal in enumerate(found.signals)}
    rows: list[Child] = []
    for index, node in enumerate(nodes):
        rows += _lane(plot, index, node, styles)
    left = len(found.nodes) - len(nodes)
    note = "a row per node; point at a mark to read why; tall marks are of nodes under suspicion"
    if left:
        note += f"; {left:,} more nodes are only in the table"
    legend = [(signal.replace("_", " "), f"patch {style}") for signal, style in styles.items()]
    if any(node.quarantined for node in nodes):
        legend.append(("in quarantine", "patch quarantine"))
    if any(node.is_attacker for node in nodes):
        legend.append(("hostile in this simulation", "patch hostile"))
    return figure(
        "Updates left out",
        note,
        legend,
        canvas(
            plot,
            f"{plural(found.num_flags, 'update')} left out, by node and step.",
            *rows,
            ticks_x(plot, step_label),
        ),
    )


def _lane(plot: Plot, index: int, node: NodeRecord, styles: dict[str, str]) -> list[Child]:
    top, middle = index * _ROW, index * _ROW + _ROW / 2
    hostile = " hostile" if node.is_attacker else ""
    label = node_text(node.node).removeprefix("node ")
    title = f"node {node.node}" + (", hostile in this simulation" if node.is_attacker else "")
    parts: list[Child] = []
    if node.is_attacker:
        parts.append(
            element("rect", x=0, y=top + 1, width="100%", height=_ROW - 2, class_="hostile lane-of")
        )
    parts += [
        element("line", x1=0, x2="100%", y1=middle, y2=middle, class_="grid"),
        element(
            "text", element("title", title), label, x=-8, y=middle + 4, class_=f"tick y{hostile}"
        ),
    ]
    for first, last in node.quarantined:
        text = f"node {node.node}: no work in steps {first} to {last}"
        parts.append(_mark(plot, (first, last), middle, 3, text, "quarantine"))
    for step, flag in node.flags:
        height = _SUSPECT if flag.is_suspect else _SINGLE
        why = f"step {step}, node {flag.node}: {flag.sentence} (score {number(flag.score)})"
        style = f"{styles[flag.signal]}{'' if flag.is_suspect else ' once'}"
        parts.append(_mark(plot, (step, step), middle, height, why, style))
    return parts


def _mark(
    plot: Plot, steps: tuple[int, int], middle: float, height: float, title: str, style: str
) -> Element:
    start, end = plot.x.fraction(steps[0] - 0.42), plot.x.fraction(steps[1] + 0.42)
    return element(
        "rect",
        element("title", title),
        x=f"{100 * start:.2f}%",
        y=middle - height / 2,
        width=f"{100 * (end - start):.2f}%",
        height=height,
        class_=f"bar {style}",
    )


def _votes(run: Run, votes: Sequence[tuple[StepRecord, Vote]]) -> Element | None:
    """Return the share in favour of every vote beside the share that was needed."""
    if not votes:
        return None
    counts = Counter(vote.outcome for _, vote in votes)
    plot = Plot(steps_axis(run), Scale(-0.04, 1.04), height=_VOTES_HEIGHT)
    needed = Curve(
        "needed", tuple((step.step, vote.threshold) for step, vote in votes), "s5 branch-1",
        is_step=True,
    )  # fmt: skip
    marks = [
        element(
            "circle",
            element("title", f"step {step.step}: {vote_text(vote)}; {vote.seated} were asked"),
            cx=plot.left(step.step),
            cy=plot.top(vote.in_favour / max(vote.in_favour + vote.against, 1)),
            r=4.5,
            class_=f"dot vote {vote.outcome}",
        )
        for step, vote in votes
    ]
    legend = [
        (f"{counts[outcome]:,} {outcome.replace('_', ' ')}", f"verdict vote {outcome}")
        for outcome in ("adopted", "rejected", "no_quorum")
        if counts[outcome]
    ]
    return figure(
        "Committee votes",
        "share in favour of the new model",
        [*legend, ("needed", "s5")],
        canvas(
            plot,
            f"{plural(len(votes), 'vote')}, {counts['rejected']:,} of them against the model.",
            axes(plot, lambda share: f"{100 * share:.0f} %", step_label, about_y=2),
            curves(plot, [needed]),
            *marks,
        ),
    )


def _table(found: Screened) -> Element:
    """Return what was held against every node."""
    heads = ["node"]
    heads += ["was"] if found.attackers is not None else []
    heads += ["left out", "first and last", "suspect since", "signals", "largest score"]
    heads += ["quarantine", "first reason", "last reason"]
    return element(
        "details",
        element("summary", "Reasons, node by node"),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *(element("th", h, scope="col") for h in heads))),
                element("tbody", *(_node_row(node, found) for node in found.nodes)),
                class_="nodes",
            ),
            class_="scroll",
        ),
        open=len(found.nodes) <= 12,
    )


def _node_row(node: NodeRecord, found: Screened) -> Element:
    flags = [flag for _, flag in node.flags]
    signals = Counter(flag.signal.replace("_", " ") for flag in flags)
    cells: list[str] = [str(node.node)]
    if found.attackers is not None:
        cells.append("hostile" if node.is_attacker else "honest")
    since = node.suspect_since
    cells += [
        plural(len(flags), "time"),
        f"{node.flags[0][0]:,} and {node.flags[-1][0]:,}" if flags else "-",
        f"step {since:,}" if since is not None else "never",
        ", ".join(f"{signal} {count}" for signal, count in signals.most_common()) or "-",
        number(max((flag.score for flag in flags), default=None)),
        ", ".join(f"{a} to {b}" if b > a else f"{a}" for a, b in node.quarantined) or "-",
        _sentence(flags[:1]),
        _sentence(flags[1:][-1:]),
    ]
    return element("tr", *(element("td", cell) for cell in cells))


def _sentence(flags: Sequence[Flag]) -> str:
    return flags[0].sentence if flags else "-"
