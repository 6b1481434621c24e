"""The report: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from daafl.observability.report.cost import cost_section
from daafl.observability.report.facts import facts_section, headline, tiles
from daafl.observability.report.guarantees import guarantees_section
from daafl.observability.report.knobs import knobs_section
from daafl.observability.report.lanes import shapes
from daafl.observability.report.learning import learning_section
from daafl.observability.report.ledger import decisions_section, steps_section
from daafl.observability.report.markup import Child, element, html
from daafl.observability.report.probes import probe_section, probes
from daafl.observability.report.screening import screening_section
from daafl.observability.run import Run
from daafl.observability.totals import totals

# Forbids the page every request, so that opening a report from elsewhere reveals nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report_html(run: Run) -> str:
    """Return the report of a run as HTML text."""
    figures = totals(run)
    found = probes(run)
    return document(
        f"{run.info.task}: {run.name}",
        headline(run),
        tiles(run, figures),
        guarantees_section(run),
        learning_section(run, figures.decisions),
        screening_section(run),
        knobs_section(run, found),
        cost_section(run),
        probe_section(found),
        decisions_section(run, figures.decisions),
        facts_section(run),
        steps_section(run),
        script=_shipped("pointer.js"),
    )


def write_report(run: Run, path: Path) -> None:
    """Write the report of a run to ``path``.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    path.write_text(report_html(run), encoding="utf-8")


def document(title: str, *body: Child, script: str = "") -> str:
    """Return a page with the report's style as HTML text.

    Parameters
    ----------
    title
        Of the window.
    body
        What the page shows, in order.
    script
        Text of a script that the page may do without.
    """
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("title", title),
            element("style", _shipped("style.css")),
        ),
        element(
            "body",
            shapes(),
            element("main", *body),
            element("script", script) if script else None,
        ),
        lang="en",
    )
    return "<!doctype html>\n" + html(page) + "\n"


def _shipped(name: str) -> str:
    """Return the text of a file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
