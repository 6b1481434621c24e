"""How the run went at a glance, and the facts that a reader may want to look up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from daafl.observability.outcomes import RESULTS, tally, total
from daafl.observability.report.markup import Child, element
from daafl.observability.run import Run
from daafl.observability.totals import Totals
from daafl.observability.units import duration, number, plural, share, size

STATUS_WORDS = {
    "completed": "completed",
    "failed": "failed",
    "stopped": "stopped early",
    "cut off": "cut off",
}


def status(run: Run) -> str:
    """Return the run's status; ``cut off`` when it wrote no summary."""
    return run.summary.status if run.summary else "cut off"


def headline(run: Run) -> Element:
    """Return the title, the status and why the run ended."""
    info = run.info
    ended = run.summary.reason if run.summary else "no summary was written"
    state = status(run)
    return element(
        "header",
        element(
            "h1",
            info.task,
            element("span", STATUS_WORDS[state], class_=f"status {state.replace(' ', '-')}"),
        ),
        element(
            "p",
            f"{plural(info.num_nodes, 'node')}, {info.strategy}, "
            f"{plural(info.num_parameters, 'parameter')}, seed {info.seed}",
        ),
        element("p", f"Nodes trained together: {info.trainer}.") if info.trainer else None,
        element("p", ended, class_=f"ended {state.replace(' ', '-')}") if ended else None,
        *(element("p", note, class_="ended") for note in run.notes),
    )


def tiles(run: Run, figures: Totals) -> Element:
    """Return the figures that sum the run up."""
    summary, info = run.summary, run.info
    counts = tally(figures.decisions)
    judged = ", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result])
    best = f"best {share(figures.best_accuracy)}" if figures.best_accuracy is not None else ""
    if best and figures.best_step is not None:
        best += f" after step {figures.best_step:,}"
    found: list[Child] = [
        _tile("Accuracy", share(figures.accuracy), best or "not measured"),
        _gap(run, figures),
        _tile("Loss", number(figures.loss, 4), "of the final model"),
        _tile("Rounds", f"{figures.rounds:,}", f"of {info.num_rounds:,}"),
        _time(run, figures),
        _tile(
            "Traffic",
            size(figures.bytes_up + figures.bytes_down),
            f"{size(figures.bytes_up)} from nodes, {size(figures.bytes_down)} to nodes",
        ),
        _tile("Decisions", f"{len(figures.decisions):,}", judged or "no loop acted"),
        _tile(
            "Rollbacks and alarms",
            f"{figures.rollbacks:,} and {figures.alarms:,}",
            _flagged(summary.flagged_nodes if summary else ()),
        ),
    ]
    if summary and summary.epsilon is not None:
        spent = f"at δ = {number(summary.delta)}"
        found.append(_tile("Privacy spent", f"ε = {number(summary.epsilon)}", spent))
    return element("div", *found, class_="tiles")


def facts_section(run: Run) -> Element:
    """Return failures and rejections by reason, absent parts and the configuration."""
    failures, rejected = (
        total(step.failures for step in run.steps),
        total(step.rejected for step in run.steps),
    )
    return element(
        "section",
        element("h2", "Facts"),
        element(
            "div",
            _reasons("Failed messages", failures, "No message failed."),
            _reasons("Rejected updates", rejected, "No update was rejected."),
            _absent(run.info.absent),
            class_="triple",
        ),
        element("details", element("summary", "Configuration"), element("pre", run.config))
        if run.config
        else None,
        element("p", _provenance(run), class_="note"),
        id="facts",
    )


def _tile(title: str, value: str, note: str) -> Element:
    return element(
        "div",
        element("span", title, class_="name"),
        element("span", value, class_="value"),
        element("span", note, class_="note"),
        class_="tile",
    )


def _gap(run: Run, figures: Totals) -> Element:
    baseline = run.baseline
    if baseline is None or baseline.accuracy is None:
        return _tile("Gap to centralised", "-", "centralised training was not measured")
    if figures.gap is None:
        return _tile(
            "Gap to centralised", "-", f"{baseline.description}: {share(baseline.accuracy)}"
        )
    points = abs(100 * figures.gap)
    side = "below" if figures.gap >= 0 else "above"
    return _tile(
        "Gap to centralised",
        f"{points:.1f} points {side}",
        f"{share(baseline.accuracy)} by {baseline.description}",
    )


def _time(run: Run, figures: Totals) -> Element:
    if run.summary and run.summary.virtual_seconds is None:
        return _tile("Time", duration(figures.wall_seconds), "real")
    return _tile(
        "Time", duration(figures.wall_seconds), f"{duration(figures.clock_s)} on its clock"
    )


def _flagged(nodes: tuple[int, ...]) -> str:
    if not nodes:
        return "no node flagged"
    shown = ", ".join(map(str, nodes[:8])) + (" …" if len(nodes) > 8 else "")
    return f"flagged: {shown}"


def _reasons(title: str, counts: Counter[str], nothing: str) -> Element:
    rows = [
        element("tr", element("td", reason.replace("_", " ")), element("td", f"{count:,}"))
        for reason, count in counts.most_common()
    ]
    body = element("table", *rows) if rows else element("p", nothing, class_="absent")
    return element("div", element("h3", title), body)


def _absent(parts: Mapping[str, str]) -> Element:
    items = [
        element("p", element("b", name.replace("_", " ")), f": {why}")
        for name, why in parts.items()
    ]
    nothing = element("p", "Every part of the framework could run.", class_="absent")
    return element("div", element("h3", "Parts that did not run"), *(items or [nothing]))


def _provenance(run: Run) -> str:
    header = run.header or {}
    known = [
        f"{words} {header[key]}"
        for key, words in (("version", "daafl"), ("config_hash", "configuration"))
        if isinstance(header.get(key), str)
    ]
    version = [f"daafl {run.summary.version}"] if run.summary and "version" not in header else []
    return ", ".join([f"Run {run.name}", *version, *known])
