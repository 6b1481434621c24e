"""What the run guarantees, and what has been spent of it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from daafl.observability.events import PrivacySpent
from daafl.observability.report.markup import element
from daafl.observability.run import Run
from daafl.observability.units import plural


def guarantees_section(run: Run) -> Element | None:
    """Return a paragraph for each guarantee; ``None`` for a run without any."""
    if not run.info.guarantees:
        return None
    paragraphs = [element("p", sentence) for sentence in run.info.guarantees]
    spent = run.summary.privacy if run.summary is not None else None
    return element(
        "section",
        element("h2", "What is protected"),
        *paragraphs,
        element("p", spent_text(spent), class_="note") if spent is not None else None,
        id="guarantees",
    )


def spent_text(spent: PrivacySpent) -> str:
    """Return what has been spent, in words.

    Examples
    --------
    >>> spent_text(PrivacySpent("example", 7.9, 6.5, 1e-5, 30, 1))
    'Spent of 30 accounts: epsilon 7.9 at most, 6.5 in the median, delta 1e-05; 1 node spent out.'
    """
    text = (
        f"Spent of {plural(spent.accounts, 'account')}: epsilon {spent.epsilon_spent:.3g} at most, "
        f"{spent.epsilon_median:.3g} in the median, delta {spent.delta:g}"
    )
    text = f"{text}; {plural(spent.nodes_spent_out, 'node')} spent out."
    if spent.unreadable:
        text += f" Not counted: {plural(spent.unreadable, 'ledger')} that cannot be read."
    return text
