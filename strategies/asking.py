"""Questions that are not training: probing learning rates, and evaluating on nodes."""

from __future__ import annotations

from typing import Final

from flwr.app import MessageType, RecordDict

from daafl.errors import MessageError
from daafl.messages import ARRAYS, CONFIG, NUM_EXAMPLES
from daafl.strategies.branch import Branch
from daafl.strategies.collecting import Collector, Tally
from daafl.strategies.exchange import model_record
from daafl.strategies.mailbox import Mailbox, Outgoing
from daafl.strategies.probing import median_log_losses, probe_messages, probed_log_losses
from daafl.strategies.validation import checked_evaluation, finite

PROBE_NODES: Final = 10
MOST_EVALUATING: Final = 4096


def probe(
    branch: Branch,
    collector: Collector,
    mailbox: Mailbox,
    tally: Tally,
    *,
    reply_timeout_s: float,
) -> tuple[float, ...] | None:
    """Return per learning rate the median log loss over a cohort; ``None`` if nobody answered."""
    cohort = collector.cohort(branch, PROBE_NODES, "probe", reply_timeout_s=reply_timeout_s)
    answers = []
    for arrival in mailbox.ask(probe_messages(cohort, branch.packed)):
        if arrival.content is None:
            tally.failures[arrival.error] += 1
            collector.strike(arrival.ticket, arrival.error)
            continue
        try:
            answers.append(probed_log_losses(arrival.content))
        except MessageError as error:
            tally.refuse(error.reason)
            collector.strike(arrival.ticket, error.reason)
    return median_log_losses(answers)


def federated_evaluation(
    branch: Branch,
    collector: Collector,
    mailbox: Mailbox,
    tally: Tally,
    *,
    reply_timeout_s: float,
) -> dict[str, float]:
    """Return the example-weighted mean of what members measure on their own data.

    All of them are asked, or in a larger federation 4,096 that are drawn: of so many, the mean of
    any share is known to within 1.6 percentage points, twice its standard error at most.
    """
    count = min(len(branch.members), MOST_EVALUATING)
    cohort = collector.cohort(branch, count, "evaluate", reply_timeout_s=reply_timeout_s)
    arrays = model_record(branch.packed)
    questions = [
        Outgoing(
            member.ticket,
            member.address,
            MessageType.EVALUATE,
            RecordDict({ARRAYS: arrays, CONFIG: member.assignment.to_record()}),
        )
        for member in cohort
    ]
    reports = []
    for arrival in mailbox.ask(questions):
        if arrival.content is None:
            tally.failures[arrival.error] += 1
            collector.strike(arrival.ticket, arrival.error)
            continue
        try:
            reports.append(checked_evaluation(arrival.content, arrival.ticket.num_examples))
        except MessageError as error:
            tally.refuse(error.reason)
            collector.strike(arrival.ticket, error.reason)
    return _weighted_mean(reports)


def _weighted_mean(reports: list[dict[str, float]]) -> dict[str, float]:
    """Average each metric that most nodes report over them, weighted by their examples.

    What a few nodes report besides is not shown: names, too, come from outside.
    """
    means = {}
    for key in sorted({key for report in reports for key in report} - {NUM_EXAMPLES}):
        having = [report for report in reports if key in report]
        if 2 * len(having) > len(reports):
            total = sum(report[NUM_EXAMPLES] for report in having)
            means[key] = sum(report[key] * (report[NUM_EXAMPLES] / total) for report in having)
    return finite(means)
